"""The headers of MetaImage, NRRD and NIfTI files: axes, number type, spacing, private texts.

Pixels are in the file itself or given as the content of another one. Sizes are checked against
the bytes before anything is built from them.
"""

import math
import re
import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np

from sono.curation.readers.detached import HEADER_BYTES, META_END, written_name
from sono.curation.readers.gzip_stream import gzip_texts
from sono.curation.readers.source import Limits, UnreadableError, clean_texts, readable, text_runs

# What an axis is. Axes of one element are left out.
X, Y, COLOR, TIME, UNKNOWN = "x", "y", "color", "time", "unknown"

ELSEWHERE = "its pixels are in another file; save it as one .mha, .nrrd or .nii file"
_MOST_AXES = 7
# Units of length in mm.
_MM = dict.fromkeys(("mm", "millimeter", "millimeters"), 1.0)
_MM |= dict.fromkeys(("cm", "centimeter", "centimeters"), 10.0)
_MM |= dict.fromkeys(("m", "meter", "meters"), 1000.0)
_MM |= dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer"), 1e-3)
_NO_UNIT = ("", "?", "???", "unknown", "none", "pixel", "pixels")
_MAX_STEP = 60.0  # seconds between two frames

_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
}  # fmt: skip
_NRRD_TYPES = {
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i1": ("signed char", "int8", "int8_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
}
_NRRD_COLORS = ("rgb-color", "rgba-color", "3-color", "4-color", "vector")
_NRRD_SERIES = ("time", "list")
_NIFTI_TYPES = {
    2: "u1", 128: "u1", 2304: "u1", 256: "i1", 512: "u2", 4: "i2", 768: "u4", 8: "i4",
}  # fmt: skip
# Of each version: bytes of the header; texts in it; places of sizes, type of numbers, spacing,
# place of the pixels, slope and units.
_NIFTI_1 = (
    352,
    ((4, 32), (148, 252), (328, 344)),
    ((40, "8h"), (70, "h"), (76, "8f"), (108, "f"), (112, "f"), (123, "B")),
)
_NIFTI_2 = (
    544,
    ((240, 344), (508, 524), (525, 540)),
    ((16, "8q"), (12, "h"), (104, "8d"), (168, "q"), (176, "d"), (500, "i")),
)
_NIFTI_AXES = (X, Y, UNKNOWN, TIME, COLOR, UNKNOWN, UNKNOWN)
_NIFTI_COLORS = {128: 3, 2304: 4}
_NIFTI_LENGTHS = {0: "", 1: "m", 2: "mm", 3: "um"}
_NIFTI_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}


@dataclass(frozen=True)
class Volume:
    """An array in a file: its axes from the fastest to the slowest, and its bytes.

    `spacing_mm` is that of x and y, None if it is unknown for `spacing_reason`. `step_seconds` is
    the time between two frames.
    """

    axes: tuple[tuple[str, int], ...]
    dtype: np.dtype[np.generic]
    data: memoryview
    spacing_mm: tuple[float, float] | None = None
    spacing_reason: str = "no_unit"
    private: tuple[str, ...] = ()
    step_seconds: float | None = None


def read_meta_image(content: bytes, limits: Limits, pixels: bytes | None = None) -> Volume:
    """The array of a MetaImage file, or of a header and its `pixels`.

    Lengths without a unit are in mm, as ITK has it.
    """
    end = META_END.search(content, 0, HEADER_BYTES)
    if end is None:
        raise UnreadableError("truncated", "the header has no end (ElementDataFile)")
    if end[1].strip() != b"LOCAL" and pixels is None:
        raise UnreadableError("volume", f"MetaImage file: {ELSEWHERE}")
    lines = map(readable, content[: end.start()].splitlines())
    pairs = [(name.strip(), value.strip()) for name, _, value in (x.partition("=") for x in lines)]
    fields = dict(reversed(pairs))  # the first of each name
    sizes = _sizes(fields.get("DimSize", "").split(), fields.get("NDims", ""))
    channels = _integer(fields.get("ElementNumberOfChannels", "1"))
    kinds = fields.get("Kinds", "").split()
    is_series = any(name.startswith("Seq_Frame") for name in fields) or kinds[2:] in (
        ["list"],
        ["time"],
    )
    axes = [*([(COLOR, channels)] if channels != 1 else []), *_plain_axes(sizes, is_series)]
    name = fields.get("ElementType", "").removesuffix("_ARRAY")
    most = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = _number_type(_META_TYPES.get(name), most.lower() == "true")
    if fields.get("BinaryData", "True").lower() != "true":
        raise UnreadableError("unsupported", "pixels written as text; save it as binary")
    if fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise UnreadableError("unsupported", "a second header before the pixels (HeaderSize)")
    data = memoryview(content)[end.end() :] if pixels is None else memoryview(pixels)
    if fields.get("CompressedData", "False").lower() == "true":
        size = _count(axes, dtype, limits)
        data = memoryview(inflated(data, size, zlib.MAX_WBITS, whole=pixels is not None))
    spacing = fields.get("ElementSpacing", fields.get("ElementSize", "")).split()
    volume = _volume(axes, dtype, data, limits, exact=pixels is not None)
    return _spaced(volume, _pair(spacing), fields.get("DistanceUnits", "mm"))


def read_nrrd(content: bytes, limits: Limits, pixels: bytes | None = None) -> Volume:
    """The array of an NRRD file, or of a header and its `pixels`.

    Lengths are in the unit of the header, or in mm if it gives a space of the patient, as 3D Slicer
    has it.
    """
    head, blank, _ = content[:HEADER_BYTES].replace(b"\r\n", b"\n").partition(b"\n\n")
    start = _end_of_blank_line(content)
    if pixels is None and (not blank or start is None):
        raise UnreadableError("truncated", "the header has no end (a blank line)")
    lines = [readable(line) for line in head.split(b"\n")[1:]]
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(": ")
        if colon and not line.startswith("#"):
            fields.setdefault(name.lower().replace(" ", ""), value.strip())
    if pixels is None and written_name(content) is not None:
        raise UnreadableError("volume", f"NRRD volume: {ELSEWHERE}")
    sizes = _sizes(fields.get("sizes", "").split(), fields.get("dimension", ""))
    axes = _nrrd_axes(sizes, fields.get("kinds", "").lower().split())
    known = fields.get("type", "").lower()
    code = next((code for code, names in _NRRD_TYPES.items() if known in names), None)
    dtype = _number_type(code, fields.get("endian", "little").lower() == "big")
    data = memoryview(content)[start:] if pixels is None else memoryview(pixels)
    encoding = fields.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        size = _count(axes, dtype, limits)
        data = memoryview(inflated(data, size, 31, whole=pixels is not None))
    elif encoding != "raw" or fields.keys() & {"lineskip", "byteskip"}:
        raise UnreadableError("unsupported", "save it with the encoding raw or gzip")
    roles = [role for role, _ in axes]
    spacing, unit = _nrrd_spacing(fields, roles), _nrrd_unit(fields, roles)
    volume = _volume(axes, dtype, data, limits, exact=pixels is not None)
    return _spaced(volume, spacing, unit)


def read_nifti(content: bytes, limits: Limits, pixels: bytes | None = None) -> Volume:
    """The array of a NIfTI file, perhaps in gzip; a fourth axis is time.

    Other files with its `pixels` are not read.
    """
    packed_texts: list[str] = []
    if content.startswith(b"\x1f\x8b"):
        packed_texts = gzip_texts(content[:HEADER_BYTES])
        content = inflated(memoryview(content), limits.max_inflated_bytes, 31, exact=False)
    order = "<" if content[:4] in (b"\x5c\1\0\0", b"\x1c\2\0\0") else ">"
    is_new = content[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c")
    if content[344:347] == b"ni1" or (is_new and content[4:7] == b"ni2"):
        raise UnreadableError("volume", f"NIfTI volume: {ELSEWHERE}")
    header_bytes, texts, places = _NIFTI_2 if is_new else _NIFTI_1
    try:
        sizes, (kind,), steps, (start,), (slope,), (units,) = (
            struct.unpack_from(order + form, content, place) for place, form in places
        )
        start = int(start)
    except (struct.error, ValueError, OverflowError) as error:
        raise UnreadableError("truncated", "the header ends too early") from error
    if not 1 <= sizes[0] <= _MOST_AXES or min(sizes[1 : sizes[0] + 1]) < 1:
        raise UnreadableError("bad_value", "the header has impossible sizes")
    if not header_bytes <= start <= len(content):
        raise UnreadableError("bad_value", "the header has an impossible place of the pixels")
    if slope < 0:
        raise UnreadableError("unsupported", "inverted values (scl_slope); save it without")
    axes = list(zip(_NIFTI_AXES, sizes[1 : sizes[0] + 1], strict=False))
    if kind in _NIFTI_COLORS:
        axes.insert(0, (COLOR, _NIFTI_COLORS[kind]))
    step = abs(steps[4]) * _NIFTI_SECONDS.get(units & 0x38, 0)
    parts = (*(content[slice(*place)] for place in texts), content[header_bytes:start])
    dtype = _number_type(_NIFTI_TYPES.get(kind), order == ">")
    volume = _volume(axes, dtype, memoryview(content)[start:], limits)
    unit = _NIFTI_LENGTHS.get(units & 7, "other")
    return replace(
        _spaced(volume, (abs(steps[1]), abs(steps[2])), unit),
        private=clean_texts([*packed_texts, *(run for part in parts for run in text_runs(part))]),
        step_seconds=step if 0 < step < _MAX_STEP else None,
    )


def inflated(
    data: memoryview, size: int, window: int, exact: bool = True, whole: bool = False
) -> bytes:
    """`data` inflated to `size` bytes; with `exact`, fewer are an error.

    With `whole`, so are bytes after the compressed ones.

    Raises UnreadableError for damaged data, and for more than `size` bytes.
    """
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise UnreadableError("corrupt", "the compressed pixels are damaged") from error
    if len(plain) > size:
        raise UnreadableError("inflate_limit")
    if not inflater.eof or (exact and len(plain) < size):
        raise UnreadableError("truncated", "the compressed pixels end too early")
    if whole and inflater.unused_data:
        raise UnreadableError("bad_value", "there are bytes after the compressed pixels")
    return plain


def _end_of_blank_line(content: bytes) -> int | None:
    found = re.compile(rb"\r?\n\r?\n").search(content, 0, HEADER_BYTES)
    return found.end() if found else None


def _sizes(written: list[str], dimension: str) -> list[int]:
    sizes = [_integer(one) for one in written]
    if not 1 <= len(sizes) <= _MOST_AXES or len(sizes) != _integer(dimension) or min(sizes) < 1:
        raise UnreadableError("bad_value", "the header has impossible sizes")
    return sizes


def _integer(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UnreadableError("bad_value", "a size in the header is not a number")
    return int(text)


def _plain_axes(sizes: list[int], is_series: bool) -> list[tuple[str, int]]:
    """The axes of a format that does not name them; of more than two, the header must be asked."""
    roles = [X, Y, TIME if is_series else UNKNOWN, TIME if sizes[2:3] == [1] else UNKNOWN]
    return list(zip([*roles, *[UNKNOWN] * 3], sizes, strict=False))


def _nrrd_axes(sizes: list[int], kinds: list[str]) -> list[tuple[str, int]]:
    if len(kinds) != len(sizes):
        return _plain_axes(sizes, False)
    roles: list[str] = []
    for kind, size in zip(kinds, sizes, strict=True):
        if kind in _NRRD_COLORS and size in (3, 4):
            roles.append(COLOR)
        elif kind in _NRRD_SERIES:
            roles.append(TIME)
        elif size == 1 and X in roles:
            roles.append(UNKNOWN)
        else:
            roles.append(X if X not in roles else Y if Y not in roles else UNKNOWN)
    return list(zip(roles, sizes, strict=True))


def _nrrd_unit(fields: dict[str, str], roles: list[str]) -> str:
    """The unit of the axes x and y; several are joined, which is none that is known."""
    of_space = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    of_axes = re.findall(r'"([^"]*)"', fields.get("units", ""))
    if len(of_axes) == len(roles):
        of_axes = [unit for unit, role in zip(of_axes, roles, strict=True) if role in (X, Y)]
    units = {unit.strip().lower() for unit in of_space or of_axes} - {""}
    return " ".join(sorted(units)) or ("mm" if "-" in fields.get("space", "") else "")


def _spaced(volume: Volume, spacing: tuple[float, float] | None, unit: str) -> Volume:
    """The volume with its spacing in mm, or with the reason why it is unknown."""
    written = unit.strip().lower()
    if spacing is None or written in _NO_UNIT:
        return volume
    if written not in _MM:
        return replace(volume, spacing_reason="other_unit")
    return replace(volume, spacing_mm=(spacing[0] * _MM[written], spacing[1] * _MM[written]))


def _nrrd_spacing(fields: dict[str, str], roles: list[str]) -> tuple[float, float] | None:
    if "spacedirections" in fields:
        vectors = re.findall(r"none|\([^)]*\)", fields["spacedirections"])
        steps = [_length(one) for one in vectors]
    else:
        steps = [
            float("nan") if not _is_float(x) else float(x)
            for x in fields.get("spacings", "").split()
        ]
    if len(steps) != len(roles) or not {X, Y} <= set(roles):
        return None
    return abs(steps[roles.index(X)]), abs(steps[roles.index(Y)])


def _length(vector: str) -> float:
    parts = vector.strip("()").split(",")
    return math.hypot(*map(float, parts)) if all(map(_is_float, parts)) else math.nan


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pair(written: list[str]) -> tuple[float, float] | None:
    return (
        (float(written[0]), float(written[1]))
        if len(written) > 1 and all(map(_is_float, written[:2]))
        else None
    )


def _number_type(code: str | None, is_big_endian: bool) -> np.dtype[np.generic]:
    if code is None:
        raise UnreadableError(
            "unsupported", "fractions or an unknown type of numbers; save it with 8 or 16 bits"
        )
    return np.dtype((">" if is_big_endian else "<") + code)


def _count(axes: list[tuple[str, int]], dtype: np.dtype[np.generic], limits: Limits) -> int:
    """The bytes of an array; refuses one that does not fit into memory."""
    size = math.prod(size for _, size in axes) * dtype.itemsize
    if size > limits.max_inflated_bytes:
        raise UnreadableError(
            "too_large", f"an array of {size} bytes; the limit is {limits.max_inflated_bytes} bytes"
        )
    return size


def _volume(
    axes: list[tuple[str, int]],
    dtype: np.dtype[np.generic],
    data: memoryview,
    limits: Limits,
    exact: bool = False,
) -> Volume:
    """The array; fewer bytes are refused, with `exact` also more."""
    size = _count(axes, dtype, limits)
    if len(data) < size:
        raise UnreadableError("truncated", "fewer pixel bytes than the header declares")
    if exact and len(data) > size:
        raise UnreadableError(
            "bad_value", f"{len(data)} bytes of pixels, but the header declares {size}"
        )
    return Volume(tuple((role, one) for role, one in axes if one > 1), dtype, data[:size])
