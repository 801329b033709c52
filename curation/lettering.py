"""Lines of print on the background above and below the tissue, where scanners write name, date and hospital."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

BAND = 0.15  # share of the height, at the top and at the bottom, that is searched
MAX_GLYPH = 0.05  # share of the height that a letter may have
MIN_GLYPHS = 4  # letters beside each other
LINE_ENDS = 3  # times that a line grows by its neighbours


def printed_lines(gray: NDArray[np.uint8], tone: int) -> Mask:
    """Pixels [H, W] of bright marks that stand in lines on the background `tone`; echoes never stand so."""
    found = np.zeros(gray.shape, np.bool_)
    band = max(8, round(BAND * gray.shape[0]))
    for rows in (slice(0, band), slice(gray.shape[0] - band, None)):
        found[rows] = _lines(gray[rows], tone, MAX_GLYPH * gray.shape[0])
    return found


def _lines(band: NDArray[np.uint8], tone: int, tallest: float) -> Mask:
    parts = cv2.connectedComponentsWithStats((band > tone + 40).view(np.uint8), connectivity=8)
    labels, stats, centers = np.asarray(parts[1], np.int32), np.asarray(parts[2]), np.asarray(parts[3], np.float64)
    wide, tall, area = stats[:, 2], stats[:, 3], stats[:, 4]
    glyph = (tall >= 4) & (tall <= tallest) & (wide <= 4 * tall) & (area >= 6)
    glyph[0] = False
    numbers = np.flatnonzero(glyph)
    if len(numbers) <= MIN_GLYPHS:
        return np.zeros(band.shape, np.bool_)
    marks = glyph[labels]
    own = labels[marks]
    alike = _alike(stats[numbers, 3], centers[numbers], _peaks(band[marks], own, len(stats))[numbers])
    free = _on_background(band, tone, marks, own, len(stats))[numbers]
    printed = free & ((alike & free).sum(axis=1) >= MIN_GLYPHS)
    for _ in range(LINE_ENDS):  # letters at the end of a line may touch the tissue
        printed = printed | (alike & printed).any(axis=1)
    in_line = np.zeros(len(stats), np.bool_)
    in_line[numbers[printed]] = True
    return np.asarray(cv2.dilate(in_line[labels].view(np.uint8), np.ones((5, 5), np.uint8)) > 0)


def _alike(height: NDArray[np.int32], centers: NDArray[np.float64], peak: NDArray[np.float64]) -> Mask:
    """Which marks [M, M] stand side by side on one line, of like size and brightness."""
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


def _on_background(band: NDArray[np.uint8], tone: int, marks: Mask, labels: NDArray[np.int32], count: int) -> Mask:
    """Which components [N] of the pixels `marks` with `labels` [P] have hardly any echo within 5 pixels around them.

    What JPEG rings around bright marks, 3 pixels wide, does not count.
    """
    near_marks = cv2.dilate(marks.view(np.uint8), np.ones((7, 7), np.uint8)) > 0
    faint = band > tone + 15
    touched = cv2.dilate((faint & ~near_marks).view(np.uint8), np.ones((11, 11), np.uint8))[marks] > 0
    pixels = np.bincount(labels, minlength=count)
    hit = np.bincount(labels[touched], minlength=count)
    # between and around letters there is background; between the grains of an echo there is not
    empty = cv2.blur(np.where(faint, np.uint8(0), np.uint8(255)), (15, 15))[marks]
    share = np.bincount(labels, weights=empty, minlength=count) / np.maximum(255 * pixels, 1)
    return np.asarray((hit <= 0.1 * pixels) & (share >= 0.35))
