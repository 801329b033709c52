"""The ultrasound sector of a frame: its two straight sides, its arcs, and the box to crop.

A border is believed only when a straight line has echoes along it and nothing but background beyond
it; a side without such a line is kept to the picture's edge, so that dark tissue is never cut away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.imaging.border_text import printed_lines
from sono.curation.imaging.components import connected_components

Mask = NDArray[np.bool_]

WORK_SIDE = 256  # longer side of the small picture all searching is done on
# echo thresholds tried in turn: the lowest is the most generous
STEPS_ABOVE_BACKGROUND = (0, 2, 4, 8)
ARC_STEP = 4  # the threshold for arcs and straight ends, above the noise of compression
# of a left side, from straight down, positive when it leans outward
ANGLES = np.deg2rad(np.arange(-4.0, 62.0, 1.5))
MARGIN = 2.0  # pixels of the small picture added beyond every border found
# share of the rows of a side on which echoes begin; tissue that happens to be straight has less
MIN_SUPPORT = 0.5


@dataclass(frozen=True)
class Sector:
    """Where the sector lies, in source pixels.

    Angles in degrees from straight down, left negative.
    """

    box: tuple[int, int, int, int]  # x0, y0, x1, y1, half-open
    inside: Mask  # [H, W] of the source; generous
    # "convex", "linear", or "full": no side found; all is kept but margins, bars and text on
    # background
    kind: str
    confidence: float  # 0 to 1
    apex_x: float | None = None
    apex_y: float | None = None
    angle_left: float | None = None
    angle_right: float | None = None
    radius_min: float | None = None
    radius_max: float | None = None

    @property
    def fraction(self) -> float:
        """Share of the picture inside."""
        return cv2.countNonZero(self.inside.view(np.uint8)) / self.inside.size


def across_sector(sector: Sector, step: int = 1) -> NDArray[np.float64]:
    """Where each `step`-th pixel [h, w] of the crop lies across the sector: 0 on the left side, 1
    on the right.

    By direction from the apex where that is known, else by column.
    """
    x0, y0, x1, y1 = sector.box
    columns, rows = (
        np.arange(x0, x1, step, dtype=np.float64),
        np.arange(y0, y1, step, dtype=np.float64)[:, None],
    )
    left, right = sector.angle_left, sector.angle_right
    if sector.apex_x is None or sector.apex_y is None or left is None or right is None:
        return np.broadcast_to((columns - x0) / (x1 - x0), (len(rows), len(columns)))
    angle = np.rad2deg(np.arctan2(columns - sector.apex_x, np.maximum(rows - sector.apex_y, 1.0)))
    return np.asarray((angle - left) / (right - left))


@dataclass(frozen=True)
class _Side:
    """A straight side x = offset + slope * y (small pixels), and the share of its rows that lie
    on it.
    """

    offset: float
    slope: float
    support: float

    def mirrored(self, width: int) -> "_Side":
        """The same side of the picture `width` wide, flipped left to right."""
        return _Side(width - 1 - self.offset, -self.slope, self.support)


@dataclass(frozen=True)
class _Layer:
    """What lies above one threshold: echoes (without letters and bars), and all connected parts."""

    echo: Mask
    labels: NDArray[np.int32]  # [H, W]
    stats: NDArray[np.int64]  # [N, 5]: x, y, width, height, area

    def mirrored(self) -> "_Layer":
        """Flipped left to right; the boxes in `stats` stay as they are."""
        return _Layer(np.ascontiguousarray(self.echo[:, ::-1]), self.labels[:, ::-1], self.stats)


_Sides = tuple[_Side | None, _Side | None]


def find_sector(gray: NDArray[np.uint8]) -> Sector:
    """The sector of the frame `gray` [H, W].

    Never smaller than what is certainly background allows.
    """
    top = _header_height(gray)
    scale = min(1.0, WORK_SIDE / max(gray.shape))
    size = (max(8, round(gray.shape[1] * scale)), max(8, round(gray.shape[0] * scale)))
    small = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    first_row = int(np.ceil(top * scale))
    tone = background_tone(small[::2, ::2])
    small[:first_row] = tone
    layer_at = cache(partial(_layer, small, tone))
    sides = _find_sides(layer_at, size[0])
    layer = layer_at(ARC_STEP)
    borders = _borders(sides, size[0])
    inside, geometry = _inside(layer, sides, borders)
    inside &= ~_text_on_background(small, tone, inside & layer.echo)
    # rows above the faintest echo hold nothing; a sector may be filled with a tone just above the
    # background
    inside[
        : max(first_row, int((inside & (small > tone)).any(axis=1).argmax()) - round(2 * MARGIN))
    ] = False
    sector = _to_source(gray.shape, inside, borders, geometry, top)
    return replace(sector, inside=sector.inside & ~printed_lines(gray, tone))


def crop_to_sector(gray: NDArray[np.uint8], sector: Sector) -> NDArray[np.uint8]:
    """The crop [y1 - y0, x1 - x0] of `gray`, zero outside the sector."""
    x0, y0, x1, y1 = sector.box
    inside = sector.inside.view(np.uint8)[y0:y1, x0:x1]
    return np.asarray(cv2.copyTo(gray[y0:y1, x0:x1], inside), np.uint8)


def background_tone(sample: NDArray[np.uint8]) -> int:
    """The tone of the screen around the sector.

    The darkest tones of `sample` [H, W], but for stray pixels.
    """
    return int(
        np.searchsorted(np.cumsum(np.bincount(sample.ravel(), minlength=256)), sample.size * 0.01)
    )


def _header_height(gray: NDArray[np.uint8]) -> int:
    """Height in rows of a gray or black bar across the top (where scanners print name and
    date), 0 without one.
    """
    rows = gray[: max(1, gray.shape[0] // 8), ::4].astype(np.int16)
    tone = np.median(rows, axis=1)
    share = (np.abs(rows - tone[:, None]) <= 8).mean(axis=1)
    start, end = _bar((share >= 0.4) & (tone >= 20), gray.shape[0])
    # above and below its letters a bar is flat all over; tissue is not
    flat = (share[start:end] > 0.8).mean() if end else 0.0
    if flat > 0.2 and (rows[start:end] > tone[start:end, None] + 50).mean() >= 0.005:
        return end + 2
    # a black bar is thin and ends at once over the whole width; black fluid and the corners of a
    # fan do not
    dark = (rows < 20).mean(axis=1)
    start, end = _bar(dark >= 0.6, gray.shape[0])
    return end + 2 if 0 < end <= 0.04 * gray.shape[0] and dark[end : end + 4].min() <= 0.2 else 0


def _bar(flat: Mask, height: int) -> tuple[int, int]:
    """First and end row of the run of flat rows at the top.

    (0, 0) where it is too thin, too low or has no end.
    """
    start = int(flat.argmax())
    breaks = np.flatnonzero(~flat[start:])
    if not flat[start] or start > 0.03 * height or len(breaks) == 0:
        return 0, 0
    end = start + int(breaks[0])
    return (start, end) if end - start >= max(6, 0.015 * height) else (0, 0)


def _layer(small: NDArray[np.uint8], tone: int, step: int) -> _Layer:
    """What lies `step` levels above the background `tone`."""
    echo = small > tone + step
    labels, stats = connected_components(echo)
    letters = _letters_and_bars(labels, stats, np.flatnonzero(small > tone + 50))
    return _Layer(echo & ~np.take(letters, labels) if letters.any() else echo, labels, stats)


def _letters_and_bars(
    labels: NDArray[np.int32], stats: NDArray[np.int64], bright: NDArray[np.intp]
) -> Mask:
    """Which parts [N] are small, bright and near the frame's rim: letters, ticks, the gray bar.

    `bright` are places in the raveled `labels`.
    """
    height, width = labels.shape
    shining = np.bincount(labels.ravel()[bright], minlength=len(stats))
    x, y, wide, tall, area = stats.T
    near_rim = (
        (x + wide < 0.27 * width)
        | (x > 0.73 * width)
        | (y + tall < 0.1 * height)
        | (y > 0.88 * height)
    )
    compact = (tall < 0.2 * height) & (wide < 0.26 * width)
    bar = (wide < 0.045 * width) & (tall < 0.6 * height)
    result = (compact | bar) & near_rim & (shining >= 0.12 * area) & (shining > 0)
    result[0] = False
    return np.asarray(result)


def _find_sides(layer_at: Callable[[int], _Layer], width: int) -> _Sides:
    """The left and the right side, each from the most generous layer that shows it."""
    left: _Side | None = None
    right: _Side | None = None
    for step in STEPS_ABOVE_BACKGROUND:
        layer = layer_at(step)
        left = left or _find_side(layer)
        right = right or _find_side(layer.mirrored())
        if left and right:
            break
    return _plausible((left, None if right is None else right.mirrored(width)), width)


def _find_side(layer: _Layer) -> _Side | None:
    """The left side of the sector, if there is nothing beyond it.

    For the right side give the mirrored layer.
    """
    side = _fit_side(layer.echo)
    return side if side is not None and _is_background_beyond(side, layer) else None


def _fit_side(echo: Mask) -> _Side | None:
    """The line that most rows' first echo lies on and few lie left of."""
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
        _Side(float(offset), float(slope), float(support))
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
    """Offset and slope of the line with the best vote: rows on it, less twice the rows left of it.

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


def _left_of(side: _Side, shape: tuple[int, ...], margin: float) -> Mask:
    """Pixels more than `margin` left of a left side."""
    edge = side.offset + side.slope * np.arange(shape[0]) - margin * np.hypot(1, side.slope)
    return np.asarray(np.arange(shape[1]) < edge[:, None])


def _is_background_beyond(side: _Side, layer: _Layer) -> bool:
    """Whether hardly any echo lies beyond the side, be it of parts that cross it or of parts
    wholly beyond.
    """
    beyond = _left_of(side, layer.echo.shape, 1.5)
    outside = np.bincount(layer.labels[beyond & layer.echo], minlength=len(layer.stats))
    crossing = outside[(outside > 0) & (outside < layer.stats[:, 4])].sum()
    return bool(
        crossing <= 0.003 * beyond.size
        and outside.sum() <= min(0.02 * beyond.size, 0.15 * beyond.sum())
    )


def _inside(layer: _Layer, sides: _Sides, borders: _Sides) -> tuple[Mask, dict[str, float]]:
    """The sector in small pixels, and its apex and radii as far as they are known."""
    left, right = sides
    shape = layer.echo.shape
    inside = np.ones(shape, bool)
    if left is not None:
        inside &= ~_left_of(left, shape, MARGIN)
    if right is not None:
        inside &= ~_left_of(right.mirrored(shape[1]), shape, MARGIN)[:, ::-1]
    geometry = _geometry(layer.echo & inside, *borders)
    if "radius_max" in geometry or "radius_min" in geometry:
        down = np.arange(shape[0])[:, None] - geometry["apex_y"]
        radius = np.hypot(down, np.arange(shape[1]) - geometry["apex_x"])
        inside &= radius <= geometry.get("radius_max", np.inf) + MARGIN
        inside &= radius >= geometry.get("radius_min", 0.0) - MARGIN
    inside[_flat_end(layer.echo & inside) :] = False
    return inside, geometry


def _geometry(echo: Mask, left: _Side | None, right: _Side | None) -> dict[str, float]:
    """Apex (where the sides meet above the picture's middle) and the radii that many rays agree
    on.
    """
    if left is None or right is None or right.slope - left.slope < 0.05:
        return {}
    apex_y = (left.offset - right.offset) / (right.slope - left.slope)
    apex_x = left.offset + left.slope * apex_y
    if apex_y > 0.5 * len(echo):
        return {}
    geometry = {"apex_x": apex_x, "apex_y": apex_y}
    angles = np.linspace(np.arctan(left.slope), np.arctan(right.slope), 66)[1:-1, None]
    radii = np.arange(1.0, np.hypot(max(apex_x, echo.shape[1] - apex_x), len(echo) - apex_y))
    across = (apex_x + radii * np.sin(angles)).astype(np.float32)
    down = (apex_y + radii * np.cos(angles)).astype(np.float32)
    rays = cv2.remap(echo.astype(np.uint8), across, down, cv2.INTER_NEAREST) > 0
    seen = (across >= 0) & (across <= echo.shape[1] - 1) & (down >= 0) & (down <= len(echo) - 1)
    far = _agreed_end(rays[:, ::-1], seen[:, ::-1])
    near = _agreed_end(rays, seen)
    if far is not None:
        geometry["radius_max"] = float(radii[len(radii) - 1 - far])
    if near is not None:
        geometry["radius_min"] = float(radii[near])
    return geometry


def _agreed_end(echo: Mask, seen: Mask) -> int | None:
    """The column where the first echo of many rows [N, M] lies and before which hardly any begins.

    None without.
    """
    has_echo = echo.any(axis=1)
    first = echo.argmax(axis=1)
    informative = has_echo & (first > seen.argmax(axis=1) + 3)
    counts = np.bincount(first[informative], minlength=echo.shape[1] + 2)
    nearby = counts[:-2] + counts[1:-1] + counts[2:]
    before = np.concatenate(
        [[0], np.cumsum(np.bincount(first[has_echo], minlength=echo.shape[1]))]
    )[: len(nearby)]
    score = nearby - 3 * before[: len(nearby)]
    best = int(score.argmax())
    return best if score[best] >= 0.35 * len(echo) else None


def _flat_end(echo: Mask) -> int:
    """The end row of a sector whose bottom is a straight row; the last row of all without one."""
    columns = echo[:, echo.any(axis=0)].T
    below = _agreed_end(columns[:, ::-1], np.ones_like(columns)) if len(columns) else None
    return len(echo) if below is None else min(len(echo), len(echo) - below + round(2 * MARGIN))


def _text_on_background(small: NDArray[np.uint8], tone: int, echo: Mask) -> Mask:
    """Letters in the upper corners, ticks and the gray bar at the rim, a little grown, free of
    echoes.
    """
    height, width = small.shape
    labels, stats = connected_components(small > tone + 12)
    x, y, wide, tall, area = stats.T
    upper_right = (y + tall < 0.36 * height) & (x > 0.8 * width) & (x + wide > 0.92 * width)
    upper_left = (y + tall < 0.14 * height) & (x + wide < 0.16 * width)
    letter = (upper_left | upper_right) & (tall < 0.2 * height) & (wide < 0.2 * width)
    tick = (
        ((x + wide < 0.06 * width) | (x > 0.94 * width))
        & (wide < 0.045 * width)
        & (tall < 0.6 * height)
    )
    solid = (tall > 4 * wide) | (area <= 0.0006 * small.size)
    text = letter | (tick & solid)
    text[0] = False
    if text.any():
        text &= (
            np.bincount(labels.ravel()[np.flatnonzero(small > tone + 70)], minlength=len(stats))
            >= 0.3 * area
        )
    if not text.any():
        return np.zeros_like(echo)
    grown = cv2.dilate(text[labels].astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray((grown > 0) & ~(echo & ~text[labels]))


def _to_source(
    shape: tuple[int, ...], inside: Mask, sides: _Sides, geometry: dict[str, float], header: int
) -> Sector:
    """The sector in source pixels."""
    height, width = shape
    scale_x, scale_y = width / inside.shape[1], height / inside.shape[0]
    full = (
        cv2.resize(inside.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
        > 127
    )
    full[:header] = False
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if len(rows) == 0:
        return Sector((0, 0, width, height), np.ones(shape, bool), "full", 0.0)
    box = (
        int(columns[0] * scale_x),
        max(header, int(rows[0] * scale_y)),
        min(width, int(np.ceil((columns[-1] + 1) * scale_x))),
        min(height, int(np.ceil((rows[-1] + 1) * scale_y))),
    )
    radii = {name: (value + 0.5) * scale_x for name, value in geometry.items()}
    slopes = [None if side is None else float(np.degrees(np.arctan(side.slope))) for side in sides]
    return Sector(
        box,
        full,
        _kind(sides),
        _confidence(sides),
        angle_left=slopes[0],
        angle_right=slopes[1],
        **radii,
    )


def _plausible(sides: _Sides, width: int) -> _Sides:
    """The sides, less those that may be the edge of a shadow or of tissue.

    Two sides must lean outward alike, or only the more leaning is kept; one alone must lean 8 to 40
    degrees. Upright trims at the picture's rim do no harm.
    """
    borders = _borders(sides, width)
    lean = [_lean(side, sign) for side, sign in zip(borders, (-1, 1), strict=True)]
    if None not in borders and abs(lean[0] - lean[1]) <= 12:
        return sides
    best = int(lean[1] > lean[0])
    keep = [side if border is None else None for side, border in zip(sides, borders, strict=True)]
    if 8 <= lean[best] <= 40:
        keep[best] = sides[best]
    return keep[0], keep[1]


def _lean(side: _Side | None, outward: int) -> float:
    """Degrees by which a side leans outward; -90 for none."""
    return -90.0 if side is None else outward * float(np.degrees(np.arctan(side.slope)))


def _borders(sides: _Sides, width: int) -> _Sides:
    """The sides, less upright ones at the picture's rim.

    These trim a margin and say nothing of the sector.
    """
    left, right = sides
    if left is not None and abs(left.slope) < 0.06 and left.offset < 0.05 * width:
        left = None
    if right is not None and abs(right.slope) < 0.06 and right.offset > 0.95 * width:
        right = None
    return left, right


def _kind(sides: _Sides) -> str:
    slopes = [abs(side.slope) for side in sides if side is not None]
    if not slopes:
        return "full"
    return "convex" if max(slopes) > 0.06 else "linear"


def _confidence(sides: _Sides) -> float:
    return round(sum(min(1.0, side.support) for side in sides if side is not None) / 2, 4)
