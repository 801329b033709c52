"""Run lengths by rows inside a box, zeros first: how CVAT writes masks."""

from collections.abc import Sequence

import numpy as np

from sono.annotation.exchange.foreign_masks import Size
from sono.curation.core.arrays import Mask
from sono.curation.core.errors import SonoError


def row_runs(part: Mask) -> list[int]:
    """The run lengths of a mask [h, w], row after row; the first run is of zeros."""
    flat = np.concatenate([[False], part.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], changes, [part.size]]))]


def run_mask(runs: Sequence[int], box: Sequence[float], size: Size) -> Mask:
    """The mask [H, W] of runs inside a box (left, top, width, height).

    Raises SonoError for a box outside the picture, and for runs that do not fill it.
    """
    if not all(float(side).is_integer() for side in box):
        raise SonoError(f"a mask in the box {list(box)}, which is not in whole pixels")
    left, top, width, height = map(int, box)
    inside = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
    if not inside or width < 1 or height < 1:
        raise SonoError(
            f"a mask of {width} x {height} pixels at ({left}, {top}), outside the picture of "
            f"{size[1]} x {size[0]} (width x height)"
        )
    if min(runs, default=0) < 0 or sum(runs) != width * height:
        raise SonoError(
            f"run lengths sum to {sum(runs)}, the box of the mask has {width} x {height} = "
            f"{width * height} pixels; export it again"
        )
    mask = np.zeros(size, np.bool_)
    flags = np.arange(len(runs)) % 2 == 1
    mask[top : top + height, left : left + width] = np.repeat(flags, runs).reshape(height, width)
    return mask
