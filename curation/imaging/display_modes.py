"""Detect pictures that are not one plain B-mode view.

These are dual views, M-mode, spectra, renderings and pages of measurements. The regions of a DICOM
header decide; the pixels are examined only without them.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.config import Config
from sono.curation.core.geometry import shrink
from sono.curation.imaging.components import connected_components
from sono.curation.imaging.echo_layers import background_tone
from sono.curation.readers.dicom_regions import (
    COLOR_FLOW,
    CONTINUOUS_DOPPLER,
    M_MODE,
    PULSED_DOPPLER,
    SPECTRAL,
    is_tissue,
)
from sono.curation.readers.source import Frame, UltrasoundRegion

SMALL_SIDE = 192  # longer side of the small picture
ABOVE_BACKGROUND = 10  # gray levels from which a small pixel is an echo
# small pixels; tones are compared with those this far above and below, so that shading cancels
FINE = 4.0
MIN_DETAIL = 25.0  # mean square of a band that shows anything, gray levels
LIT = 40  # luma from which a pixel's color counts
AXIS = 7  # pixels, higher than a drawn line
LINE_STEP = 20  # gray levels by which it is brighter than what is above and below it
GLYPH_HEIGHTS = (5, 0.05)  # of a letter: pixels at least, share of the picture's height at most


class ViewConfig(Config):
    """Thresholds of the display modes: section `[qc.views]` of `sono.toml`."""

    # echoes in the emptiest middle column; below: dual_view
    max_gutter: float = Field(default=0.1, ge=0, le=1)
    # detail that depends on the row alone; above: m_mode
    min_streaks: float = Field(default=0.8, ge=0, le=1)
    # of the width under one thin level line; above: spectral_doppler
    min_axis: float = Field(default=0.6, ge=0, le=1)
    # share of lit pixels of one hue; above: rendering
    min_tinted: float = Field(default=0.6, ge=0, le=1)
    min_letters: int = Field(default=60, ge=1)  # on a screen that is mostly of one tone ...
    # ... and their share of all that is lit: measurement_screen
    min_print: float = Field(default=0.5, ge=0, le=1)


def detect_modes(frame: Frame, inside: Mask, config: ViewConfig) -> list[str]:
    """Reason codes for the display mode of a frame [H, W] with the sector `inside`."""
    found = region_views(frame.regions) if frame.regions else picture_views(frame.gray, config)
    if frame.rgb is not None and tinted_share(frame.rgb, inside) > config.min_tinted:
        found.append("rendering")
    return found


def region_views(regions: Sequence[UltrasoundRegion]) -> list[str]:
    """The views that the header's regions show besides one view of tissue."""
    formats = {region.spatial_format for region in regions}
    kinds = {region.data_type for region in regions}
    tissue = [region for region in regions if is_tissue(region)]
    findings = {
        "dual_view": any(_apart(one, other) for one in tissue for other in tissue),
        "m_mode": M_MODE in formats,
        "spectral_doppler": SPECTRAL in formats
        or bool(kinds & {PULSED_DOPPLER, CONTINUOUS_DOPPLER}),
        "doppler": COLOR_FLOW in kinds,
    }
    return [code for code, found in findings.items() if found]


def gutter(gray: Gray) -> float:
    """Share of echoes, over the height, in the emptiest middle column with echoes on both sides.

    It is near 0 between two views, and 1 if there is no such column.
    """
    small = _small(gray)
    echo = small > background_tone(small) + ABOVE_BACKGROUND
    rows = np.flatnonzero(echo.any(axis=1))
    if len(rows) < len(small) // 3:
        return 1.0
    filled = echo[rows[0] : rows[-1] + 1].mean(axis=0)
    count = np.arange(1, len(filled))
    left = np.cumsum(filled)[:-1] / count
    right = np.cumsum(filled[::-1])[:-1][::-1] / count[::-1]
    middle = np.zeros(len(count), np.bool_)
    middle[int(0.4 * len(filled)) : int(0.6 * len(filled))] = True
    candidates = filled[:-1][middle & (left > 0.2) & (right > 0.2)]
    return float(candidates.min(initial=1.0))


def streaks(gray: Gray) -> float:
    """Share of the detail that depends on the row alone, in the band where it is largest.

    The band has 0.3 of the height, and the full width or half of it. The result is 1 for horizontal
    lines. The time axis of an M-mode strip is horizontal.
    """
    smooth = cv2.GaussianBlur(_small(gray).astype(np.float32), (0, 0), 0.8)
    detail = smooth - cv2.GaussianBlur(smooth, (0, 0), sigmaX=0.01, sigmaY=FINE)
    height, width = smooth.shape
    window = np.full(max(1, round(0.3 * height)), 1.0) / max(1, round(0.3 * height))
    best = 0.0
    for start, end in ((0, width), (0, width // 2), (width // 2, width)):
        rim = max(4, (end - start) // 12)
        part = detail[:, start + rim : end - rim]
        row = part.mean(axis=1)
        mean, common, all_of_it = (
            np.convolve(one, window, "valid") for one in (row, row**2, (part**2).mean(axis=1))
        )
        total = all_of_it - mean**2
        share = np.where(
            total > MIN_DETAIL, (common - mean**2) / np.maximum(total, MIN_DETAIL), 0.0
        )
        best = max(best, float(share.max(initial=0.0)))
    return best


def axis(gray: Gray) -> float:
    """Largest share of a row under thin lines, in the lower two thirds.

    A spectrum's base line crosses the full width.
    """
    below = gray[len(gray) // 3 : len(gray) - len(gray) // 20]
    opened = cv2.morphologyEx(below, cv2.MORPH_OPEN, np.ones((AXIS, 1), np.uint8))
    thin = cv2.threshold(cv2.subtract(below, opened), LINE_STEP, 1, cv2.THRESH_BINARY)[1]
    # noise is short
    thin = cv2.morphologyEx(
        thin, cv2.MORPH_OPEN, np.ones((1, max(1, gray.shape[1] // 16)), np.uint8)
    )
    return float(cv2.reduce(thin, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).max())


def tinted_share(rgb: NDArray[np.uint8], inside: Mask) -> float:
    """Share of lit pixels of `rgb` [H, W, 3] `inside` with color, times their agreement in hue."""
    sector = np.where(inside[..., None], rgb, np.uint8(0))
    small = cv2.resize(sector, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA)
    luma, red, blue = (
        plane.astype(np.float32) for plane in cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb))
    )
    chroma = (red - 128) + 1j * (blue - 128)
    lit = luma > LIT
    colored = lit & (np.abs(chroma) > 0.08 * luma)
    if not colored.any():
        return 0.0
    hues = chroma[colored] / np.abs(chroma[colored])
    return float(colored.sum() / lit.sum() * np.abs(hues.mean()))


def letters(gray: Gray) -> tuple[int, float]:
    """Number of marks of the size of letters, and their share of the lit area."""
    _, stats = connected_components(gray > background_tone(gray[::4, ::4]) + LIT)
    wide, tall, area = (stats[1:, column] for column in (2, 3, 4))
    low, high = GLYPH_HEIGHTS
    letter = (
        (tall >= low)
        & (tall <= high * gray.shape[0])
        & (wide <= 3 * tall)
        & (area >= 0.15 * wide * tall)
    )
    return int(letter.sum()), float(area[letter].sum() / max(1, area.sum()))


def picture_views(gray: Gray, config: ViewConfig) -> list[str]:
    """The display modes of the frame `gray` [H, W] if its header does not name them."""
    small = _small(gray)
    if _is_sparse(small):
        count, share = letters(gray)
        if count >= config.min_letters and share >= config.min_print:
            return ["measurement_screen"]
    moving = streaks(small) > config.min_streaks
    findings = {
        "dual_view": gutter(small) < config.max_gutter,
        "m_mode": moving,
        # tissue over time is full of level lines
        "spectral_doppler": not moving and axis(gray) > config.min_axis,
    }
    return [code for code, found in findings.items() if found]


def _is_sparse(small: Gray) -> bool:
    """Whether most of the picture has nearly one tone, as a page of text does."""
    tones = np.bincount(small.ravel() >> 4, minlength=16)
    return bool(tones.max() > 0.7 * tones.sum())


def _apart(one: UltrasoundRegion, other: UltrasoundRegion) -> bool:
    """Whether two regions have no pixels in common."""
    ax0, ay0, ax1, ay1 = one.box
    bx0, by0, bx1, by1 = other.box
    return ax1 <= bx0 or bx1 <= ax0 or ay1 <= by0 or by1 <= ay0


def _small(gray: Gray) -> Gray:
    scale = SMALL_SIDE / max(gray.shape)
    if scale == 1:
        return gray
    size = (max(8, round(gray.shape[1] * scale)), max(8, round(gray.shape[0] * scale)))
    return shrink(gray, *size)
