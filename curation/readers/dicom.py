"""DICOM bytes as gray frames and header facts.

pydicom parses the syntax; this module handles broken and hostile files.
"""

import io
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from sono.curation.readers.dicom_header import dicom_errors, elements, read_header, text_of
from sono.curation.readers.dicom_pixels import read_frames
from sono.curation.readers.dicom_sr import is_report, read_report
from sono.curation.readers.source import (
    DEFAULT_LIMITS,
    Header,
    Limits,
    ReadResult,
    UnreadableError,
    failed,
    quiet_decoders,
    succeeded,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT = "1.2.840.10008.1.2.1"

_LONG_VRS = (
    b"OB",
    b"OD",
    b"OF",
    b"OL",
    b"OV",
    b"OW",
    b"SQ",
    b"SV",
    b"UC",
    b"UN",
    b"UR",
    b"UT",
    b"UV",
)
_UNENDED_PIXELS = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"  # PixelData OB of undefined length
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_CHUNK_BYTES = 1 << 20
_FARTHEST_MARK = 1 << 16  # bytes before it that a device may have written


def is_dicom(content: bytes) -> bool:
    """Whether the DICM prefix follows the preamble."""
    return content[128:132] == b"DICM"


def looks_like_dataset(content: bytes) -> bool:
    """Whether bytes without preamble begin like the first element of a dataset (group 2 or 8)."""
    if len(content) < 16:
        return False
    group, element = struct.unpack_from("<HH", content)
    if group not in (2, 8) or element > 0x0100:
        return False
    explicit = content[4:6].isalpha() and content[4:6].isupper()
    return explicit or int.from_bytes(content[4:8], "little") < min(len(content), 1024)


def from_mark(content: bytes) -> bytes:
    """The bytes from the DICM prefix of a file whose preamble is missing, cut or too long.

    All bytes if no prefix is near the start.
    """
    place = content.find(b"DICM\x02\x00", 0, _FARTHEST_MARK)
    return content if place < 0 else content[place + 4 :]


def read_dicom(content: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadResult:
    """Read a DICOM file.

    A broken one gives a result without frames, with what its header contains.
    """
    header, cut = Header(), False
    with quiet_decoders():
        try:
            dataset, cut = _parse(content, limits)
            header = read_header(dataset, content[:128] if is_dicom(content) else b"")
            if is_report(dataset):
                return replace(
                    failed(UnreadableError("structured_report"), header),
                    report=read_report(dataset),
                )
            if "PixelData" not in dataset:
                raise _missing_pixels(dataset)
            frames, remarks = read_frames(dataset, limits)
            return succeeded(frames, [*_remarks(dataset, content), *remarks], header)
        except UnreadableError as error:
            return failed(
                UnreadableError("truncated") if cut and error.code == "frame_corrupt" else error,
                header,
            )
        except MemoryError:
            return failed(
                UnreadableError("too_large", "this file does not fit into memory"), header
            )


def read_ids(content: bytes, limits: Limits = DEFAULT_LIMITS) -> Header | None:
    """The header alone, without decoding pixels.

    An empty header if the file is broken, None if it has no frames.
    """
    with quiet_decoders():
        try:
            dataset = _parse(content, limits)[0]
            if is_report(dataset) or (
                "PixelData" not in dataset and _missing_pixels(dataset).code == "no_pixels"
            ):
                return None
            return read_header(dataset, b"")
        except (UnreadableError, MemoryError):
            return Header()


def _parse(content: bytes, limits: Limits) -> tuple["Dataset", bool]:
    """The dataset, and whether its compressed pixels were truncated.

    Raises UnreadableError if it is nested too deeply or is not DICOM.
    """
    bare = not is_dicom(content)
    try:
        dataset, cut = _read_dataset(content if bare else _inflated(content, limits), bare)
        depth = max((depth for depth, _ in elements(dataset, limits.max_nesting + 1)), default=0)
    except RecursionError as error:
        raise UnreadableError("too_nested") from error
    except dicom_errors() as error:
        raise UnreadableError("not_an_image" if bare else "corrupt") from error
    if depth > limits.max_nesting:
        raise UnreadableError(
            "too_nested", f"sequences nested deeper than {limits.max_nesting} levels"
        )
    if bare and not ("SOPClassUID" in dataset or "Rows" in dataset):
        raise UnreadableError("not_an_image")
    return dataset, cut


def _read_dataset(content: bytes, bare: bool) -> tuple["Dataset", bool]:
    """Parse with pydicom up to zeros, which a copy that was broken off leaves.

    It gives up on compressed pixels without an end, so an end is added after the frames before it.
    """
    from pydicom.filereader import read_partial

    start = 0 if bare else _meta(content)[1]
    if content[start : start + 8] == bytes(8):
        raise UnreadableError("truncated", "zeros in place of the dataset; copy the file again")
    dataset: Dataset = read_partial(io.BytesIO(content), _is_empty, force=bare)
    cut = "PixelData" not in dataset and _UNENDED_PIXELS in content
    return (
        (read_partial(io.BytesIO(content + _SEQUENCE_END), _is_empty, force=bare), True)
        if cut
        else (dataset, False)
    )


def _is_empty(tag: int, _: str | None, length: int) -> bool:
    """Whether an element is of zeros alone; pydicom would read each eight bytes as one."""
    return tag == 0 and length == 0


def _remarks(dataset: "Dataset", content: bytes) -> list[str]:
    remarks = {"no_preamble": not is_dicom(content), "not_ultrasound": not _is_ultrasound(dataset)}
    return [code for code, holds in remarks.items() if holds]


def _is_ultrasound(dataset: "Dataset") -> bool:
    modality = text_of(dataset, "Modality").upper()
    return modality == "US" or (not modality and "Ultrasound" in _storage_class(dataset))


def _storage_class(dataset: "Dataset") -> str:
    from pydicom.uid import UID

    return UID(text_of(dataset, "SOPClassUID"), validation_mode=0).name


def _inflated(content: bytes, limits: Limits) -> bytes:
    """The file itself, or its uncompressed form if its dataset is deflated.

    The size is limited, which pydicom does not do.
    """
    syntax, start = _meta(content)
    if syntax != DEFLATED:
        return content
    try:
        _check_inflated_size(content[start:], limits.max_inflated_bytes)
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:])
    except zlib.error as error:
        raise UnreadableError("corrupt", "the deflated dataset cannot be inflated") from error
    value = EXPLICIT.encode() + b"\0"
    return b"".join(
        (content[:132], struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)), value, plain)
    )


def _check_inflated_size(deflated: bytes, limit: int) -> None:
    """Count the inflated bytes first, so that a zip bomb is never held in memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, deflated
    while rest and not inflater.eof:
        total += len(inflater.decompress(rest, _CHUNK_BYTES))
        rest = inflater.unconsumed_tail
        if total > limit:
            raise UnreadableError(
                "inflate_limit", f"the dataset inflates to more than {limit} bytes"
            )
    if not inflater.eof and inflater.decompress(b"", 1) == b"" and not inflater.eof:
        raise UnreadableError("truncated")


def _meta(content: bytes) -> tuple[str, int]:
    """Transfer syntax in the file meta group ("" if none), and the offset of the dataset."""
    syntax, position = "", 132
    while position + 12 <= len(content) and content[position : position + 2] == b"\x02\x00":
        element, kind, length = struct.unpack_from("<H2sH", content, position + 2)
        start = position + 8
        if kind in _LONG_VRS:
            length, start = struct.unpack_from("<I", content, position + 8)[0], position + 12
        if element == 0x10:
            syntax = content[start : start + length].rstrip(b"\0 ").decode("ascii", "replace")
        position = start + length
    return syntax, position


def _missing_pixels(dataset: "Dataset") -> UnreadableError:
    """The error for an object without pixels or a truncated header; pydicom accepts both."""
    expects_pixels = "Image Storage" in _storage_class(dataset) and "Rows" not in dataset
    if _is_cut(dataset) or expects_pixels or not dataset:
        return UnreadableError("truncated", "the file ends before its pixels do")
    return UnreadableError("no_pixels")


def _is_cut(dataset: "Dataset") -> bool:
    """Whether the last element is shorter than it declares."""
    last = dataset.get_item(max(dataset.keys())) if dataset else None
    length, value = getattr(last, "length", 0), getattr(last, "value", None)
    return isinstance(value, bytes) and length != 0xFFFFFFFF and len(value) < length
