"""The ultrasound sector of a frame: its two straight sides, its arcs, and the box to crop.

A border is accepted only if a straight line has echoes along it and nothing but background beyond
it. A side without such a line is kept to the picture's edge, so that dark tissue is never cut away.
"""

from dataclasses import dataclass, replace
from functools import cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Box, Mask
from sono.curation.core.geometry import bounding_box
from sono.curation.imaging.border_text import background_lines
from sono.curation.imaging.echo_layers import (
    EchoLayer,
    background_tone,
    echo_layer,
    header_height,
    text_on_background,
)
from sono.curation.imaging.insets import edge_insets, framed_insets, lone_insets
from sono.curation.imaging.sector_sides import Side, Sides, find_sides, left_of, without_upright

WORK_SIDE = 256  # longer side of the small picture all searching is done on
ARC_STEP = 4  # the threshold for arcs and straight ends, above the noise of compression
MARGIN = 2.0  # pixels of the small picture added beyond every border found


@dataclass(frozen=True)
class Sector:
    """The place of the sector, in source pixels.

    Angles are in degrees from straight down, negative to the left.
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
    insets: tuple[Box, ...] = ()  # pictures in the picture, which are not inside

    @property
    def fraction(self) -> float:
        """Share of the picture that is inside."""
        return cv2.countNonZero(self.inside.view(np.uint8)) / self.inside.size


def across_sector(sector: Sector, step: int = 1) -> NDArray[np.float64]:
    """The position of each `step`-th pixel [h, w] of the crop across the sector.

    It is 0 on the left side and 1 on the right, by direction from the apex if that is known,
    otherwise by column.
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


def find_sector(gray: NDArray[np.uint8]) -> Sector:
    """The sector of the frame `gray` [H, W].

    Only insets and what is certainly background are excluded.
    """
    insets = [*framed_insets(gray), *edge_insets(gray)]
    insets += [box for box, own in lone_insets(gray) if _is_fan(_only_sector(own))]
    if not insets:
        return _only_sector(gray)
    rest, inset = gray.copy(), np.zeros(gray.shape, np.bool_)
    for x0, y0, x1, y1 in insets:
        inset[y0:y1, x0:x1] = True
    rest[inset] = background_tone(gray[::4, ::4])
    found = _only_sector(rest)
    return replace(found, inside=found.inside & ~inset, insets=tuple(insets))


def _is_fan(sector: Sector) -> bool:
    """Whether both sides were found and are not parallel."""
    return sector.kind == "convex" and None not in (sector.angle_left, sector.angle_right)


def _only_sector(gray: NDArray[np.uint8]) -> Sector:
    """The sector of a frame [H, W] without insets."""
    top = header_height(gray)
    scale = min(1.0, WORK_SIDE / max(gray.shape))
    size = (max(8, round(gray.shape[1] * scale)), max(8, round(gray.shape[0] * scale)))
    small = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    first_row = int(np.ceil(top * scale))
    tone = background_tone(small[::2, ::2])
    small[:first_row] = tone
    layer_at = cache(partial(echo_layer, small, tone))
    sides = find_sides(layer_at, size[0])
    layer = layer_at(ARC_STEP)
    borders = without_upright(sides, size[0])
    inside, geometry = _inside(layer, sides, borders)
    inside &= ~text_on_background(small, tone, inside & layer.echo)
    # rows above the faintest echo hold nothing; a sector may be filled with a tone just above the
    # background
    inside[
        : max(first_row, int((inside & (small > tone)).any(axis=1).argmax()) - round(2 * MARGIN))
    ] = False
    sector = _to_source(gray.shape, inside, borders, geometry, top)
    return replace(sector, inside=sector.inside & ~background_lines(gray, tone))


def crop_to_sector(gray: NDArray[np.uint8], sector: Sector) -> NDArray[np.uint8]:
    """The crop [y1 - y0, x1 - x0] of `gray`, zero outside the sector."""
    x0, y0, x1, y1 = sector.box
    inside = sector.inside.view(np.uint8)[y0:y1, x0:x1]
    return np.asarray(cv2.copyTo(gray[y0:y1, x0:x1], inside), np.uint8)


def _inside(layer: EchoLayer, sides: Sides, borders: Sides) -> tuple[Mask, dict[str, float]]:
    """The sector in small pixels, and its apex and radii as far as they are known."""
    left, right = sides
    shape = layer.echo.shape
    inside = np.ones(shape, bool)
    if left is not None:
        inside &= ~left_of(left, shape, MARGIN)
    if right is not None:
        inside &= ~left_of(right.mirrored(shape[1]), shape, MARGIN)[:, ::-1]
    geometry = _geometry(layer.echo & inside, *borders)
    if "radius_max" in geometry or "radius_min" in geometry:
        down = np.arange(shape[0])[:, None] - geometry["apex_y"]
        radius = np.hypot(down, np.arange(shape[1]) - geometry["apex_x"])
        inside &= radius <= geometry.get("radius_max", np.inf) + MARGIN
        inside &= radius >= geometry.get("radius_min", 0.0) - MARGIN
    inside[_flat_end(layer.echo & inside) :] = False
    return inside, geometry


def _geometry(echo: Mask, left: Side | None, right: Side | None) -> dict[str, float]:
    """The apex and the radii that many rays agree on.

    The apex is where the sides meet, if that is above the middle of the picture.
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
    """The column where many rows [N, M] have their first echo and few begin earlier, or None."""
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
    """The end row of a sector with a straight bottom; the last row of all without one."""
    columns = echo[:, echo.any(axis=0)].T
    below = _agreed_end(columns[:, ::-1], np.ones_like(columns)) if len(columns) else None
    return len(echo) if below is None else min(len(echo), len(echo) - below + round(2 * MARGIN))


def _to_source(
    shape: tuple[int, ...], inside: Mask, sides: Sides, geometry: dict[str, float], header: int
) -> Sector:
    """The sector in source pixels."""
    height, width = shape
    scale_x, scale_y = width / inside.shape[1], height / inside.shape[0]
    full = (
        cv2.resize(inside.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
        > 127
    )
    full[:header] = False
    x, y, box_width, box_height = bounding_box(inside)
    if not box_width:
        return Sector((0, 0, width, height), np.ones(shape, bool), "full", 0.0)
    box = (
        int(x * scale_x),
        max(header, int(y * scale_y)),
        min(width, int(np.ceil((x + box_width) * scale_x))),
        min(height, int(np.ceil((y + box_height) * scale_y))),
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


def _kind(sides: Sides) -> str:
    slopes = [abs(side.slope) for side in sides if side is not None]
    if not slopes:
        return "full"
    return "convex" if max(slopes) > 0.06 else "linear"


def _confidence(sides: Sides) -> float:
    return round(sum(min(1.0, side.support) for side in sides if side is not None) / 2, 4)
