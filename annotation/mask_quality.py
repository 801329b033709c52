"""Problems in the pixels of a mask: tiny, inverted, an open outline, many pieces, mostly cut away.

The limits are set against the 628 drawn masks of heads, abdomens and femurs of the Nijmegen and
Barcelona sets, as stored: all are of one piece without a hole, cover at most 60 % of their frame,
and are at most 12.7 times as long as wide. A head of 14 pixels, from wrong landmarks, is left out.
The smallest of the 3,584 Shenzhen boxes, a nasal tip, has 85 pixels and 0.026 % of its frame.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.outlines import convex_hull, cut, filled
from sono.curation.core.arrays import Mask
from sono.curation.core.geometry import bounding_box

# of the picture or of the stored frame; real masks: at most 0.60 of the stored frame
NEARLY_ALL = 0.9
MIN_AREA, MIN_SHARE = 16, 1e-4  # pixels, and of the stored frame; real masks: 85 and 2.6e-4
MAX_HOLES = 0.1  # of the filled shape; real masks: 0
MAX_PIECES = 32  # real masks: 1. Rows read as columns give 54 for a femur, a thresholded frame 353
MAX_LENGTH = 20  # widths of a shape that is no line; real masks: at most 12.7
MAX_HULL = 3  # areas of a line; its hull is larger where the line goes around something.
MIN_KEPT = 0.5  # of a mask inside the stored crop
SAME_SHAPE = 0.98  # overlap of a mask with what a tool made of it, above which nobody has edited it


def oddity(whole: Mask, kept: Mask, nested: bool = False) -> tuple[str, str] | None:
    """The reason and detail if a person should look at a mask, else None.

    `whole` [H, W] is the mask on its picture, `kept` [h, w] what the stored crop keeps of it at the
    same scale. The holes of a `nested` mask may be other structures.
    """
    if looks_tiny(kept):
        return "tiny", f"{np.count_nonzero(kept)} pixels of {kept.shape[0]} x {kept.shape[1]}"
    shown, stored = (filled(whole), filled(kept)) if nested else (whole, kept)
    if inverted := looks_inverted(shown) or looks_inverted(stored, borders=False):
        return "inverted", inverted
    part = cut(whole, bounding_box(whole))
    pieces = cv2.connectedComponents(part)[0] - 1
    if pieces > MAX_PIECES:
        return "pieces", f"{pieces} pieces"
    if is_open_line(part):
        return "open_line", ""
    share = int(np.count_nonzero(kept)) / max(int(np.count_nonzero(whole)), 1)
    if 0 < share < MIN_KEPT:
        return "cut_away", f"{share:.0%} of it is in the stored frame"
    return None


def looks_tiny(mask: Mask) -> bool:
    """Whether a mask [H, W] is smaller than any structure that a person outlines."""
    return int(np.count_nonzero(mask)) < max(MIN_AREA, MIN_SHARE * mask.size)


def looks_inverted(mask: Mask, borders: bool = True) -> str:
    """Why a mask [H, W] looks inverted; "" if it does not.

    It covers nearly everything, has a large hole, or (with `borders`) touches all four borders.
    """
    area = int(np.count_nonzero(mask))
    share = area / mask.size
    around = borders and all(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    holes = 1 - area / max(int(np.count_nonzero(filled(mask))), 1)
    if share <= NEARLY_ALL and not around and holes <= MAX_HOLES:
        return ""
    hole = f", and a hole of {holes:.0%} of the shape" * (holes > MAX_HOLES)
    return f"{share:.0%} of the picture{', and all four borders' * around}{hole}"


def is_open_line(mask: NDArray[np.uint8]) -> bool:
    """Whether the largest piece of a mask [H, W] of 0 and 1 is a thin, open outline."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if len(stats) < 2:
        return False
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height, area = (int(number) for number in stats[largest])
    piece = np.pad(labels[top : top + height, left : left + width] == largest, 1)
    thickness = 2 * float(cv2.distanceTransform(piece.astype(np.uint8), cv2.DIST_L2, 5).max())
    return bool(
        max(width, height) > MAX_LENGTH * thickness and convex_hull(piece).sum() > MAX_HULL * area
    )


def same_shape(one: Mask, other: Mask) -> bool:
    """Whether two masks [H, W] differ only as much as redrawing an outline changes them.

    That is 2 % of the area, or a pixel along the edge.
    """
    if (one & other).sum() >= SAME_SHAPE * (one | other).sum():
        return True
    return not ((one & ~_grown(other)).any() or (other & ~_grown(one)).any())


def _grown(mask: Mask) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
