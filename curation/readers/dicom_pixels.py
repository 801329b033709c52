"""The pixels of a DICOM dataset as 8-bit frames, decoded on demand.

Frames are counted from the stored bytes, not from the header.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.geometry import resampled, square_size
from sono.curation.readers.dicom_header import dicom_errors
from sono.curation.readers.dicom_regions import (
    Spacing,
    is_doubtful,
    read_aspect,
    read_regions,
    read_spacing,
    scaled_region,
)
from sono.curation.readers.pixel_data import JPEG_2000_START, Stored, split_frames
from sono.curation.readers.pixel_layout import (
    JPEG_BASELINE,
    PixelLayout,
    find_decoder,
    read_layout,
    read_palette,
)
from sono.curation.readers.png_jpeg import walk_jpeg
from sono.curation.readers.source import (
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
    window_of,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.pixels.decoders.base import Decoder

# Pillow first: it refuses cut data, where GDCM fills the rest of the picture.
PLUGINS = ("pillow", "pydicom", "gdcm")
NO_SPACING = Spacing(None, None, None)

_LUMA_CHROMA = ("YBR_FULL", "YBR_FULL_422")
_ADOBE, _NOT_ADOBE = b"\xff\xee\x00\x0eAdobe", b"\xff\xee\x00\x0eadobe"  # start of an APP14 segment
_ADOBE_YCC = 1  # its last byte: the components are luma and chroma


@dataclass(frozen=True)
class PixelFormat:
    """How the stored bytes of a frame become a picture; common to all frames of a file."""

    layout: PixelLayout
    decoder: "Decoder"
    palette: NDArray[np.uint8] | None  # [values, 3]
    window: tuple[float, float] | None
    spacing: Spacing  # of the picture of `size`, and so are the regions
    regions: tuple[UltrasoundRegion, ...]
    size: tuple[int, int]  # rows and columns once the pixels are square
    frame_seconds: float | None = None  # between two frames


class StoredFrames(Sequence[Frame]):
    """The frames of a file, each decoded when it is accessed.

    A broken frame does not affect the others.
    """

    def __init__(self, stored: Sequence[Stored], pixel_format: PixelFormat, first: Frame) -> None:
        self.stored, self.pixel_format, self.first = stored, pixel_format, first

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
                return _frame(
                    number, *_decode(self.stored[number], self.pixel_format), self.pixel_format
                )
        except MemoryError:
            return _black_frame(number, self.pixel_format)
        except _frame_errors():
            return _black_frame(number, self.pixel_format)


def read_frames(dataset: "Dataset", limits: Limits) -> tuple[Sequence[Frame], list[str]]:
    """All frames and the remarks on the file.

    Raises UnreadableError if none of them can be decoded.
    """
    layout = read_layout(dataset)
    check_size(layout.rows, layout.columns, limits)
    decoder = find_decoder(layout.syntax)
    palette = read_palette(dataset, layout) if layout.photometric == "PALETTE COLOR" else None
    stored, layout, remarks = split_frames(dataset, layout, decoder.is_encapsulated)
    pixel_format = _with_square_pixels(
        dataset, PixelFormat(layout, decoder, palette, None, NO_SPACING, (), (0, 0)), limits
    )
    if len(stored) > 1:
        pixel_format = replace(pixel_format, frame_seconds=_frame_seconds(dataset))
    remarks += ["resampled"] * (pixel_format.size != (layout.rows, layout.columns))
    remarks += ["aspect_unsure"] * is_doubtful(dataset, pixel_format.spacing)
    most = max(1, limits.max_decoded_bytes // layout.decoded_bytes)
    if len(stored) > most:
        stored, remarks = stored[:most], [*remarks, "frames_limit"]
    index, values, coding = _first_values(stored, pixel_format)
    # of the first frame, or a cine would flicker
    if palette is None and (layout.bits != 8 or layout.signed):
        pixel_format = replace(pixel_format, window=_window(dataset, values, layout))
    if layout.bits > 8 and palette is None:
        remarks.append("bit_depth")
    return StoredFrames(stored, pixel_format, _frame(index, values, coding, pixel_format)), remarks


def _with_square_pixels(
    dataset: "Dataset", pixel_format: PixelFormat, limits: Limits
) -> PixelFormat:
    """`pixel_format` with the size, spacing and regions that apply once the pixels are square."""
    rows, columns = pixel_format.layout.rows, pixel_format.layout.columns
    aspect, spacing = read_aspect(dataset, read_spacing(dataset, rows, columns))
    size = square_size(rows, columns, aspect, limits.max_pixels)
    down, across = size[0] / rows, size[1] / columns
    regions = read_regions(dataset) or ()
    if size != (rows, columns):
        regions = tuple(scaled_region(region, down, across) for region in regions)
        if spacing.row_mm is not None and spacing.column_mm is not None:
            spacing = Spacing(spacing.row_mm / down, spacing.column_mm / across, None)
    return replace(pixel_format, spacing=spacing, regions=regions, size=size)


def _first_values(stored: Sequence[Stored], pixel_format: PixelFormat) -> tuple[int, Values, str]:
    """Index, stored values and color coding of the first frame that can be decoded."""
    for index, data in enumerate(stored):
        try:
            return index, *_decode(data, pixel_format)
        except _frame_errors():
            continue
    raise UnreadableError("frame_corrupt", "no frame of the file could be decoded")


def _frame_errors() -> tuple[type[Exception], ...]:
    return (UnreadableError, *dicom_errors())


def _frame(index: int, values: Values, coding: str, pixel_format: PixelFormat) -> Frame:
    """The frame of decoded `values`, whose colors have the photometric interpretation `coding`."""
    layout, spacing = pixel_format.layout, pixel_format.spacing
    if pixel_format.palette is not None:
        values = pixel_format.palette[np.minimum(values, len(pixel_format.palette) - 1)]
    deep = values.dtype != np.uint8 or pixel_format.window is not None
    picture = to_8_bit(values, pixel_format.window) if deep else np.asarray(values, np.uint8)
    if layout.photometric == "MONOCHROME1":
        picture = 255 - picture
    gray, rgb = split_luma(picture) if coding in _LUMA_CHROMA else split_color(picture)
    gray, rgb = (
        resampled(gray, pixel_format.size),
        None if rgb is None else resampled(rgb, pixel_format.size),
    )
    return Frame(
        index,
        gray,
        rgb,
        spacing.row_mm,
        spacing.column_mm,
        spacing.reason,
        (),
        pixel_format.regions,
        _file_size(pixel_format),
        _seconds(index, pixel_format),
    )


def _frame_seconds(dataset: "Dataset") -> float | None:
    """The time between two frames, if the header has a plausible one (FrameTime is in ms)."""
    try:
        seconds = _first(dataset.get("FrameTime")) / 1000
    except dicom_errors():
        return None
    return seconds if 1e-4 <= seconds <= 10 else None


def _seconds(index: int, pixel_format: PixelFormat) -> float | None:
    step = pixel_format.frame_seconds
    return None if step is None else round(index * step, 6)


def _file_size(pixel_format: PixelFormat) -> tuple[int, int] | None:
    """Rows and columns in the file if the frame was resampled, otherwise None."""
    stored = pixel_format.layout.rows, pixel_format.layout.columns
    return None if pixel_format.size == stored else stored


def _black_frame(index: int, pixel_format: PixelFormat) -> Frame:
    spacing, black, codes = (
        pixel_format.spacing,
        np.zeros(pixel_format.size, np.uint8),
        ("frame_corrupt",),
    )
    size = _file_size(pixel_format)
    return Frame(
        index,
        black,
        None,
        spacing.row_mm,
        spacing.column_mm,
        spacing.reason,
        codes,
        (),
        size,
        _seconds(index, pixel_format),
    )


def _decode(data: Stored, pixel_format: PixelFormat) -> tuple[Values, str]:
    """One frame [rows, columns] or [rows, columns, 3] and its photometric interpretation.

    pydicom's conversion to RGB is not used, so that the luma stays as it was stored.
    """
    from pydicom.encaps import encapsulate

    layout, decoder, content = pixel_format.layout, pixel_format.decoder, bytes(data)
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
    """A JPEG without the Adobe mark that makes Pillow convert luma and chroma to RGB.

    pydicom would convert the colors a second time.
    """
    place = data.find(_ADOBE, 0, 4096)
    is_ycc = place >= 0 and data[place + 15 : place + 16] == bytes([_ADOBE_YCC])
    return data.replace(_ADOBE, _NOT_ADOBE, 1) if is_ycc else data


def _check_stored(data: bytes, layout: PixelLayout) -> None:
    """Refuse a truncated JPEG frame, and a picture larger than the header declares (a bomb)."""
    limits = Limits(max_pixels=layout.rows * layout.columns)
    if layout.syntax == JPEG_BASELINE:
        walk_jpeg(data, limits)
    if data.startswith(JPEG_2000_START) and len(data) >= 24:
        x1, y1, x0, y0 = struct.unpack_from(">IIII", data, 8)
        check_size(y1 - y0, x1 - x0, limits)


def _window(dataset: "Dataset", values: Values, layout: PixelLayout) -> tuple[float, float] | None:
    """The stored values that become black and white, or None.

    The first VOI window is used (PS3.3 C.11.2.1.2), otherwise percentiles of the values.
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
    return window_of(values)


def _first(value: object) -> float:
    """The first of one or several numbers."""
    from pydicom.multival import MultiValue

    return float(str(value[0] if isinstance(value, MultiValue) else value))
