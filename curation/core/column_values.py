"""The values that the columns of the tables may have: choices, ranges in mm, and patterns."""

from typing import Literal

from sono.curation.core.table_checks import Range

# Plausible values in mm, from the first trimester to term with disease.
RANGES_MM = {
    "bpd": (5.0, 130.0),
    "hc": (20.0, 450.0),
    "ac": (20.0, 480.0),
    "fl": (2.0, 95.0),
    "crl": (2.0, 120.0),
    "nt": (0.3, 20.0),
    "spacing": (0.005, 2.0),
    "row_spacing": (0.005, 2.0),
    "col_spacing": (0.005, 2.0),
}
STATUSES = ("accepted", "rejected", "quarantined", "error")
LATERALITIES = ("left", "right", "both")
# of the mother, coarse so that they identify nobody; the numbers are not kept
BMI_BANDS = ("below 25", "25 to 29.9", "30 and above")
PARITIES = ("nulliparous", "parous")
PRESENTATIONS = ("cephalic", "breech", "transverse")
GA_SOURCES = ("recorded", "due", "lmp", "crl", "hc", "report")
SECTOR_KINDS = ("convex", "phased", "linear", "trapezoid", "full")
SPLITS = ("train", "val", "test")
# on frames: from the quarantine, out of the study, or kept without some of its remarks
DECISIONS = ("released", "rejected", "kept")
MASK_SOURCES = ("manual", "sam", "heuristic", "model", "import", "box")  # a box drawn by a person
MASK_STATES = ("proposed", "accepted", "edited", "rejected")
# of masks that are trained on, unless `mask_states` of [training] differs
TRAINED_STATES: tuple[Literal["accepted", "edited"], ...] = ("accepted", "edited")
MEASURES = ("hc", "bpd", "ofd", "ac", "fl")  # of masks, in mm
LEVELS = ("global", "region")
CAPTION_STATES = ("corrected", "wrong")  # by a reviewer
TIERS = ("full", "partial", "label")
ID_PATTERN = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}"  # may be the name of a file
LINE_PATTERN = r"\PC{1,200}"  # printed letters
DATE_PATTERN = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
SIDE_RANGE: Range = (1, 1 << 20)  # pixels
PLACE_RANGE: Range = (0, 1 << 20)
COUNT_RANGE: Range = (0, 2**31 - 1)
SHARE_RANGE: Range = (0, 1)
IMAGE_RANGES: dict[str, Range] = {
    "frame": COUNT_RANGE,
    "frame_seconds": (0, 24 * 3600),
    "source_frames": COUNT_RANGE,
    "repeats_frame": COUNT_RANGE,
    "ga_days": (28, 315),  # 4 to 45 weeks
    **{f"{name}_mm": RANGES_MM[name] for name in ("bpd", "hc", "ac", "fl", "crl", "nt")},
    **dict.fromkeys(("row_spacing_mm", "col_spacing_mm"), RANGES_MM["spacing"]),
    **dict.fromkeys(("height", "width", "source_height", "source_width"), SIDE_RANGE),
    **dict.fromkeys(("crop_x0", "crop_y0", "crop_x1", "crop_y1"), PLACE_RANGE),
    **dict.fromkeys(
        ("sector_confidence", "sector_fraction", "brightness", "clipped_dark", "clipped_bright"),
        SHARE_RANGE,
    ),
    **dict.fromkeys(("shadow", "doppler", "overlay", "strokes", "known_kind"), SHARE_RANGE),
}
IMAGE_PATTERNS = {
    **dict.fromkeys(
        ("image_id", "source_id", "patient_id", "study_id", "duplicate_group"), ID_PATTERN
    ),
    **dict.fromkeys(("perceptual_hash", "file_sha256"), "[0-9a-f]{64}"),
    "exam_date": DATE_PATTERN,
    # no other place: what the table names is read, and may be exported
    "file": rf"frames/{ID_PATTERN}/{ID_PATTERN}[.]png",
}
