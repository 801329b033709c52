"""MetaImage, NRRD and NIfTI files as gray frames: a picture, or a series of pictures over time.

A volume of three dimensions is refused: which of its slices would be a plane is not known.
"""

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from sono.curation.core.geometry import resampled, square_size
from sono.curation.readers.containers import Format
from sono.curation.readers.dicom_regions import (
    MAX_PICTURE_MM,
    SPACING_RANGE_MM,
    Spacing,
    is_aspect,
)
from sono.curation.readers.source import (
    COLOR_SPREAD,
    DEFAULT_LIMITS,
    Frame,
    Header,
    LazyFrames,
    Limits,
    ReadResult,
    UnreadableError,
    Values,
    check_size,
    failed,
    split_color,
    succeeded,
    to_8_bit,
    window_of,
)
from sono.curation.readers.volume_headers import (
    COLOR,
    TIME,
    UNKNOWN,
    Volume,
    X,
    Y,
    read_meta_image,
    read_nifti,
    read_nrrd,
)
from sono.curation.readers.volume_texts import header_texts

READERS: dict[str, Callable[[bytes, Limits, bytes | None], Volume]] = {
    "MetaImage file": read_meta_image,
    "NRRD volume": read_nrrd,
    "NIfTI volume": read_nifti,
}
_GRAY_SHARE = 0.9  # of the echoes of a colored picture; two frames of a cine share fewer
_DARK = 8  # gray levels; darker pixels show nothing
_UNKNOWN_MM = 1.0  # on both axes: written where the spacing is unknown


def read_volume(
    content: bytes, known: Format, limits: Limits = DEFAULT_LIMITS, pixels: bytes | None = None
) -> ReadResult:
    """Read a file of one of the formats in `READERS`; `pixels` are those of its other file."""
    header = Header(private=() if known.name == "NIfTI volume" else header_texts(content))
    try:
        volume = READERS[known.name](content, limits, pixels)
        header = Header(private=volume.private or header.private)
        return _read(volume, known, limits, header)
    except UnreadableError as error:
        return failed(error, header)
    except MemoryError:
        return failed(UnreadableError("too_large", "this file does not fit into memory"), header)
    except (ValueError, OverflowError, struct.error):
        return failed(UnreadableError("corrupt", "the header contradicts itself"), header)


def _read(volume: Volume, known: Format, limits: Limits, header: Header) -> ReadResult:
    frames = _pictures(volume, known)
    rows, columns = frames.shape[1:3]
    check_size(rows, columns, limits)
    if frames.shape[3] not in (1, 3, 4):
        raise UnreadableError("unsupported", f"{frames.shape[3]} values in each pixel")
    spacing, aspect, remarks = _spacing(volume, rows, columns)
    size = square_size(rows, columns, aspect, limits.max_pixels)
    if size != (rows, columns):
        remarks.append("resampled")
        if spacing.row_mm is not None and spacing.column_mm is not None:
            down, across = size[0] / rows, size[1] / columns
            spacing = Spacing(spacing.row_mm / down, spacing.column_mm / across, None)
    window = None
    if frames.dtype != np.uint8:
        remarks.append("bit_depth")
        window = window_of(frames[0, ..., :3])  # of the first frame, or a series would flicker
    make = partial(_frame, frames, window, spacing, size, volume.step_seconds)
    return succeeded(LazyFrames(len(frames), make), remarks, header)


def _frame(
    frames: Values,
    window: tuple[float, float] | None,
    spacing: Spacing,
    size: tuple[int, int],
    step_seconds: float | None,
    index: int,
) -> Frame:
    values = frames[index, ..., :3]
    picture = np.asarray(values, np.uint8) if window is None else to_8_bit(values, window)
    gray, rgb = split_color(picture if picture.shape[2] == 3 else picture[..., 0])
    stored = gray.shape[0], gray.shape[1]
    return Frame(
        index,
        resampled(gray, size),
        None if rgb is None else resampled(rgb, size),
        spacing.row_mm,
        spacing.column_mm,
        spacing.reason,
        file_size=None if size == stored else stored,
        seconds=None if step_seconds is None else round(index * step_seconds, 6),
        is_screen=False,
    )


def _pictures(volume: Volume, known: Format) -> Values:
    """The values [frames, rows, columns, channels] of a picture or a series.

    Raises UnreadableError for a volume of three dimensions.
    """
    roles = [role for role, _ in volume.axes]
    sizes = [size for _, size in volume.axes]
    values = np.frombuffer(volume.data, volume.dtype).reshape(sizes[::-1])
    if roles == [X, Y, UNKNOWN]:
        if sizes[2] == 3 and _is_color(values, 0):  # one plane after the other
            roles = [X, Y, COLOR]
        elif sizes[0] == 3 and _is_color(values, 2):  # pixel after pixel
            roles = [COLOR, X, Y]
    wanted = [TIME, Y, X, COLOR]
    if UNKNOWN in roles or len(set(roles)) < len(roles):
        shape = " x ".join(map(str, sizes))
        raise UnreadableError(
            "volume",
            f"{known.name}: {shape} values, which the header does not call a series of frames; "
            "export its slices or frames as DICOM or PNG files",
        )
    if not {X, Y} <= set(roles):
        raise UnreadableError("too_small", f"{known.name}: it has fewer than two dimensions")
    ordered = values.transpose([roles[::-1].index(role) for role in wanted if role in roles])
    if TIME not in roles:
        ordered = ordered[np.newaxis]
    return ordered if COLOR in roles else ordered[..., np.newaxis]


def _is_color(values: Values, axis: int) -> bool:
    """Whether three planes along `axis` are the channels of one picture, which is mostly gray."""
    low, high = values.min(axis=axis), values.max(axis=axis)
    echoes = high > _DARK
    spread = high[echoes].astype(np.float64) - low[echoes]
    return bool(spread.size) and float(np.mean(spread <= COLOR_SPREAD)) >= _GRAY_SHARE


def _spacing(volume: Volume, rows: int, columns: int) -> tuple[Spacing, float, list[str]]:
    """The spacing, height / width of a pixel, and remarks on both."""
    if volume.spacing_mm is None:
        return Spacing(None, None, volume.spacing_reason), 1.0, []
    column, row = volume.spacing_mm
    low, high = SPACING_RANGE_MM
    if row == column == _UNKNOWN_MM:
        return Spacing(None, None, "default_spacing"), 1.0, []
    if not (low < row < high and low < column < high) or (
        max(row * rows, column * columns) > MAX_PICTURE_MM
    ):
        return Spacing(None, None, "implausible"), 1.0, []
    if not is_aspect(row / column):
        return Spacing(None, None, "aspect_differs"), 1.0, ["aspect_unsure"]
    return Spacing(row, column, None), row / column, []
