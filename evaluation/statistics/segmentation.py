"""Agreement of two masks of a structure: overlap, and distances of their borders in mm.

A missed structure, also one that is drawn where it does not touch the truth, is no gap in the
data: an empty mask has Dice, IoU and NSD 0, and as HD95 the diagonal of the frame. Therefore
deleting a right mask never improves a number.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sono.annotation.masks import dice
from sono.curation.core.arrays import Mask
from sono.curation.core.geometry import bounding_box

Spacing = tuple[float, float]  # of rows and columns, mm
TOLERANCES_MM = (1.0, 2.0)
DETECTED = 0.5  # the least IoU of a structure that counts as found


@dataclass(frozen=True)
class Agreement:
    """How well a mask agrees with the truth; distances are NaN without a pixel spacing.

    Attributes:
        dice: Twice the common area over the sum of both areas.
        iou: The common area over the area of both together.
        detected: Whether the IoU is at least 0.5.
        nsd_1mm: The share of both borders within 1 mm of the other (normalized surface distance).
        nsd_2mm: The same within 2 mm.
        hd95_mm: The larger of the two 95th percentiles of border distances, in mm.
    """

    dice: float
    iou: float
    detected: float
    nsd_1mm: float
    nsd_2mm: float
    hd95_mm: float


def agreement(found: Mask, truth: Mask, spacing: Spacing | None = None) -> Agreement | None:
    """The agreement of two masks [H, W]; None if both are empty, which is no answer to count."""
    if not truth.any() and not found.any():
        return None
    common, either = int((found & truth).sum()), int((found | truth).sum())
    iou = common / either
    near, far = (np.nan, np.nan), np.nan
    if spacing is not None:
        near, far = _border_agreement(found, truth, spacing)
    return Agreement(dice(found, truth), iou, float(iou >= DETECTED), *near, far)


def border(mask: Mask) -> Mask:
    """The pixels of a mask [H, W] with a neighbor outside it, or on the border of the frame."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & (inner == 0))


def border_distances(one: Mask, other: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """The distance in mm of each border pixel of `one` [H, W] to the border of `other`."""
    x, y, width, height = bounding_box(one | other)
    cut = np.s_[y : y + height, x : x + width]
    # the border of the whole masks: the cut does not make another one
    near = distance_transform_edt(~border(other)[cut], sampling=spacing)
    return np.asarray(near[border(one)[cut]], np.float64)


def _border_agreement(
    found: Mask, truth: Mask, spacing: Spacing
) -> tuple[tuple[float, float], float]:
    """NSD at both tolerances, and HD95; the worst values if one of the masks is empty."""
    height, width = truth.shape
    worst = float(np.hypot(height * spacing[0], width * spacing[1]))
    if not found.any() or not truth.any():
        return (0.0, 0.0), worst
    there, back = border_distances(found, truth, spacing), border_distances(truth, found, spacing)
    both = np.concatenate([there, back])
    one, two = (float((both <= limit).mean()) for limit in TOLERANCES_MM)
    return (one, two), float(max(np.percentile(there, 95), np.percentile(back, 95)))
