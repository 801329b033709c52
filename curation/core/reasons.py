"""Why a frame is not accepted, or is accepted with a remark: codes, status and message."""

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("accepted", "quarantined", "rejected", "error")  # from mild to grave


@dataclass(frozen=True)
class Reason:
    """The status that a code gives a frame, and what the code means.

    The status "accepted" marks a remark that does not exclude the frame.
    """

    status: str
    meaning: str


REASONS = {
    # the file
    "not_a_file": Reason(
        "error", "not a regular file (a pipe, a device or a folder that looks like an image)"
    ),
    "broken_link": Reason("error", "a link whose target is missing, or a loop"),
    "unreadable": Reason("error", "the file could not be read (permission or disk)"),
    "changed_while_read": Reason("error", "the file changed while it was read"),
    "empty_file": Reason("error", "the file has no content"),
    "system_file": Reason("rejected", "a hidden file of the operating system"),
    "not_an_image": Reason("rejected", "not an image or DICOM file"),
    "archive": Reason("rejected", "an archive or compressed file, which is not opened; unpack it"),
    "video": Reason("rejected", "a video file without pictures: it has only sound or text"),
    "volume": Reason(
        "rejected", "a volume or an array that is no series of frames; export its slices"
    ),
    "pixel_data": Reason(
        "rejected", "the pixels of a .mhd or .nhdr file of the same name, which is read with them"
    ),
    "document": Reason("rejected", "a document, which is not read; export its pictures"),
    "truncated": Reason("error", "the file ends too early"),
    "corrupt": Reason("error", "the content contradicts its own checksums or structure"),
    "too_large": Reason("error", "more pixels than the limit allows"),
    "too_small": Reason("rejected", "fewer pixels than an ultrasound frame has"),
    "unsupported": Reason("error", "a pixel format that sono does not read"),
    "archive_member": Reason(
        "error",
        "a member of an archive that is not read: a link, encrypted, or with a name that leaves "
        "the archive or occurs twice",
    ),
    "archive_limit": Reason(
        "error", "an archive or a member of one beyond a limit of number, size or compression"
    ),
    "needs_extra": Reason("error", "a format that is read by an extra which is not installed"),
    "worker_died": Reason("error", "the decoder crashed its process or did not finish"),
    "wrong_extension": Reason("accepted", "the content has another format than the file name"),
    "trailing_data": Reason("accepted", "bytes after the end of the image were dropped"),
    "rotated_by_exif": Reason("accepted", "the picture was turned by its orientation tag"),
    "bit_depth": Reason("accepted", "more than 8 bits per pixel were windowed to 8"),
    "first_frame_only": Reason("accepted", "only the first picture of an animation was read"),
    "video_damaged": Reason(
        "accepted",
        "parts of the video could not be decoded: they and the frames up to the next key frame are "
        "left out",
    ),
    "one_stream_only": Reason("accepted", "only the first video stream of the file was read"),
    # DICOM
    "missing_tag": Reason("error", "a DICOM element that pixels need is missing"),
    "bad_value": Reason("error", "a DICOM element has an impossible value"),
    "no_pixels": Reason("rejected", "a DICOM object without pixels"),
    "structured_report": Reason(
        "rejected", "a report of measurements, which are used for the frames of its study"
    ),
    "needs_plugin": Reason(
        "error", "the compression needs the dicom extra: pip install 'sono[dicom]'"
    ),
    "unsupported_syntax": Reason(
        "error", "a transfer syntax without still frames that sono can read"
    ),
    "too_nested": Reason("error", "sequences nested too deeply"),
    "inflate_limit": Reason("error", "a compressed file that inflates beyond the limit"),
    "no_palette": Reason("error", "palette color without its palette"),
    "frame_corrupt": Reason("error", "this frame of the file could not be decoded"),
    "frames_mismatch": Reason("accepted", "the file has another number of frames than it declares"),
    "frames_limit": Reason(
        "accepted", "more frames than the memory limit allows; the first ones were read"
    ),
    "pixel_length": Reason("accepted", "more pixel bytes than declared; the surplus was dropped"),
    "cine_repeat": Reason(
        "rejected", "almost equal to an earlier frame of the same file, which represents it"
    ),
    "no_preamble": Reason("accepted", "a DICOM file without preamble or meta header"),
    "resampled": Reason("accepted", "the pixels were not square and were resampled to square ones"),
    "aspect_unsure": Reason(
        "accepted",
        "the header contradicts itself on the shape of the pixels: kept as they are, without "
        "spacing",
    ),
    "not_square": Reason(
        "accepted", "the record's spacing differs by axis: the pixels are kept as they are"
    ),
    "not_ultrasound": Reason("quarantined", "the DICOM modality is not ultrasound"),
    # the picture
    "blank": Reason("rejected", "the picture is of one tone"),
    "mask_image": Reason(
        "rejected",
        "a label picture of a few flat tones, not ultrasound; import it with `sono masks import`",
    ),
    "too_dark": Reason("rejected", "almost no echo inside the sector"),
    "too_bright": Reason("rejected", "the sector is overexposed"),
    "clipped": Reason("accepted", "many saturated pixels inside the sector"),
    "low_gain": Reason(
        "accepted", "even the brightest echoes are gray: gain or dynamic range was too low"
    ),
    "shadowed": Reason("accepted", "much of the sector's width has no echoes"),
    "compressed": Reason("accepted", "the blocks of strong JPEG compression are visible"),
    "low_resolution": Reason("accepted", "a thumbnail: the sector has too few pixels"),
    "soft": Reason("accepted", "little fine detail: enlarged, smoothed or a little out of focus"),
    "blurred": Reason("rejected", "no detail inside the sector"),
    "small_sector": Reason("quarantined", "the sector covers little of the frame"),
    "sector_unsure": Reason(
        "accepted", "the border of the sector was not found; the complete frame is kept"
    ),
    "border_unknown": Reason(
        "quarantined",
        "a DICOM or video frame whose sector was not found; it may show a name and date",
    ),
    "doppler": Reason("accepted", "color inside the sector"),
    "overlay": Reason("accepted", "text or calipers inside the sector"),
    "text_in_sector": Reason(
        "quarantined",
        "a line of text on the tissue that may be a name; check it, then `sono quarantine release`",
    ),
    "private_text": Reason(
        "quarantined",
        "words on the tissue match a name, id or date of its file or record; reject the frame, or "
        "release it if the word is not private",
    ),
    "inset": Reason("accepted", "a small second picture in a corner, which is painted over"),
    "text_unsearched": Reason(
        "accepted", 'text on the tissue was not searched for (`[qc] text = "off"`)'
    ),
    "unknown_kind": Reason(
        "accepted", "unlike the fetal frames that sono knows; check whether it is one"
    ),
    "released": Reason("accepted", "a person checked this frame and released it from quarantine"),
    "rejected_by_reviewer": Reason("rejected", "a person checked this frame and rejected it"),
    "wrong_plane": Reason(
        "rejected", "a reviewer: the frame does not show the plane that it is labeled with"
    ),
    "text_visible": Reason("rejected", "a reviewer: readable text on the frame"),
    "not_fetal": Reason("rejected", "a reviewer: the picture shows no fetus"),
    "dual_view": Reason("quarantined", "two views next to each other"),
    "m_mode": Reason("quarantined", "an M-mode strip, which shows one line over time"),
    "spectral_doppler": Reason("quarantined", "a Doppler spectrum over time"),
    "rendering": Reason("quarantined", "colored everywhere, like 3-D renderings (and tinted maps)"),
    "measurement_screen": Reason("quarantined", "a page of measurements without a picture"),
    # the set
    "exact_duplicate": Reason("rejected", "the same pixels as another frame that is kept"),
    "near_duplicate": Reason("accepted", "nearly the same picture as another frame"),
    "duplicate_conflict": Reason(
        "quarantined",
        "the same pixels as another frame, but their records differ (patient, center, plane, age, "
        "findings, ...)",
    ),
    "ga_conflict": Reason(
        "accepted",
        "a date, CRL or HC of the record or a structured report disagrees with the gestational age",
    ),
    "report_conflict": Reason(
        "accepted",
        "a structured report of its study belongs to another person or exam by its header; it is "
        "not applied",
    ),
    "no_record": Reason("accepted", "no row of the records table is known to belong to this file"),
    "record_ambiguous": Reason(
        "accepted", "a row matches this file and others, or several rows match; none is applied"
    ),
    "record_conflict": Reason(
        "accepted",
        "a row names this file, but its patient, center, exam or date differs; it is not applied",
    ),
    "record_differs": Reason(
        "accepted",
        "the record's pixel spacing or machine differs from the header's, which is kept",
    ),
    "exam_undecided": Reason(
        "accepted",
        "no date shows which row belongs to this exam, or the dates of its header differ; values "
        "of that day (age, biometry, ...) stay unknown",
    ),
    "image_undecided": Reason(
        "accepted",
        "a row of the exam fits several images; its plane, side, structures and spacing, which "
        "describe one image, stay unknown",
    ),
}

# Why a frame has no spacing in mm (the column spacing_reason).
SPACING_REASONS = {
    "not_dicom": "a picture file, which holds no spacing",
    "video": "a video, which holds no spacing",
    "no_unit": "no spacing, or a spacing without unit",
    "other_unit": "a spacing in a unit that is no known length, or of several units",
    "default_spacing": "1 mm on both axes, which programs write where the spacing is unknown",
    "no_regions": "no ultrasound region and no PixelSpacing in the header",
    "regions_empty": "an empty list of ultrasound regions and no PixelSpacing",
    "region_not_tissue": "no region shows tissue in two dimensions",
    "region_units": "the units of a tissue region are not centimeters",
    "region_inverted": "a tissue region ends before it begins",
    "region_zero_delta": "a tissue region whose spacing is missing, zero, negative or not a number",
    "region_out_of_bounds": (
        "a region extends beyond the picture, so the picture was scaled afterwards"
    ),
    "regions_differ": "tissue regions of different scales",
    "pixel_spacing": "PixelSpacing that is not two positive numbers",
    "implausible": (
        "outside 0.005 to 2 mm, a tissue region of more than 50 cm, or a picture of more than 1 m"
    ),
    "aspect_differs": (
        "the spacing contradicts PixelAspectRatio, or one axis is over 4 times coarser than the "
        "other"
    ),
}

# Of files that may hold frames and that are not opened.
CONTAINERS = ("archive", "needs_extra", "volume", "document", "unsupported")

# Quarantines that looking at the one picture cannot lift.
NOT_BY_EYE = frozenset({"duplicate_conflict"})

# Remarks that a reviewer may withdraw, and reasons for which one may exclude a frame.
WITHDRAWABLE = (
    "unknown_kind",
    "soft",
    "clipped",
    "low_gain",
    "shadowed",
    "compressed",
    "low_resolution",
    "sector_unsure",
    "doppler",
    "overlay",
)
EXCLUSIONS = (
    "wrong_plane",
    "text_visible",
    "not_fetal",
    "blurred",
    "too_dark",
    "too_bright",
    "dual_view",
    "m_mode",
    "spectral_doppler",
    "rendering",
    "measurement_screen",
    "small_sector",
    *WITHDRAWABLE[1:],
)


def status_of(codes: Iterable[str]) -> str:
    """The gravest status among `codes`; "accepted" if there are none.

    A frame that was quarantined and then released is accepted.
    """
    held = list(codes)
    if "released" in held:
        held = [
            code for code in held if REASONS[code].status != "quarantined" or code in NOT_BY_EYE
        ]
    return max((REASONS[code].status for code in held), key=SEVERITIES.index, default="accepted")


@dataclass(frozen=True)
class Verdict:
    """The outcome of a frame's codes, as the columns status, reasons and message."""

    status: str
    reasons: list[str]
    message: str | None  # None for an accepted frame without remark


def verdict_of(codes: Iterable[str], message: str | None = None) -> Verdict:
    """The verdict on a frame with `codes`; duplicates are dropped and the order is kept.

    The message is `message` if given, otherwise the meaning of the first code with the gravest
    status.
    """
    unique = list(dict.fromkeys(codes))
    status = status_of(unique)
    if not message and status != "accepted":
        message = next(REASONS[code].meaning for code in unique if REASONS[code].status == status)
    return Verdict(status, unique, message or None)
