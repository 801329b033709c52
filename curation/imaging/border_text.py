"""Lines of text at the border of the frame, where scanners write name, date and settings."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Mask
from sono.curation.imaging.burned_in_text import (
    ALONE,
    BESIDE_PRINT,
    Line,
    Proof,
    at_border,
    burned_lines,
)
from sono.curation.imaging.components import connected_components

BAND = 0.15  # share of the height, at the top and at the bottom, that is searched
MAX_GLYPH = 0.05  # share of the height that a letter may have
MIN_GLYPHS = 4  # letters next to each other
ROUNDS = 5  # of painting over: a line may only show when its neighbor is gone
MAX_BESIDE = 0.04  # share of the frame that text next to text may cover
NEIGHBORS = 4  # heights of a line within which its neighbors are
LINE_ENDS = 3  # times that a line grows by its neighbors


def background_lines(gray: NDArray[np.uint8], tone: int) -> Mask:
    """Pixels [H, W] of lines of text on the background `tone`, at the top and at the bottom.

    Bright marks in a line are enough, because echoes never form such lines there.
    """
    found = np.zeros(gray.shape, np.bool_)
    band = max(8, round(BAND * gray.shape[0]))
    for rows in (slice(0, band), slice(gray.shape[0] - band, None)):
        found[rows] = _lines_in_band(gray[rows], tone, MAX_GLYPH * gray.shape[0])
    return found


def border_lines(gray: NDArray[np.uint8]) -> Mask:
    """Pixels [H, W] of complete lines of text at the border of the frame, even on tissue."""
    found = np.zeros(gray.shape, np.bool_)
    height, width = gray.shape
    everywhere = np.ones_like(found)
    # the border and more
    places = [Line(0, 0, width, round(0.45 * height)), Line(0, round(0.8 * height), width, height)]
    lines = [
        line
        for line in _lines_at(gray, everywhere, places, ALONE)
        if at_border(line, height, width)
    ]
    certain: Mask | None = None
    for _ in range(ROUNDS):
        if not lines:
            break
        near = np.zeros_like(found)
        for line in lines:
            tall = line.y1 - line.y0
            room = max(2, tall // 3)  # commas, the tails of letters, letters that touch an echo
            found[_around(line, room)] = True
            near[_around(line, NEIGHBORS * tall)] = True
        certain = found.copy() if certain is None else certain
        near &= ~found
        lines = _lines_at(gray, near, _half_boxes(near), BESIDE_PRINT)
    # what spreads is no print but noise as fine as letters; who finds print on it then holds the
    # frame
    return found if certain is None or (found & ~certain).mean() <= MAX_BESIDE else certain


def _lines_at(
    gray: NDArray[np.uint8], inside: Mask, places: Iterable[Line], proof: Proof
) -> list[Line]:
    """The lines of text of the frame [H, W] that are in `places` and `inside`."""
    return [
        Line(line.x0 + x0, line.y0 + y0, line.x1 + x0, line.y1 + y0)
        for x0, y0, x1, y1 in places
        for line in burned_lines(gray[y0:y1, x0:x1], inside[y0:y1, x0:x1], proof)
    ]


def _half_boxes(mask: Mask) -> Iterator[Line]:
    """The bounding boxes of the true pixels in the upper and in the lower half of a mask [H, W]."""
    middle = len(mask) // 2
    for start, stop in ((0, middle), (middle, len(mask))):
        rows = np.flatnonzero(mask[start:stop].any(axis=1))
        if len(rows):
            y0, y1 = start + int(rows[0]), start + int(rows[-1]) + 1
            columns = np.flatnonzero(mask[y0:y1].any(axis=0))
            yield Line(int(columns[0]), y0, int(columns[-1]) + 1, y1)


def _around(line: Line, room: int) -> tuple[slice, slice]:
    """Rows and columns of a line, with margin `room` above and below, twice that at its ends."""
    return slice(max(0, line.y0 - room), line.y1 + room), slice(
        max(0, line.x0 - 2 * room), line.x1 + 2 * room
    )


def _lines_in_band(band: NDArray[np.uint8], tone: int, tallest: float) -> Mask:
    labels, stats = connected_components(band > tone + 40)
    centers = stats[:, :2] + stats[:, 2:4] / 2
    wide, tall, area = stats[:, 2], stats[:, 3], stats[:, 4]
    glyph = (tall >= 4) & (tall <= tallest) & (wide <= 4 * tall) & (area >= 6)
    glyph[0] = False
    numbers = np.flatnonzero(glyph)
    if len(numbers) <= MIN_GLYPHS:
        return np.zeros(band.shape, np.bool_)
    marks = np.take(glyph, labels)
    own = labels[marks]
    alike = _neighbors(
        stats[numbers, 3], centers[numbers], _peaks(band[marks], own, len(stats))[numbers]
    )
    free = _on_background(band, tone, marks, own, len(stats))[numbers]
    printed = free & ((alike & free).sum(axis=1) >= MIN_GLYPHS)
    for _ in range(LINE_ENDS):  # letters at the end of a line may touch the tissue
        printed = printed | (alike & printed).any(axis=1)
    if not printed.any():
        return np.zeros(band.shape, np.bool_)
    in_line = np.zeros(len(stats), np.bool_)
    in_line[numbers[printed]] = True
    return np.asarray(cv2.dilate(in_line[labels].view(np.uint8), np.ones((5, 5), np.uint8)) > 0)


def _neighbors(
    height: NDArray[np.int64], centers: NDArray[np.float64], peak: NDArray[np.float64]
) -> Mask:
    """Which pairs of marks [M, M] are neighbors on a line, with similar size and brightness."""
    lower, higher = np.minimum(height[:, None], height), np.maximum(height[:, None], height)
    across, middle = centers[:, 0], centers[:, 1]
    beside = np.abs(across[:, None] - across) <= 4 * lower
    level = np.abs(middle[:, None] - middle) <= 0.35 * higher
    inked = np.abs(peak[:, None] - peak) <= 0.2 * np.maximum(peak[:, None], peak)
    return np.asarray(beside & level & inked & (lower >= 0.4 * higher))


def _peaks(tones: NDArray[np.uint8], labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """The brightest tone of each component [N] of pixels with `tones` and `labels` [P]."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    peaks = np.zeros(count)
    peaks[labels[order][starts]] = np.maximum.reduceat(tones[order], starts)
    return peaks


def _on_background(
    band: NDArray[np.uint8], tone: int, marks: Mask, labels: NDArray[np.int32], count: int
) -> Mask:
    """Which components [N] of `marks` have almost no echo within 5 pixels around them.

    `labels` [P] are the components of the pixels. The ringing of JPEG around bright marks, 3 pixels
    wide, does not count.
    """
    near_marks = cv2.dilate(marks.view(np.uint8), np.ones((7, 7), np.uint8)) > 0
    faint = band > tone + 15
    touched = (
        cv2.dilate((faint & ~near_marks).view(np.uint8), np.ones((11, 11), np.uint8))[marks] > 0
    )
    pixels = np.bincount(labels, minlength=count)
    hit = np.bincount(labels[touched], minlength=count)
    # between and around letters there is background; between the grains of an echo there is not
    empty = cv2.blur(np.where(faint, np.uint8(0), np.uint8(255)), (15, 15))[marks]
    share = np.bincount(labels, weights=empty, minlength=count) / np.maximum(255 * pixels, 1)
    return np.asarray((hit <= 0.1 * pixels) & (share >= 0.35))
