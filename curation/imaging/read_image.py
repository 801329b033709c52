"""Any supported file to frames with sector, spacing and reasons, without a workspace."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import status_of
from sono.curation.imaging.analysis import examine
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector
from sono.curation.readers.files import Frame, read_source


@dataclass(frozen=True)
class ImageFrame:
    """One frame of a file, as `sono qc` sees it.

    Attributes:
        index: Number of the frame in its file, from 0.
        gray: The picture [H, W], 8-bit gray, upright, with square pixels.
        rgb: The picture [H, W, 3] where some pixel has color, else None.
        sector: The ultrasound sector in pixels of `gray`; None for a frame without ultrasound.
        crop: `gray` cropped to the sector [h, w], zero outside; studies store and models see it.
        row_spacing_mm: Distance between rows in mm; None if unknown, see `spacing_reason`.
        col_spacing_mm: The same between columns.
        spacing_reason: Why the spacing is unknown, else None.
        status: accepted, rejected, quarantined or error, by the default settings of `sono qc`.
        reasons: Codes of docs/reasons.md.
    """

    index: int
    gray: NDArray[np.uint8]
    rgb: NDArray[np.uint8] | None
    sector: Sector | None
    crop: NDArray[np.uint8] | None
    row_spacing_mm: float | None
    col_spacing_mm: float | None
    spacing_reason: str | None
    status: str
    reasons: tuple[str, ...]


def read_image(path: str | os.PathLike[str]) -> list[ImageFrame]:
    """The frames of a DICOM file, an image or a video: every frame of a cine.

    Raises:
        SonoError: The file gives no frame; the message names the reason code.

    Example:
        >>> frame = sono.read_image("IM_0001.dcm")[0]
        >>> frame.crop.shape, frame.row_spacing_mm, frame.reasons
    """
    return list(iter_image(path))


def iter_image(path: str | os.PathLike[str]) -> Iterator[ImageFrame]:
    """The same, one frame at a time: a long cine is never in memory as a whole."""
    source = read_source(os.fsencode(path))
    if not source.frames:
        code = source.codes[0] if source.codes else "no frame"
        raise SonoError(f"{os.fsdecode(path)}: {source.message or 'holds no picture'} ({code})")
    config = QualityConfig.model_validate({})
    for frame in source.frames:
        yield _image_frame(frame, source.codes, config)


def _image_frame(frame: Frame, codes: tuple[str, ...], config: QualityConfig) -> ImageFrame:
    found = examine(frame, codes, config)
    return ImageFrame(
        frame.index,
        frame.gray,
        frame.rgb,
        found.sector,
        found.crop,
        frame.row_spacing_mm,
        frame.col_spacing_mm,
        frame.spacing_reason,
        status_of(found.codes),
        tuple(dict.fromkeys(found.codes)),
    )
