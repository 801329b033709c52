"""Find lines of text burned into the picture, on tissue or not, without reading them.

Ultrasound resolves far less across its beams than along them, so an echo is rarely narrow from left
to right. Strokes of letters are narrow: many of them are next to each other, in one tone, with
uniform areas above and below.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Gray, Mask
from sono.curation.imaging.components import connected_components

PEN = 9  # pixels, wider than a stroke; wider pens are met at a half and a quarter of the size
# at the last, where a spine looks like letters, twice as many strokes are wanted
SCALES = (1, 2, 4)
INK_STEP = 40  # gray levels by which a stroke is brighter than both its sides
GAPS = (7, 13)  # pixels between strokes of a line, within words and between them
HEIGHTS = (5, 40)  # pixels of a line
SAME_INK = 0.12  # by which the tones of strokes of one ink differ
BLOCK = 8  # pixels; the side of the squares in which strokes are counted
MIN_CROWD = 0.12  # share of strokes in a line's neighborhood; most frames have no such place
RIM = 0.15  # share of the frame's height: the bands at the top and the bottom
CORNER = (0.2, 0.4)  # shares of the frame's width and height: the upper corners


class Proof(NamedTuple):
    """The properties that a row of strokes must have to be accepted as text."""

    strokes: int  # side by side
    even: float  # share of the strokes that have the line's ink
    flank: float  # contrast above and below the line over that within; speckle continues there
    wide: float  # width over height


ALONE = Proof(strokes=4, even=0.5, flank=0.3, wide=2.0)  # two to four letters
# print is rarely alone: a number, the rest of a line
BESIDE_PRINT = Proof(strokes=2, even=0.4, flank=0.5, wide=0.7)


class Line(NamedTuple):
    """The half-open box of a line of text, in pixels."""

    x0: int
    y0: int
    x1: int
    y1: int


class _Strokes(NamedTuple):
    """A picture, the contrast of its narrow parts, and which of them are strokes; all [H, W]."""

    gray: Gray
    contrast: Gray
    mask: Gray  # 0 or 1


def burned_lines(gray: Gray, inside: Mask | None = None, proof: Proof = ALONE) -> list[Line]:
    """The lines of text of a frame [H, W], only `inside` if given; the longest first."""
    lines: list[Line] = []
    for scale in SCALES:
        if min(gray.shape) < 2 * PEN * scale:
            break
        small = _shrunk(gray, scale)
        middle = scale // 2
        there = None if inside is None else np.asarray(inside[middle::scale, middle::scale])
        there = None if there is None else there[: small.shape[0], : small.shape[1]]
        strict = proof._replace(strokes=2 * proof.strokes) if scale == SCALES[-1] else proof
        lines += [
            Line(*(scale * edge for edge in line))
            for line in _find_lines(_strokes(small, there), strict)
        ]
    return _merged(lines)


def _merged(lines: list[Line]) -> list[Line]:
    """Each line once, the longest first; a line that overlaps a longer one is part of it."""
    whole: list[Line] = []
    for line in sorted(lines, key=lambda one: (one.x0 - one.x1, one)):
        for number, other in enumerate(whole):
            beside = min(line.x1, other.x1) - max(line.x0, other.x0) > 0
            level = min(line.y1, other.y1) - max(line.y0, other.y0)
            if beside and 2 * level > min(line.y1 - line.y0, other.y1 - other.y0):
                low, high = (
                    zip(line[:2], other[:2], strict=True),
                    zip(line[2:], other[2:], strict=True),
                )
                whole[number] = Line(*map(min, low), *map(max, high))
                break
        else:
            whole.append(line)
    return whole


def at_border(line: Line, height: int, width: int) -> bool:
    """Whether a line is where scanners write text.

    These places are the top, the bottom and the upper corners of the frame.
    """
    across, down = (line.x0 + line.x1) / 2 / width, (line.y0 + line.y1) / 2 / height
    return not RIM <= down <= 1 - RIM or (min(across, 1 - across) < CORNER[0] and down < CORNER[1])


def _strokes(gray: Gray, inside: Mask | None) -> _Strokes:
    contrast = cv2.subtract(
        gray, cv2.morphologyEx(gray, cv2.MORPH_OPEN, np.ones((1, PEN), np.uint8))
    )
    if inside is not None:
        contrast = cv2.copyTo(contrast, np.ascontiguousarray(inside).view(np.uint8))
    _, mask = cv2.threshold(contrast, INK_STEP - 1, 1, cv2.THRESH_BINARY)
    upright = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 1), np.uint8))
    return _Strokes(gray, np.asarray(contrast, np.uint8), np.asarray(upright, np.uint8))


def _find_lines(strokes: _Strokes, proof: Proof) -> list[Line]:
    return [
        Line(line.x0 + x0, line.y0 + y0, line.x1 + x0, line.y1 + y0)
        for x0, y0, x1, y1 in _crowds(strokes.mask)
        for line in _lines_in(_Strokes(*(part[y0:y1, x0:x1] for part in strokes)), proof)
    ]


def _lines_in(strokes: _Strokes, proof: Proof) -> list[Line]:
    found, narrowest = [], 4 if proof.wide < 1 else 16
    for gap in GAPS:
        joined = cv2.morphologyEx(strokes.mask, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=4)
        x, y, wide, tall, area = stats.T
        long = (
            (tall >= HEIGHTS[0])
            & (tall <= HEIGHTS[1])
            & (wide >= narrowest)
            & (wide >= 0.75 * proof.wide * tall)
        )
        long &= area >= 0.35 * wide * tall
        for number in np.flatnonzero(long[1:]) + 1:
            place = np.s_[
                y[number] : y[number] + tall[number], x[number] : x[number] + wide[number]
            ]
            line = _tight(
                strokes.mask[place] * (labels[place] == number), int(x[number]), int(y[number])
            )
            if _is_print(line, strokes, proof):
                found.append(line)
    return found


def _crowds(mask: Gray) -> list[Line]:
    """Boxes, with a margin, that contain enough strokes for a line.

    Most frames have few of them.
    """
    blocks = cv2.blur(_shrunk(mask * np.uint8(255), BLOCK), (3, 1))
    crowd = cv2.dilate((blocks >= 255 * MIN_CROWD).view(np.uint8), np.ones((3, 7), np.uint8))
    _, stats = connected_components(crowd > 0)
    return [
        Line(
            *(
                int(BLOCK * edge)
                for edge in (max(0, x - 1), max(0, y - 1), x + wide + 1, y + tall + 1)
            )
        )
        for x, y, wide, tall, _ in stats[1:]
    ]


def _shrunk(gray: Gray, times: int) -> Gray:
    """A picture [H, W] reduced by an integer factor, without the rest at its edges."""
    if times == 1:
        return gray
    size = (gray.shape[1] // times, gray.shape[0] // times)
    whole = gray[: size[1] * times, : size[0] * times]
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)


def _tight(own: Gray, x: int, y: int) -> Line:
    """The box, at `x`, `y`, of the rows of `own` [h, w] that have many strokes.

    Such a row has a fair share of the strokes of the fullest row.
    """
    count = own.sum(axis=1)
    rows = np.flatnonzero(count >= 0.3 * count.max())
    columns = np.flatnonzero(own[rows[0] : rows[-1] + 1].any(axis=0))
    return Line(
        x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1
    )


def _is_print(line: Line, strokes: _Strokes, proof: Proof) -> bool:
    """Whether a line has enough strokes of one tone, and uniform areas above and below."""
    x0, y0, x1, y1 = line
    tall = y1 - y0
    if tall < HEIGHTS[0] or x1 - x0 < proof.wide * tall:
        return False
    mask = strokes.mask[y0:y1, x0:x1]
    begins = (mask[:, 1:] > mask[:, :-1]).sum(axis=1) + mask[:, 0]
    if _quantile(begins[tall // 6 : tall - tall // 6], 0.5) < proof.strokes:
        return False
    inks = (strokes.gray[y0:y1, x0:x1] * mask).max(axis=0)
    inks = inks[inks > 0].astype(np.float64)
    ink = _quantile(inks, 0.8)
    if (np.abs(inks - ink) <= SAME_INK * ink).mean() < proof.even:
        return False
    flank = max(2, round(0.35 * tall))
    beside = [strokes.contrast[max(0, y0 - 1 - flank) : max(0, y0 - 1), x0:x1]]
    beside.append(strokes.contrast[y1 + 1 : y1 + 1 + flank, x0:x1])
    calm = [float(part.mean()) for part in beside if part.size]
    return sum(calm) / max(1, len(calm)) <= proof.flank * float(
        strokes.contrast[y0:y1, x0:x1].mean()
    )


def _quantile(values: NDArray[Any], share: float) -> float:
    """The quantile of values [N], interpolated as `np.quantile` does.

    It is ten times as fast for so few values.
    """
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (place - below) * (high - low)
