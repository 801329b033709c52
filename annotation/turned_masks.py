"""A sign that masks were exported mirrored or turned: they fit their frames better that way.

The fit of a mask is the contrast along its outline: a bright line such as a skull, or a difference
between inside and outside. Of the masks of the Barcelona, Nijmegen and Shenzhen sets, 1 to 15 % of
each set fit better turned (at most 35 % of one structure), and 83 to 99 % of turned copies fit
better if they are turned back. A single mask shows nothing, so the masks of an import are judged
together.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.frame_files import read_stored
from sono.curation.core.geometry import bounding_box, crop_box, shown_size
from sono.curation.core.rle import decode
from sono.curation.core.tables import Row, rows_of

MIN_MASKS = 20  # that move when they are turned; fewer show nothing
MAX_MASKS = 60  # looked at; each takes 30 to 100 ms
MAX_OVERLAP = 0.85  # of a mask with itself turned: a symmetric one shows nothing
SUSPECT = 0.6  # share of the masks that fit better turned
TURNS = {
    "mirrored left to right": (1, -1),
    "upside down": (-1, 1),
    "turned by 180 degrees": (-1, -1),
}  # steps along rows and columns
LINE = 150  # of the longer side of the frame: half the width of an outline
FRINGE = 3  # lines inside and outside that the outline is compared with
MIN_PIXELS = 10  # of outline, inside and outside


def turned_masks(masks: pd.DataFrame, accepted: Mapping[str, Row], root: Path) -> list[str]:
    """A message if most of `masks` fit their frames better turned in one way.

    `accepted` has the rows of the frames by image id; their pictures are below `root`.
    """
    if len(masks) < MIN_MASKS:
        return []
    # ids are hashes, so the first ones are a fixed random draw
    gains = _gains(masks.sort_values("mask_id")[:MAX_MASKS], accepted, root)
    shares = {turn: sum(one) / len(one) for turn, one in gains.items() if len(one) >= MIN_MASKS}
    turn = max(shares, key=lambda one: shares[one], default="")
    if not turn or shares[turn] <= SUSPECT:
        return []
    return [
        f"{sum(gains[turn])} of {len(gains[turn])} masks fit the edges in their frames better if "
        f"they are {turn}: was the picture turned when they were drawn or exported? Look at them "
        "with `sono masks overlays`"
    ]


def _gains(masks: pd.DataFrame, accepted: Mapping[str, Row], root: Path) -> dict[str, list[bool]]:
    """Each way of turning, and whether it improves the fit of each mask that it moves."""
    found: dict[str, list[bool]] = {turn: [] for turn in TURNS}
    for row in rows_of(masks):
        image = accepted[str(row["image_id"])]
        path = root / str(image["file"])
        if not path.is_file():
            continue
        gray = read_stored(path)
        mask = decode(str(row["counts"]), int(row["height"]), int(row["width"]))
        fit = fit_of(mask, gray)
        for turn, steps in TURNS.items():
            other = _turned(mask, image, steps)
            if (mask & other).sum() <= MAX_OVERLAP * (mask | other).sum() and fit is not None:
                again = fit_of(other, gray)
                found[turn] += [] if again is None else [again > fit]
    return found


def _turned(mask: Mask, image: Row, steps: tuple[int, int]) -> Mask:
    """A mask in stored pixels, turned around the middle of the frame before it was cropped."""
    x0, y0, x1, y1 = crop_box(image)
    whole = np.zeros(shown_size(image), np.bool_)
    whole[y0:y1, x0:x1] = mask
    return whole[:: steps[0], :: steps[1]][y0:y1, x0:x1]


def fit_of(mask: Mask, gray: Gray) -> float | None:
    """The contrast along the outline of `mask` [H, W] in `gray` [H, W], in gray levels.

    None if the mask is too small, or outside the sector.
    """
    width = max(1, round(max(gray.shape) / LINE))
    x, y, across, down = bounding_box(mask)
    if not across:
        return None
    margin = 2 * FRINGE * width
    part = np.s_[
        max(0, y - margin) : y + down + margin,
        max(0, x - margin) : x + across + margin,
    ]
    shape = mask[part].astype(np.uint8)
    smooth = cv2.GaussianBlur(gray[part], (0, 0), width / 2).astype(np.float32)
    grown, shrunk = (_resized(shape, step) for step in (width, -width))
    far, near = (_resized(shape, step * FRINGE) for step in (width, -width))
    inner = shrunk & ~near
    areas = [grown & ~shrunk, far & ~grown, inner if inner.any() else shape > 0]
    areas = [area & (gray[part] > 0) for area in areas]
    if min(int(area.sum()) for area in areas) < MIN_PIXELS:
        return None
    line, outside, inside = (float(smooth[area].mean()) for area in areas)
    return max(line - (inside + outside) / 2, abs(inside - outside) / 2)


def _resized(shape: np.ndarray, by: int) -> Mask:
    """A shape grown by a number of pixels, or shrunk by a negative one."""
    size = 2 * abs(by) + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray((cv2.dilate if by > 0 else cv2.erode)(shape, disk) > 0)
