"""Drawn outlines as filled masks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.geometry import bounding_box


def fill_outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` [H, W] with a thin closed outline filled.

    An outline that leaves the picture is replaced by its convex hull; other masks stay.
    """
    drawn = mask.sum()
    whole = filled(mask)
    if whole.sum() > 3 * drawn:
        return whole
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()
    if edge and drawn:
        hull = convex_hull(mask)
        if hull.sum() > 8 * drawn:
            return hull
    return mask


def convex_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull [H, W] of a mask that is not empty."""
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32)), 1)
    return hull.astype(np.bool_)


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` [H, W] with its holes filled."""
    x, y, _, _ = box = bounding_box(mask)
    outlines, _ = cv2.findContours(cut(mask, box), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(canvas, outlines, -1, 1, cv2.FILLED, offset=(x, y))
    return canvas.astype(np.bool_)


def cut(mask: NDArray[np.bool_], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The part of a mask [H, W] in a box, as 0 and 1; work on it is faster than on the frame."""
    x, y, width, height = box
    return mask[y : y + height, x : x + width].astype(np.uint8)
