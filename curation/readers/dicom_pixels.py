"""The pixels of a DICOM dataset as 8-bit frames.

Counted from the bytes, decoded when asked for, in true tones.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.geometry import resampled, square_size
from sono.curation.readers.dicom_header import dicom_errors, text_of
from sono.curation.readers.dicom_regions import (
    Spacing,
    is_doubtful,
    read_aspect,
    read_regions,
    read_spacing,
    scaled_region,
)
from sono.curation.readers.images import walk_jpeg
from sono.curation.readers.source import (
    WINDOW_PERCENTILES,
    Frame,
    Limits,
    UltrasoundRegion,
    UnreadableError,
    Values,
    check_size,
    quiet_decoders,
    split_color,
    split_luma,
    to_8_bit,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.pixels.decoders.base import Decoder

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_FAMILY = "1.2.840.10008.1.2.4."
JPEG_BASELINE = JPEG_FAMILY + "50"
# Syntaxes that python-gdcm adds: JPEG extended, lossless (two processes), JPEG-LS (two).
WITH_GDCM = tuple(JPEG_FAMILY + end for end in ("51", "57", "70", "80", "81"))
# Pillow first: it refuses cut data, where GDCM fills the rest of the picture.
PLUGINS = ("pillow", "pydicom", "gdcm")
NO_SPACING = Spacing(None, None, None)
Stored = bytes | memoryview  # of one frame
GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")

_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JPEG_STARTS = (b"\xff\xd8", _JPEG_2000_START)  # the first also of JPEG-LS
_LUMA_CHROMA = ("YBR_FULL", "YBR_FULL_422")
_ADOBE, _NOT_ADOBE = b"\xff\xee\x00\x0eAdobe", b"\xff\xee\x00\x0eadobe"  # start of an APP14 segment
_ADOBE_YCC = 1  # its last byte: the components are luma and chroma


@dataclass(frozen=True)
class PixelLayout:
    """How one frame is stored, checked."""

    rows: int
    columns: int
    samples: int
    bits: int
    bits_stored: int
    signed: bool
    planar: int
    photometric: str
    syntax: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is not compressed; 4:2:2 keeps two values a pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return -(-self.rows * self.columns * samples * self.bits // 8)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the pictures made of a frame: gray, and its colors."""
        return self.rows * self.columns * (1 if self.photometric.startswith("MONOCHROME") else 4)


@dataclass(frozen=True)
class PixelFormat:
    """How the stored bytes of a frame become a picture: all that its frames have in common."""

    layout: PixelLayout
    decoder: "Decoder"
    palette: NDArray[np.uint8] | None  # [values, 3]
    window: tuple[float, float] | None
    spacing: Spacing  # of the picture of `size`, and so are the regions
    regions: tuple[UltrasoundRegion, ...]
    size: tuple[int, int]  # rows and columns once the pixels are square


class StoredFrames(Sequence[Frame]):
    """The frames of a file, each decoded whenever it is asked for.

    A broken one costs only itself.
    """

    def __init__(self, stored: Sequence[Stored], recipe: PixelFormat, first: Frame) -> None:
        self.stored, self.recipe, self.first = stored, recipe, first

    def __len__(self) -> int:
        return len(self.stored)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        """Decode one frame, or those of a slice."""
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        number = range(len(self))[index]
        if number == self.first.index:
            return self.first
        try:
            with quiet_decoders():
                return _frame(number, *_decode(self.stored[number], self.recipe), self.recipe)
        except MemoryError:
            return _black_frame(number, self.recipe)
        except _frame_errors():
            return _black_frame(number, self.recipe)


def read_frames(dataset: "Dataset", limits: Limits) -> tuple[Sequence[Frame], list[str]]:
    """All frames and the remarks on the file.

    Raises UnreadableError where not one can be decoded.
    """
    layout = _layout(dataset)
    check_size(layout.rows, layout.columns, limits)
    decoder = _decoder(layout.syntax)
    palette = _palette(dataset, layout) if layout.photometric == "PALETTE COLOR" else None
    stored, layout, remarks = _stored_frames(dataset, layout, decoder.is_encapsulated)
    recipe = _with_square_pixels(
        dataset, PixelFormat(layout, decoder, palette, None, NO_SPACING, (), (0, 0)), limits
    )
    remarks += ["resampled"] * (recipe.size != (layout.rows, layout.columns))
    remarks += ["aspect_unsure"] * is_doubtful(dataset, recipe.spacing)
    most = max(1, limits.max_decoded_bytes // layout.decoded_bytes)
    if len(stored) > most:
        stored, remarks = stored[:most], [*remarks, "frames_limit"]
    index, values, coding = _first_values(stored, recipe)
    # of the first frame, or a cine would flicker
    if palette is None and (layout.bits != 8 or layout.signed):
        recipe = replace(recipe, window=_window(dataset, values, layout))
    if layout.bits > 8 and palette is None:
        remarks.append("bit_depth")
    return StoredFrames(stored, recipe, _frame(index, values, coding, recipe)), remarks


def _with_square_pixels(dataset: "Dataset", recipe: PixelFormat, limits: Limits) -> PixelFormat:
    """`recipe` with size, spacing and regions as they are once the pixels are square."""
    rows, columns = recipe.layout.rows, recipe.layout.columns
    aspect, spacing = read_aspect(dataset, read_spacing(dataset, rows, columns))
    size = square_size(rows, columns, aspect, limits.max_pixels)
    down, across = size[0] / rows, size[1] / columns
    regions = read_regions(dataset) or ()
    if size != (rows, columns):
        regions = tuple(scaled_region(region, down, across) for region in regions)
        if spacing.row_mm is not None and spacing.column_mm is not None:
            spacing = Spacing(spacing.row_mm / down, spacing.column_mm / across, None)
    return replace(recipe, spacing=spacing, regions=regions, size=size)


def _first_values(stored: Sequence[Stored], recipe: PixelFormat) -> tuple[int, Values, str]:
    """Index, stored values and color coding of the first frame that can be decoded."""
    for index, data in enumerate(stored):
        try:
            return index, *_decode(data, recipe)
        except _frame_errors():
            continue
    raise UnreadableError("frame_corrupt", "no frame of the file could be decoded")


def _integer(dataset: "Dataset", keyword: str, default: int | None = None) -> int:
    """A number of the pixel description; raises missing_tag or bad_value."""
    if keyword not in dataset and default is None:
        raise UnreadableError("missing_tag", f"the DICOM element {keyword} is missing")
    try:
        value = dataset.get(keyword)
        return int(value) if value is not None and value != "" else int(default or 0)
    except dicom_errors() as error:
        raise UnreadableError(
            "bad_value", f"the DICOM element {keyword} is not a number"
        ) from error


def _layout(dataset: "Dataset") -> PixelLayout:
    """The description of the pixels; raises where an element is missing or contradicts another."""
    if "PhotometricInterpretation" not in dataset:
        raise UnreadableError(
            "missing_tag", "the DICOM element PhotometricInterpretation is missing"
        )
    syntax = text_of(dataset.file_meta, "TransferSyntaxUID")
    bits = _integer(dataset, "BitsAllocated")
    layout = PixelLayout(
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
        samples=_integer(dataset, "SamplesPerPixel"),
        bits=bits,
        bits_stored=_integer(dataset, "BitsStored", bits),
        signed=_integer(dataset, "PixelRepresentation", 0) == 1,
        planar=_integer(dataset, "PlanarConfiguration", 0),
        photometric=text_of(dataset, "PhotometricInterpretation").upper(),
        # without a meta header pydicom has found out how the elements are written
        syntax=syntax or (IMPLICIT if dataset.original_encoding[0] else EXPLICIT),
    )
    if layout.photometric not in (*GRAY, *COLOR):
        raise UnreadableError("unsupported", "a photometric interpretation that sono does not read")
    if layout.samples != (1 if layout.photometric in GRAY else 3):
        raise UnreadableError(
            "bad_value", f"{layout.samples} samples a pixel do not fit {layout.photometric}"
        )
    if layout.photometric.startswith("YBR") and layout.bits != 8:
        raise UnreadableError("unsupported", f"{layout.photometric} with {layout.bits} bits")
    allowed = (8, 16) if layout.photometric == "PALETTE COLOR" else (1, 8, 16, 32)
    if layout.bits not in allowed or not 1 <= layout.bits_stored <= layout.bits:
        raise UnreadableError(
            "bad_value", f"{layout.bits_stored} bits stored in {layout.bits} allocated"
        )
    return layout


def _decoder(syntax: str) -> "Decoder":
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder: Decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnreadableError("unsupported_syntax") from error
    if not decoder.is_available:
        raise UnreadableError("needs_plugin" if syntax in WITH_GDCM else "unsupported_syntax")
    return decoder


def _palette(dataset: "Dataset", layout: PixelLayout) -> NDArray[np.uint8]:
    """The colors [values, 3] of all pixel values that the layout can hold."""
    from pydicom.pixels.processing import apply_color_lut

    try:
        values = np.arange(2**layout.bits_stored, dtype=np.uint8 if layout.bits == 8 else np.uint16)
        colors = apply_color_lut(values, dataset)[..., :3]
    except dicom_errors() as error:
        raise UnreadableError("no_palette") from error
    # a palette of 16 bits an entry; some machines fill only the lower 8
    deep = colors.dtype != np.uint8 and int(colors.max()) > 255
    return np.asarray(colors >> 8 if deep else colors, np.uint8)


def _stored_frames(
    dataset: "Dataset", layout: PixelLayout, compressed: bool
) -> tuple[Sequence[Stored], PixelLayout, list[str]]:
    """The stored bytes of each frame that is there, the layout that these bytes show, and
    remarks.
    """
    try:
        data = dataset.PixelData
    except dicom_errors() as error:
        raise UnreadableError("corrupt", "the pixel data cannot be read") from error
    declared = _integer(dataset, "NumberOfFrames", 1)
    if not isinstance(data, bytes) or not data:
        raise UnreadableError("no_pixels", "the DICOM object has empty pixel data")
    remarks: list[str] = []
    frames: Sequence[Stored]
    if compressed:
        frames = _compressed_frames(data, layout)
    else:
        frames, layout, remarks = _plain_frames(data, layout, max(declared, 1))
    if not frames:
        raise UnreadableError("truncated", "fewer pixel bytes than one frame needs")
    if len(frames) != declared:
        remarks.append("frames_mismatch")
    return frames, layout, remarks


def _plain_frames(
    data: bytes, layout: PixelLayout, declared: int
) -> tuple[Sequence[Stored], PixelLayout, list[str]]:
    """Cut uncompressed data into frames.

    Whole frames that nobody declared count, other surplus does not.
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
    """Join fragments to frames: a frame starts with the mark of its codec; in RLE each fragment is
    one (PS3.5 A.4).

    Offset tables and the declared number are not trusted: both were seen to be wrong.
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
                "corrupt", "the fragments of the pixel data cannot be told apart"
            ) from error
    return [b"".join(parts) for parts in frames]


def _frame_errors() -> tuple[type[Exception], ...]:
    return (UnreadableError, *dicom_errors())


def _frame(index: int, values: Values, coding: str, recipe: PixelFormat) -> Frame:
    """The picture of decoded `values`, whose colors are coded as the photometric interpretation
    `coding`.
    """
    layout, spacing = recipe.layout, recipe.spacing
    if recipe.palette is not None:
        values = recipe.palette[np.minimum(values, len(recipe.palette) - 1)]
    deep = values.dtype != np.uint8 or recipe.window is not None
    picture = to_8_bit(values, recipe.window) if deep else np.asarray(values, np.uint8)
    if layout.photometric == "MONOCHROME1":
        picture = 255 - picture
    gray, rgb = split_luma(picture) if coding in _LUMA_CHROMA else split_color(picture)
    gray, rgb = resampled(gray, recipe.size), None if rgb is None else resampled(rgb, recipe.size)
    return Frame(
        index,
        gray,
        rgb,
        spacing.row_mm,
        spacing.column_mm,
        spacing.reason,
        (),
        recipe.regions,
        _file_size(recipe),
    )


def _file_size(recipe: PixelFormat) -> tuple[int, int] | None:
    """Rows and columns in the file, where they were resampled."""
    stored = recipe.layout.rows, recipe.layout.columns
    return None if recipe.size == stored else stored


def _black_frame(index: int, recipe: PixelFormat) -> Frame:
    spacing, black, codes = recipe.spacing, np.zeros(recipe.size, np.uint8), ("frame_corrupt",)
    size = _file_size(recipe)
    return Frame(
        index, black, None, spacing.row_mm, spacing.column_mm, spacing.reason, codes, (), size
    )


def _decode(data: Stored, recipe: PixelFormat) -> tuple[Values, str]:
    """One frame [rows, columns] or [rows, columns, 3] and its photometric interpretation.

    pydicom's conversion to RGB is left out, so that the luma stays as it was stored.
    """
    from pydicom.encaps import encapsulate

    layout, decoder, content = recipe.layout, recipe.decoder, bytes(data)
    _check_stored(content, layout)
    plugin = next((name for name in PLUGINS if name in decoder.available_plugins), "")
    if plugin == "pillow" and layout.bits > 8 and "gdcm" in decoder.available_plugins:
        plugin = "gdcm"  # Pillow reads JPEG with 8 bits only
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits,
        "bits_stored": layout.bits_stored,
        "photometric_interpretation": layout.photometric,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "pixel_keyword": "PixelData",
        "pixel_vr": "OB" if layout.bits <= 8 else "OW",  # only big endian data need it
    }
    stored = encapsulate([_plain_adobe(content)]) if decoder.is_encapsulated else content
    values, facts = decoder.as_array(stored, index=0, raw=True, decoding_plugin=plugin, **options)
    return np.asarray(values), str(facts["photometric_interpretation"])


def _plain_adobe(data: bytes) -> bytes:
    """A JPEG without the mark that makes Pillow convert luma and chroma to RGB, which pydicom
    would do once more.
    """
    place = data.find(_ADOBE, 0, 4096)
    is_ycc = place >= 0 and data[place + 15 : place + 16] == bytes([_ADOBE_YCC])
    return data.replace(_ADOBE, _NOT_ADOBE, 1) if is_ycc else data


def _check_stored(data: bytes, layout: PixelLayout) -> None:
    """Refuse a JPEG frame that is cut, and a picture larger than the header says (a bomb)."""
    limits = Limits(max_pixels=layout.rows * layout.columns)
    if layout.syntax == JPEG_BASELINE:
        walk_jpeg(data, limits)
    if data.startswith(_JPEG_2000_START) and len(data) >= 24:
        x1, y1, x0, y0 = struct.unpack_from(">IIII", data, 8)
        check_size(y1 - y0, x1 - x0, limits)


def _window(dataset: "Dataset", values: Values, layout: PixelLayout) -> tuple[float, float] | None:
    """Stored values that become black and white: the first VOI window (PS3.3 C.11.2.1.2), or None.

    Percentiles.
    """
    if layout.bits == 1:
        return 0.0, 1.0
    try:
        center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
        slope, intercept = (
            _first(dataset.get("RescaleSlope", 1)),
            _first(dataset.get("RescaleIntercept", 0)),
        )
    except dicom_errors():
        center = width = float("nan")
    if width > 1 and slope > 0:
        edges = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
        return (edges[0] - intercept) / slope, (edges[1] - intercept) / slope
    low, high = np.percentile(values, WINDOW_PERCENTILES)
    return float(low), float(high)


def _first(value: object) -> float:
    """The first of one or several numbers."""
    from pydicom.multival import MultiValue

    return float(str(value[0] if isinstance(value, MultiValue) else value))
