"""The stored bytes of each frame, cut from the pixel data of a DICOM dataset."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sono.curation.readers.dicom_header import dicom_errors
from sono.curation.readers.pixel_layout import JPEG_FAMILY, PixelLayout, read_integer
from sono.curation.readers.source import UnreadableError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


Stored = bytes | memoryview  # of one frame
JPEG_2000_START = b"\xff\x4f\xff\x51"
_JPEG_STARTS = (b"\xff\xd8", JPEG_2000_START)  # the first also of JPEG-LS


def split_frames(
    dataset: "Dataset", layout: PixelLayout, compressed: bool
) -> tuple[Sequence[Stored], PixelLayout, list[str]]:
    """The stored bytes of each frame, the layout that these bytes show, and remarks."""
    try:
        data = dataset.PixelData
    except dicom_errors() as error:
        raise UnreadableError("corrupt", "the pixel data cannot be read") from error
    declared = read_integer(dataset, "NumberOfFrames", 1)
    if not isinstance(data, bytes) or not data:
        raise UnreadableError("no_pixels", "the DICOM object has empty pixel data")
    remarks: list[str] = []
    frames: Sequence[Stored]
    if compressed:
        frames = _compressed_frames(data, layout)
    else:
        frames, layout, remarks = _uncompressed_frames(data, layout, max(declared, 1))
    if not frames:
        raise UnreadableError("truncated", "fewer pixel bytes than one frame needs")
    if len(frames) != declared:
        remarks.append("frames_mismatch")
    return frames, layout, remarks


def _uncompressed_frames(
    data: bytes, layout: PixelLayout, declared: int
) -> tuple[Sequence[Stored], PixelLayout, list[str]]:
    """Cut uncompressed data into frames.

    Complete frames beyond the declared number count as frames, other surplus bytes do not.
    """
    full = replace(layout, photometric="YBR_FULL")
    remarks: list[str] = []
    if layout.photometric == "YBR_FULL_422" and 0 <= len(data) - full.frame_bytes * declared <= 1:
        layout, remarks = full, ["pixel_length"]  # declared as 4:2:2, but nothing was left out
    size = layout.frame_bytes
    present, surplus = divmod(len(data), size)
    if surplus > 1 and present >= declared:  # one byte pads to an even length
        present, remarks = declared, ["pixel_length"]
    view = memoryview(data)  # no second copy of a long cine
    return [view[start * size : (start + 1) * size] for start in range(present)], layout, remarks


def _compressed_frames(data: bytes, layout: PixelLayout) -> list[bytes]:
    """Join fragments to frames.

    A frame starts with the start code of its codec; in RLE each fragment is a frame (PS3.5 A.4).
    Offset tables and the declared number are not trusted, because both were seen to be wrong.
    """
    from pydicom.encaps import generate_fragments

    frames: list[list[bytes]] = []
    try:
        fragments = generate_fragments(data)
        next(fragments, None)  # the offset table
        for fragment in fragments:
            if (
                frames
                and layout.syntax.startswith(JPEG_FAMILY)
                and not fragment.startswith(_JPEG_STARTS)
            ):
                frames[-1].append(fragment)
            else:
                frames.append([fragment])
    except dicom_errors() as error:
        if not frames:
            raise UnreadableError(
                "corrupt", "the fragments of the pixel data cannot be separated"
            ) from error
    return [b"".join(parts) for parts in frames]
