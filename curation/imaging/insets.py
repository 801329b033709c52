"""Pictures in the picture: a small second sector in a corner, in a drawn frame or on its own."""

from collections.abc import Iterator
from itertools import product

import cv2
import numpy as np

from sono.curation.core.arrays import Box, Gray
from sono.curation.core.geometry import shrink
from sono.curation.imaging.components import connected_components
from sono.curation.imaging.echo_layers import background_tone

SIZES = (0.08, 0.45)  # shares of the width and the height of the frame
PEN = 5  # pixels, wider than a drawn line
LINE_STEP = 20  # gray levels by which it is brighter than both its sides
LINE = 0.03  # of the frame's width; echoes as thin and straight are shorter
DRAWN = 0.6  # share of a side that is drawn; one side may be drawn by half of that
REACH = 3  # pixels over which lines are joined
HALO = 2  # pixels next to a drawn line that compression brightens

EDGE = 0.07  # share of the width or height within which an inset touches the picture's edge
EDGE_SIZES = (0.05, 0.45)  # shares of the width and the height; the edge may cut an inset
EDGE_STEP = 40  # gray levels by which a drawn line is brighter than the background behind it
BEHIND = 3  # pixels from a line to the background behind it
FLAT = 8  # gray levels over which compression spreads the tone of a background
FRONT = 4  # pixels from a line to what is in front of it
CLEAR = 10  # gray levels by which two lines are; tissue at a blank corner of the picture is not
GAP = 9  # pixels of a line that letters may hide
CORNER_GAP = 5  # pixels between two lines that meet

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


def edge_insets(gray: Gray) -> Iterator[Box]:
    """The rectangles in the corners of a frame [H, W] that the picture's edges close.

    Two lines of one tone meet at a right angle. Behind both is a flat background; in front of them
    may be tissue that is brighter than the lines.
    """
    height, width = gray.shape
    tall, wide = (round(EDGE_SIZES[1] * side) for side in gray.shape)
    for down, right in product((True, False), repeat=2):
        rows = slice(height - tall, height) if down else slice(tall - 1, None, -1)
        columns = slice(width - wide, width) if right else slice(wide - 1, None, -1)
        for x, y in _lower_right(np.ascontiguousarray(gray[rows, columns])):
            across = (width - wide + x, width) if right else (0, wide - x)
            level = (height - tall + y, height) if down else (0, tall - y)
            yield across[0], level[0], across[1], level[1]


def _lower_right(part: Gray) -> Iterator[tuple[int, int]]:
    """The corners (x, y) of rectangles that end at the lower right of `part`, of a frame."""
    upright = _before_flat(part)
    across = _before_flat(np.ascontiguousarray(part.T)) if upright else []
    for (x, top, clear), (y, left, other) in product(upright, across):
        met = abs(x - left) <= CORNER_GAP and abs(y - top) <= CORNER_GAP
        if met and clear + other >= CLEAR:
            yield max(0, x - HALO), max(0, y - HALO)


def _before_flat(part: Gray) -> list[tuple[int, int, float]]:
    """Lines in `part` [h, w] to its lower end: the column, the first row, and how clear they are.

    To the right of the line is a flat background. A line is clear by the gray levels by which what
    is in front of it differs more from it than it differs along its length.
    """
    if min(part.shape) <= max(BEHIND, FRONT):
        return []
    tall = len(part) / EDGE_SIZES[1]
    long, end = EDGE_SIZES[0] * tall, len(part) - EDGE * tall
    beyond = np.maximum(part[:, BEHIND - 1 : -1], part[:, BEHIND:])
    steps = cv2.subtract(part[:, :-BEHIND], beyond) >= EDGE_STEP
    found = []
    for column in np.flatnonzero(np.count_nonzero(steps, axis=0) >= long).tolist():
        rows = np.flatnonzero(steps[:, column])
        first = int(rows[np.flatnonzero(np.diff(rows, prepend=-1 - GAP) > GAP)[-1]])
        run = np.s_[first : rows[-1] + 1, column]
        if rows[-1] - first < long or rows[-1] < end:
            continue
        if _spread(beyond[run]) <= FLAT:
            front = np.s_[run[0], max(0, column - FRONT)]
            found.append(
                (column, first, cv2.absdiff(part[run], part[front]).mean() - _spread(part[run]))
            )
    return found


def _spread(tones: Gray) -> float:
    """The range of tones [N] without the lowest and the highest tenth."""
    low, high = np.quantile(tones, (0.1, 0.9))
    return float(high - low)


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
