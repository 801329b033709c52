"""Pictures in the picture: a small second sector in a corner, in a drawn frame or on its own."""

from collections.abc import Iterator

import cv2
import numpy as np

from sono.curation.core.arrays import Gray
from sono.curation.core.geometry import shrink
from sono.curation.imaging.components import connected_components
from sono.curation.imaging.echo_layers import background_tone

Box = tuple[int, int, int, int]  # x0, y0, x1, y1, half-open

SIZES = (0.08, 0.45)  # shares of the width and the height of the frame
PEN = 5  # pixels, wider than a drawn line
LINE_STEP = 20  # gray levels by which it is brighter than both its sides
LINE = 0.03  # of the frame's width; echoes as thin and straight are shorter
DRAWN = 0.6  # share of a side that is drawn; one side may be drawn by half of that
REACH = 3  # pixels over which lines are joined
HALO = 2  # pixels next to a drawn line that compression brightens

SMALL_SIDE = 256
ECHO_STEP = 10  # gray levels above the background
ALONE = (0.1, 0.4)  # shares of the width and the height, without a frame
CORNER = 0.22  # share of the width and the height within which it begins or ends
FILLED = 0.45  # share of its box; a fan has more, letters have less
LARGEST = 0.3  # share of the area of the main sector


def framed_insets(gray: Gray) -> list[Box]:
    """The rectangles of thin lines in a frame [H, W], of the size of an inset."""
    height, width = gray.shape
    long = max(16, round(LINE * width))
    level = _lines(gray, (PEN, 1), (1, long))
    if not level.any():
        return []
    upright = _lines(gray, (1, PEN), (long, 1))
    if not upright.any():
        return []
    joined = cv2.dilate(level | upright, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))
    _, stats = connected_components(joined > 0)
    found = []
    for x, y, wide, tall, _ in stats[1:].tolist():
        x0, y0, x1, y1 = x + REACH, y + REACH, x + wide - REACH, y + tall - REACH
        if not (_fits(x1 - x0, width, SIZES) and _fits(y1 - y0, height, SIZES)):
            continue
        across, down = level[y0:y1, x0:x1] > 0, upright[y0:y1, x0:x1] > 0
        drawn = sorted(
            (
                across[:REACH].any(axis=0).mean(),
                across[-REACH:].any(axis=0).mean(),
                down[:, :REACH].any(axis=1).mean(),
                down[:, -REACH:].any(axis=1).mean(),
            )
        )
        if drawn[0] >= DRAWN / 2 and drawn[1] >= DRAWN:
            found.append((max(0, x0 - HALO), max(0, y0 - HALO), x1 + HALO, y1 + HALO))
    return found


def lone_insets(gray: Gray) -> Iterator[tuple[Box, Gray]]:
    """Parts of a frame [H, W] that may be an inset: apart from the rest, in a corner.

    With the box of each come its own pixels, with a margin, on black.
    """
    height, width = gray.shape
    scale = min(1.0, SMALL_SIDE / max(gray.shape))
    small = shrink(gray, max(8, round(width * scale)), max(8, round(height * scale)))
    rows, columns = small.shape
    labels, stats = connected_components(small > background_tone(small[::2, ::2]) + ECHO_STEP)
    largest = stats[1:, 4].max(initial=0)
    for number, (x, y, wide, tall, area) in enumerate(stats.tolist()):
        across, down = (x, x + wide), (y, y + tall)
        if number == 0 or not FILLED * wide * tall <= area <= LARGEST * largest:
            continue
        if not (_fits(wide, columns, ALONE) and _fits(tall, rows, ALONE)):
            continue
        if not (_in_corner(*across, columns) and _in_corner(*down, rows)):
            continue
        box = (
            max(0, int((x - 2) / scale)),
            max(0, int((y - 2) / scale)),
            min(width, int((x + wide + 2) / scale)),
            min(height, int((y + tall + 2) / scale)),
        )
        own = (labels == number).astype(np.uint8)
        near = cv2.resize(cv2.dilate(own, np.ones((3, 3), np.uint8)), (width, height))
        place = np.s_[box[1] : box[3], box[0] : box[2]]
        yield box, np.pad(gray[place] * near[place], 12)


def _lines(gray: Gray, pen: tuple[int, int], long: tuple[int, int]) -> Gray:
    """255 where a line runs that is thinner than `pen` and longer than `long`, else 0."""
    opened = cv2.morphologyEx(gray, cv2.MORPH_OPEN, np.ones(pen, np.uint8))
    thin = cv2.threshold(cv2.subtract(gray, opened), LINE_STEP, 255, cv2.THRESH_BINARY)[1]
    return np.asarray(cv2.morphologyEx(thin, cv2.MORPH_OPEN, np.ones(long, np.uint8)), np.uint8)


def _fits(length: int, whole: int, shares: tuple[float, float]) -> bool:
    return shares[0] * whole <= length <= shares[1] * whole


def _in_corner(start: int, end: int, whole: int) -> bool:
    """Whether a part is near one end of the frame and does not touch it, as tissue does."""
    near = start < CORNER * whole or end > (1 - CORNER) * whole
    return near and start > 0 and end < whole
