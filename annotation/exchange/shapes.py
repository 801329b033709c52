"""Polygons, boxes and circles as masks, clipped to the picture and bounded before drawing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode

Floats = NDArray[np.float64]

FAR = 4  # sides of the picture; a polygon that goes further is clipped first
MAX_COORDINATE = 1e6  # pixels; no picture is as large
MIN_INSIDE = 0.5  # of a box or circle: one that lies mostly outside was drawn on another picture
MIN_CLIPPED = 0.1  # of polygons, which some tools let run far beyond the picture


def draw_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The union [H, W] of polygons [[x0, y0, x1, y1, ...], ...] in pixels, by COCO's rasterizer.

    Raises SonoError for anything but a ring of finite x, y pairs, for polygons with less than a
    tenth of their area in the picture, and for outlines longer than the picture has pixels: the
    rasterizer needs memory for every step along an edge.
    """
    if not polygons:
        raise SonoError(
            "no polygon, so only a box at best; draw an outline, or import boxes as a table"
        )
    drawn = [_ring(polygon) for polygon in polygons]
    if all(ring.min() >= 0 and ring.max() <= 1 for ring in drawn):
        raise SonoError("points between 0 and 1 are shares of the picture; export them in pixels")
    rings = [_clipped(ring, size) for ring in drawn]
    _check_inside(drawn, size, MIN_CLIPPED)
    length = sum(_length(ring) for ring in rings)
    if length > size[0] * size[1]:
        raise SonoError(
            f"outlines of {length:.0f} pixels in a picture of {size[0]} x {size[1]}: that is no "
            "outline of a structure"
        )
    runs = coco.merge(coco.frPyObjects([ring.ravel().tolist() for ring in rings], *size))
    return decode(runs["counts"].decode("ascii"), *size)


def _check_inside(rings: Sequence[Floats], size: tuple[int, int], least: float) -> None:
    """Raise SonoError if less than `least` of the area of `rings` is inside the picture."""
    whole = sum(map(_area, rings))
    inside = sum(_area(_cut(ring, size)) for ring in rings)
    if inside < least * whole:
        raise SonoError(
            f"{inside / whole:.0%} of the outline is inside the picture of {size[1]} x {size[0]} "
            "pixels (width x height); it was drawn on another one"
        )


def _area(ring: Floats) -> float:
    after = np.roll(ring, -1, axis=0)
    return abs(float((ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]).sum())) / 2


def draw_box(
    left: float, top: float, right: float, bottom: float, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """The mask [H, W] of a box whose edges are given in pixels.

    Raises SonoError if most of it is outside the picture.
    """
    x0, x1 = (min(max(edge, 0.0), size[1]) for edge in (left, right))
    y0, y1 = (min(max(edge, 0.0), size[0]) for edge in (top, bottom))
    if not (right > left and bottom > top):
        raise SonoError(f"a box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) has no area")
    if (x1 - x0) * (y1 - y0) < MIN_INSIDE * (right - left) * (bottom - top):
        raise SonoError(
            f"the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) lies mostly outside the "
            f"picture of {size[1]} x {size[0]} pixels (width x height)"
        )
    return draw_polygons([[x0, y0, x1, y0, x1, y1, x0, y1]], size)


def draw_circle(x: float, y: float, radius: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels [H, W] whose centers are at most `radius` pixels from (x, y).

    Raises SonoError if most of them are outside the picture.
    """
    return draw_ellipse(x, y, radius, radius, size)


def draw_ellipse(
    x: float, y: float, across: float, down: float, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """The pixels [H, W] whose centers are in an upright ellipse with these half axes.

    Raises SonoError if most of them are outside the picture, or a number is none.
    """
    if not (min(across, down) > 0 and max(map(abs, (x, y, across, down))) <= MAX_COORDINATE):
        raise SonoError(f"an ellipse at ({x:g}, {y:g}) with half axes {across:g} and {down:g}")
    turns = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    ring = np.stack([x + across * np.cos(turns), y + down * np.sin(turns)], axis=1)
    _check_inside([ring], size, MIN_INSIDE)
    return _inside_ellipse(x, y, across, down, size)


def _inside_ellipse(
    x: float, y: float, across: float, down: float, size: tuple[int, int]
) -> NDArray[np.bool_]:
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None, :] + 0.5
    return np.asarray(((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 <= 1)


def points_of(numbers: Any, least: int) -> Floats:
    """Points [N, 2] of a list of pairs.

    Raises SonoError for fewer than `least` pairs, or numbers that are not finite.
    """
    try:
        points = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SonoError(f"points that are no list of numbers ({error})") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < least:
        raise SonoError(f"{points.size} numbers that are not {least} or more points of x and y")
    if not (np.abs(points) <= MAX_COORDINATE).all():  # also where a number is none
        raise SonoError(f"a point that is no finite number, or beyond {MAX_COORDINATE:g} pixels")
    return points


def _ring(polygon: Any) -> Floats:
    try:
        numbers = np.asarray(polygon, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SonoError(f"a polygon that is no list of numbers ({error})") from error
    if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2:
        raise SonoError(f"a polygon of {numbers.size} numbers that is no ring of x, y pairs")
    return points_of(numbers.reshape(-1, 2), 3)


def _length(ring: Floats) -> float:
    """The length of a closed ring [N, 2] in pixels, at least one for each point."""
    return float(np.maximum(np.abs(ring - np.roll(ring, 1, axis=0)).max(axis=1), 1).sum())


def _clipped(ring: Floats, size: tuple[int, int]) -> Floats:
    """A ring [N, 2] clipped to the surroundings of the picture, if it goes far beyond."""
    if (np.abs(ring) <= FAR * max(size)).all():
        return ring
    ring = _cut(ring, size)
    if not len(ring):
        raise SonoError("a polygon outside the picture; it was drawn on another one")
    return ring


def _cut(ring: Floats, size: tuple[int, int]) -> Floats:
    """The part of a ring [N, 2] inside the picture (Sutherland and Hodgman); empty if none."""
    for axis, end in ((0, size[1]), (1, size[0])):
        for side, sign in ((0.0, 1.0), (float(end), -1.0)):
            ring = _half(ring, axis, side, sign)
            if not len(ring):
                return ring
    return ring


def _half(ring: Floats, axis: int, side: float, sign: float) -> Floats:
    """The part of a ring where sign * (coordinate - side) is not negative."""
    depth = sign * (ring[:, axis] - side)
    before, depth_before = np.roll(ring, 1, axis=0), np.roll(depth, 1)
    crossing = (depth >= 0) != (depth_before >= 0)
    step = np.where(crossing, depth_before - depth, 1.0)
    cut = before + (depth_before / step)[:, None] * (ring - before)
    cut[:, axis] = side
    # of each edge the point where it crosses, then its end
    pairs = np.stack([cut, ring], axis=1).reshape(-1, 2)
    return np.asarray(pairs[np.stack([crossing, depth >= 0], axis=1).ravel()])
