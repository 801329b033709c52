"""Fetal biometry from masks, in mm: head and abdomen by an ellipse, long bones by their length.

Everything is computed in mm with the spacing of each axis, along the outer edges of the pixels.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.outlines import filled
from sono.curation.core.arrays import Mask

Points = NDArray[np.float64]  # [N, 2], x and y
Spacing = tuple[float, float]  # of rows and columns, mm

MIN_FIT = 0.9  # overlap of a mask with its ellipse, below which it is none. HC18: at least 0.99
MIN_POINTS = 24  # of an outline
MIN_INSIDE = 0.5  # of an outline that is not on the border of the frame

CONVENTIONS = MappingProxyType(
    {
        "hc": "perimeter of the ellipse through the outer edge of the mask",
        "bpd": "outer to outer: short axis of the ellipse through the outer edge of the mask",
        "ofd": "outer to outer: long axis of the ellipse through the outer edge of the mask",
        "ac": "perimeter of the ellipse through the outer edge of the mask",
        "fl": "long side of the smallest rectangle around the mask",
    }
)
# of the five measures as structured reports of obstetric ultrasound code them
LOINC = MappingProxyType(
    {"hc": "11984-2", "bpd": "11820-8", "ofd": "11851-3", "ac": "11979-2", "fl": "11963-6"}
)


class Rule(NamedTuple):
    """What is measured on a structure, and the planes on which that is biometry."""

    measures: tuple[str, ...]
    planes: tuple[str, ...]


# The planes of the ISUOG guidelines; a head on another plane is cut at another height.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "fetal head": Rule(("hc", "bpd", "ofd"), ("transthalamic", "transventricular")),
        "fetal abdomen": Rule(("ac",), ("abdominal_circumference",)),
        "femur": Rule(("fl",), ("femur",)),
    }
)


class UnmeasuredError(Exception):
    """A mask that is not measured; the text says why."""


class Ellipse(NamedTuple):
    """An ellipse: its center, its complete axes, and the direction of the long one in radians."""

    x: float
    y: float
    long: float
    short: float
    turn: float

    @property
    def perimeter(self) -> float:
        """The circumference by Ramanujan's second formula; exact to 1e-7 for shapes of heads."""
        a, b = self.long / 2, self.short / 2
        flat = ((a - b) / (a + b)) ** 2
        return float(np.pi * (a + b) * (1 + 3 * flat / (10 + np.sqrt(4 - 3 * flat))))


def measure(mask: Mask, spacing: Spacing, structure: str) -> dict[str, float]:
    """The measures of a `structure` of `RULES` in mm, by name.

    Raises UnmeasuredError if the mask [H, W] has not the shape that is measured.
    """
    if structure == "femur":
        return {"fl": length(mask, spacing)}
    ellipse = fit_ellipse(mask, spacing)
    if structure == "fetal abdomen":
        return {"ac": ellipse.perimeter}
    return {"hc": ellipse.perimeter, "bpd": ellipse.short, "ofd": ellipse.long}


def fit_ellipse(mask: Mask, spacing: Spacing) -> Ellipse:
    """The ellipse in mm that fits the outline of `mask` [H, W] best, without its holes.

    Parts of the outline on the border of the frame do not count, because the structure
    continues there. Raises UnmeasuredError for a mask that is no ellipse.
    """
    edges = _edge_centers(filled(mask))
    inside = ((edges > 0) & (edges < [mask.shape[1], mask.shape[0]])).all(axis=1)
    if inside.sum() < max(MIN_POINTS, MIN_INSIDE * len(edges)):
        raise UnmeasuredError("less than half of the outline is inside the frame")
    scale = np.array([spacing[1], spacing[0]])
    points = edges[inside] * scale
    center = points.mean(axis=0)
    found = cv2.fitEllipseDirect((points - center).astype(np.float32))
    (x, y), (width, height), degrees = found
    turn = np.deg2rad(degrees if width >= height else degrees + 90)
    ellipse = Ellipse(
        float(x + center[0]), float(y + center[1]), max(width, height), min(width, height),
        float(turn),
    )  # fmt: skip
    if not ellipse.short > 0 or _overlap(mask, ellipse, scale) < MIN_FIT:
        raise UnmeasuredError("the mask has not the shape of an ellipse")
    return ellipse


def length(mask: Mask, spacing: Spacing) -> float:
    """The length in mm of the largest part of a mask [H, W]: the longest axis of a bone.

    Raises UnmeasuredError if the mask is not longer than wide, or reaches the border of the frame.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    edges = _edge_centers(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))
    if (edges <= 0).any() or (edges >= [mask.shape[1], mask.shape[0]]).any():
        raise UnmeasuredError("the mask reaches the border of the frame")
    points = edges * np.array([spacing[1], spacing[0]])
    sides = cv2.minAreaRect((points - points.mean(axis=0)).astype(np.float32))[1]
    if max(sides) < 2 * min(sides):
        raise UnmeasuredError("the mask is not twice as long as wide")
    return float(max(sides))


def _edge_centers(mask: Mask) -> Points:
    """The middle of every outer pixel edge [N, 2] of a mask [H, W], in pixels."""
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    found = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        near = padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        y, x = np.nonzero(mask & ~near)
        found.append(np.stack([x + 0.5 + right / 2, y + 0.5 + down / 2], axis=1))
    return np.concatenate(found)


def _overlap(mask: Mask, ellipse: Ellipse, scale: NDArray[np.float64]) -> float:
    """Intersection over union of a mask and its ellipse inside the frame."""
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    x, y = (columns + 0.5) * scale[0] - ellipse.x, (rows + 0.5) * scale[1] - ellipse.y
    along = x * np.cos(ellipse.turn) + y * np.sin(ellipse.turn)
    across = y * np.cos(ellipse.turn) - x * np.sin(ellipse.turn)
    drawn = (2 * along / ellipse.long) ** 2 + (2 * across / ellipse.short) ** 2 <= 1
    whole = filled(mask)
    return float((drawn & whole).sum() / max(int((drawn | whole).sum()), 1))
