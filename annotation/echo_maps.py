"""Input of the shape searches: brightness, slopes and ridges of a frame at a common size."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]

SIDE = 160  # pixels of the longer side
RIDGE_SIGMA = 2.0  # half the thickness of a skull at that size
LOCAL_SIGMA = 14.0  # contrast is measured against this neighborhood, so that weak arcs count too


@dataclass(frozen=True)
class EchoMaps:
    """Maps [h, w] at working size; a working pixel is 1 / `scale` stored pixels.

    `level`: brightness in standard deviations of the sector. `slope_*`, `bend_*`: first and second
    derivatives after local contrast normalization, zero at the sector's border. `bone`: brightness
    above the wide neighborhood.
    """

    scale: float
    level: Field
    slope_x: Field
    slope_y: Field
    bend_xx: Field
    bend_xy: Field
    bend_yy: Field
    bone: Field

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.level.shape[0], self.level.shape[1]


def echo_maps(gray: NDArray[np.uint8]) -> EchoMaps:
    """The maps of a frame [H, W]."""
    scale = SIDE / max(gray.shape)
    size = (max(8, round(gray.shape[1] * scale)), max(8, round(gray.shape[0] * scale)))
    small = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    sector = sector_of(small)
    echo = np.sqrt(small.astype(np.float32))
    weight = sector.astype(np.float32)
    # the picture is extended beyond the sector, so that the sector's border is not an edge
    around = _blur(echo * weight, 6) / np.maximum(_blur(weight, 6), 1e-3)
    whole = np.where(sector, echo, around)
    inside = echo[sector]
    level = _blur((whole - inside.mean()) / (inside.std() + 1), 1.5)
    slopes = _slopes(whole, weight)
    wide = _blur(np.where(sector, echo, 0), 30) / np.maximum(_blur(weight, 30), 0.05)
    bone = (_blur(np.where(sector, echo, 0), 1.6) - 0.7 * wide) / (inside.std() + 1e-3)
    return EchoMaps(scale, level, *slopes, bone)


def sector_of(small: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The convex hull [h, w] of the largest echoing area; everything if there is none."""
    echo = (cv2.GaussianBlur(small, (0, 0), 1) > 4).astype(np.uint8)
    echo = np.asarray(cv2.morphologyEx(echo, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))
    closed = cv2.morphologyEx(np.pad(echo, 40), cv2.MORPH_CLOSE, kernel)[40:-40, 40:-40]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(closed))
    if count < 2:
        return np.ones(small.shape, np.bool_)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    points = np.argwhere(labels == largest)[:, ::-1].astype(np.int32)
    hull = np.zeros(small.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return hull.astype(np.bool_)


def sample(
    x: Field, y: Field, *fields: Field, beyond: float = 0.0
) -> tuple[NDArray[np.bool_], list[Field]]:
    """Which points lie within the maps, and the nearest value of each field there.

    `x` and `y` have any one shape, as have the results; `beyond` is the value outside the maps.
    """
    height, width = fields[0].shape
    column, row = np.rint(x).astype(np.int32), np.rint(y).astype(np.int32)
    within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = np.where(within, row * width + column, 0)
    return within, [np.where(within, field.ravel()[index], np.float32(beyond)) for field in fields]


def _slopes(whole: Field, weight: Field) -> tuple[Field, Field, Field, Field, Field]:
    """Slope x, y and bend xx, xy, yy, per RIDGE_SIGMA, of the locally normalized picture."""
    mean = _blur(whole, LOCAL_SIGMA)
    spread = np.sqrt(np.maximum(_blur(whole * whole, LOCAL_SIGMA) - mean * mean, 0))
    even = _blur(whole, RIDGE_SIGMA) / (spread + 1)
    x, y = _derivative(even, 1, 0), _derivative(even, 0, 1)
    bends = (_derivative(x, 1, 0), _derivative(x, 0, 1), _derivative(y, 0, 1))
    kernel = np.ones((5, 5), np.uint8)
    inner = cv2.erode(weight, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1.0)
    slope_x, slope_y = (np.asarray(part * inner * RIDGE_SIGMA, np.float32) for part in (x, y))
    xx, xy, yy = (np.asarray(part * inner * RIDGE_SIGMA**2, np.float32) for part in bends)
    return slope_x, slope_y, xx, xy, yy


def _derivative(field: Field, x: int, y: int) -> Field:
    return np.asarray(cv2.Sobel(field, cv2.CV_32F, x, y, ksize=3) / 8, np.float32)


def _blur(field: Field, sigma: float) -> Field:
    return np.asarray(cv2.GaussianBlur(np.asarray(field, np.float32), (0, 0), sigma), np.float32)
