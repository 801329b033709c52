"""The straight sides of the sector, found by voting among the first echoes of all rows.

All positions are in pixels of the small picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Mask
from sono.curation.imaging.echo_layers import EchoLayer

# echo thresholds tried in turn: the lowest is the most generous
STEPS_ABOVE_BACKGROUND = (0, 2, 4, 8)
# of a left side, from straight down, positive when it leans outward
ANGLES = np.deg2rad(np.arange(-4.0, 62.0, 1.5))
# share of the rows of a side on which echoes begin; tissue that happens to be straight has less
MIN_SUPPORT = 0.5


@dataclass(frozen=True)
class Side:
    """A straight side x = offset + slope * y in small pixels.

    `support` is the share of its rows whose first echo is on it.
    """

    offset: float
    slope: float
    support: float

    def mirrored(self, width: int) -> "Side":
        """The same side in a picture `width` pixels wide, flipped left to right."""
        return Side(width - 1 - self.offset, -self.slope, self.support)


Sides = tuple[Side | None, Side | None]


def find_sides(layer_at: Callable[[int], EchoLayer], width: int) -> Sides:
    """The left and the right side, each from the lowest threshold that shows it."""
    left: Side | None = None
    right: Side | None = None
    for step in STEPS_ABOVE_BACKGROUND:
        layer = layer_at(step)
        left = left or _find_side(layer)
        right = right or _find_side(layer.mirrored())
        if left and right:
            break
    return _plausible_sides((left, None if right is None else right.mirrored(width)), width)


def _find_side(layer: EchoLayer) -> Side | None:
    """The left side of the sector, if there is nothing beyond it.

    For the right side pass the mirrored layer.
    """
    side = _fit_side(layer.echo)
    return side if side is not None and _is_background_beyond(side, layer) else None


def _fit_side(echo: Mask) -> Side | None:
    """The line that contains the first echo of most rows and has few echoes to its left."""
    first = echo.argmax(axis=1)
    rows = np.flatnonzero((first > 1) & echo[np.arange(len(echo)), first])
    first = first[rows].astype(np.float64)
    if len(rows) < 0.1 * len(echo):
        return None
    offset, slope = _vote(rows[::2], first[::2], echo.shape)
    for _ in range(2):
        near = np.abs(first - offset - slope * rows) <= 1.5 * np.hypot(1, slope)
        if near.sum() < 0.1 * len(echo):
            return None
        offset, slope = _regress(rows[near], first[near])
    visible = np.count_nonzero(offset + slope * np.arange(len(echo)) > 2)
    near = np.abs(first - offset - slope * rows) <= 1.5 * np.hypot(1, slope)
    support = near.sum() / max(1, visible)
    gain = np.clip(offset + slope * np.arange(len(echo)), 0, None).sum() / echo.size
    return (
        Side(float(offset), float(slope), float(support))
        if support >= MIN_SUPPORT and gain >= 0.003
        else None
    )


def _regress(rows: NDArray[np.int64], first: NDArray[np.float64]) -> tuple[float, float]:
    """Offset and slope of the least squares line."""
    centered = rows - rows.mean()
    slope = float(centered @ first / max(1.0, float(centered @ centered)))
    return float(first.mean()) - slope * float(rows.mean()), slope


def _vote(
    rows: NDArray[np.int64], first: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[float, float]:
    """Offset and slope of the best line: rows on it, minus twice the rows left of it.

    Votes are counted in halves of a row.
    """
    below_zero = shape[0] // 8  # sides that lean inward a little begin left of the picture
    count = sum(shape) + below_zero
    distance = first * np.cos(ANGLES)[:, None] + rows * np.sin(ANGLES)[:, None] + below_zero
    bins = distance.astype(np.int64) + count * np.arange(len(ANGLES))[:, None]
    votes = (
        np.bincount(bins.ravel(), minlength=count * len(ANGLES))
        .reshape(len(ANGLES), count)
        .astype(np.int16)
    )
    ahead = np.cumsum(votes, axis=1, dtype=np.int16)
    score = 2 * votes[:, 1:-1] + 2 * votes[:, 2:] + votes[:, :-2]
    score[:, 1:] -= 4 * ahead[:, :-3]
    angle, place = np.unravel_index(int(score.argmax()), score.shape)
    theta, c = ANGLES[angle], float(place) + 2.0 - below_zero
    return float(c / np.cos(theta)), float(-np.tan(theta))


def left_of(side: Side, shape: tuple[int, ...], margin: float) -> Mask:
    """Pixels more than `margin` left of a left side."""
    edge = side.offset + side.slope * np.arange(shape[0]) - margin * np.hypot(1, side.slope)
    return np.asarray(np.arange(shape[1]) < edge[:, None])


def _is_background_beyond(side: Side, layer: EchoLayer) -> bool:
    """Whether there is almost no echo beyond the side.

    Components that cross the side and components completely beyond it both count.
    """
    beyond = left_of(side, layer.echo.shape, 1.5)
    outside = np.bincount(layer.labels[beyond & layer.echo], minlength=len(layer.stats))
    crossing = outside[(outside > 0) & (outside < layer.stats[:, 4])].sum()
    return bool(
        crossing <= 0.003 * beyond.size
        and outside.sum() <= min(0.02 * beyond.size, 0.15 * beyond.sum())
    )


def _plausible_sides(sides: Sides, width: int) -> Sides:
    """The sides, without those that may be the edge of a shadow or of tissue.

    Two sides must lean outward at similar angles, or only the one that leans more is kept; a single
    side must lean 8 to 40 degrees. Upright sides at the picture's border do no harm.
    """
    borders = without_upright(sides, width)
    lean = [_outward_lean(side, sign) for side, sign in zip(borders, (-1, 1), strict=True)]
    if None not in borders and abs(lean[0] - lean[1]) <= 12:
        return sides
    best = int(lean[1] > lean[0])
    keep = [side if border is None else None for side, border in zip(sides, borders, strict=True)]
    if 8 <= lean[best] <= 40:
        keep[best] = sides[best]
    return keep[0], keep[1]


def _outward_lean(side: Side | None, outward: int) -> float:
    """Degrees by which a side leans outward; -90 for none."""
    return -90.0 if side is None else outward * float(np.degrees(np.arctan(side.slope)))


def without_upright(sides: Sides, width: int) -> Sides:
    """The sides, without upright ones at the picture's border.

    These trim a margin and give no information about the sector.
    """
    left, right = sides
    if left is not None and abs(left.slope) < 0.06 and left.offset < 0.05 * width:
        left = None
    if right is not None and abs(right.slope) < 0.06 and right.offset > 0.95 * width:
        right = None
    return left, right
