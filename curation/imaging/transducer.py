"""The kind of probe that made a sector: convex, phased, linear or trapezoid.

It is derived from the sides and the shape of the top.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Gray
from sono.curation.imaging.echo_layers import background_tone
from sono.curation.imaging.sector import Sector, crop_to_sector

PARALLEL = 5.0  # degrees between two sides that never meet
UPRIGHT = 3.5  # degrees from straight down of a side that does not lean
# distance of the apex above the first echo over the depth; a phased array has its beams meet at the
# skin
POINTED = 0.1
FLAT = 0.01  # of the width, by which the top of a trapezoid departs from a straight row
SURE = 0.5  # by which a straight top must fit better than an arc
COLUMNS = 64  # in which the top is looked for
ECHO = 12  # gray levels above the background


def sector_kind(gray: Gray, sector: Sector) -> str:
    """`convex`, `phased`, `linear`, `trapezoid` or `full` (no side found).

    `gray` [H, W] is the frame of the sector. If the picture cuts off the top, the kinds cannot be
    distinguished, and the result is convex, as for most.
    """
    left, right = sector.angle_left, sector.angle_right
    if (
        sector.kind == "full"
        or sector.apex_x is None
        or sector.apex_y is None
        or left is None
        or right is None
    ):
        return kind_of_sides(left, right)
    columns, rows = first_echoes(gray, sector)
    if not len(rows):
        return kind_of_sides(left, right)
    top = float(rows.min())
    seen = len(rows) >= COLUMNS // 4 and float(np.mean(rows <= 0.01 * len(gray))) <= 0.5
    flat = seen and is_flat(columns - sector.apex_x, rows - sector.apex_y)
    return kind_of_sides(left, right, (top - sector.apex_y) / max(1.0, sector.box[3] - top), flat)


def kind_of_sides(
    left: float | None, right: float | None, gap: float | None = None, flat: bool | None = None
) -> str:
    """The kind for the angles of the sides and the shape of the top.

    Angles are in degrees (None if unknown), `gap` is the distance of the apex above the first echo
    in depths, and `flat` is whether the top is straight.
    """
    leans = [abs(angle) for angle in (left, right) if angle is not None]
    if not leans:
        return "full"
    if max(leans) <= UPRIGHT or (
        left is not None and right is not None and abs(right - left) <= PARALLEL
    ):
        return "linear"
    if gap is not None and gap < POINTED:
        return "phased"
    return "trapezoid" if flat else "convex"


def is_flat(across: NDArray[np.float64], down: NDArray[np.float64]) -> bool:
    """Whether points at `across`, `down` [N] from the apex are on a straight row, not on an arc."""
    radius = np.hypot(across, down)
    straight = float(np.median(np.abs(down - np.median(down))))
    round_ = float(np.median(np.abs(radius - np.median(radius))))
    return straight <= FLAT * float(np.ptp(across)) and straight < SURE * round_


def first_echoes(gray: Gray, sector: Sector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows [N] of the first echoes below the top, between the sides."""
    x0, y0, x1, _ = sector.box
    smooth = cv2.blur(crop_to_sector(gray, sector), (5, 5))
    least = background_tone(gray[::4, ::4]) + ECHO
    rows = np.flatnonzero(cv2.reduce(smooth, 1, cv2.REDUCE_MAX).ravel() > least)
    if not len(rows) or sector.apex_x is None or sector.apex_y is None:
        return np.empty(0), np.empty(0)
    reach = [np.tan(np.deg2rad(angle or 0.0)) for angle in (sector.angle_left, sector.angle_right)]
    first, last = (sector.apex_x + (rows[0] + y0 - sector.apex_y) * slope for slope in reach)
    columns = (
        np.unique(np.linspace(max(x0, first), min(x1 - 1, last), COLUMNS).astype(np.int64)) - x0
    )
    columns = columns[(columns >= 0) & (columns < smooth.shape[1])]
    lit = smooth[:, columns] > least
    columns, lit = columns[lit.any(axis=0)], lit[:, lit.any(axis=0)]
    return (columns + x0).astype(np.float64), (lit.argmax(axis=0) + y0).astype(np.float64)
