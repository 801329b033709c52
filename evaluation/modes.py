"""The mask of each frame in each mode.

Only `annotated`, `box` and `shuffled` read the masks table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sono.annotation.masks import check_masks
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import sha256
from sono.curation.core.geometry import bounding_box, letterbox_mask
from sono.evaluation.outlines import StoredMask

# Their meanings are in templates/reports/words.toml.
MODES = (
    "all_one",
    "proposed",
    "proposed_shuffled",
    "regions",
    "regions_shuffled",
    "annotated",
    "box",
    "shuffled",
    "empty",
)
# scored from several masks, see sono.evaluation.proposed_regions
REGION_MODES = ("regions", "regions_shuffled")
ORACLE_MODES = ("annotated", "box", "shuffled")  # only for frames that have an annotated mask


@dataclass(frozen=True)
class MaskPlan:
    """The available masks by image id, and the donor of each frame in the shuffled modes."""

    annotated: Mapping[str, StoredMask]
    proposed: Mapping[str, StoredMask]
    annotated_donor: Mapping[str, str]
    proposed_donor: Mapping[str, str]

    def can(self, mode: str) -> bool:
        """Whether there is a mask for `mode`."""
        if mode in REGION_MODES:
            return False
        needs: dict[str, Mapping[str, object]] = {
            "proposed": self.proposed,
            "proposed_shuffled": self.proposed_donor,
            "annotated": self.annotated,
            "box": self.annotated,
            "shuffled": self.annotated_donor,
        }
        return bool(needs.get(mode, {"always": None}))


def plan_masks(
    annotated: Mapping[str, StoredMask], proposed: Mapping[str, StoredMask], seed: int
) -> MaskPlan:
    """Draw the donors of the shuffled modes."""
    return MaskPlan(annotated, proposed, derangement(annotated, seed), derangement(proposed, seed))


def derangement(image_ids: Iterable[str], seed: int) -> dict[str, str]:
    """For each image another one, each used once, independent of the given order.

    The result is empty for fewer than two images.
    """
    order = sorted(image_ids, key=lambda image_id: sha256(f"{seed}:{image_id}".encode()))
    if len(order) < 2:
        return {}
    return dict(zip(order, order[1:] + order[:1], strict=True))


def mask_for(plan: MaskPlan, mode: str, image_id: str, side: int) -> Mask | None:
    """The mask [side, side] of a frame in `mode`, in the model's geometry.

    The result is None if the frame has no mask in this mode.
    """
    if mode == "all_one":
        return np.ones((side, side), np.bool_)
    if mode == "empty":
        return np.zeros((side, side), np.bool_)
    if mode in ("proposed", "proposed_shuffled"):
        donor = plan.proposed_donor.get(image_id) if mode == "proposed_shuffled" else image_id
        found = plan.proposed.get(donor or "")
        return (
            np.ones((side, side), np.bool_)
            if found is None
            else letterbox_mask(found.pixels(), side)
        )
    donor = plan.annotated_donor.get(image_id) if mode == "shuffled" else image_id
    stored = plan.annotated.get(donor or "")
    if stored is None or image_id not in plan.annotated:
        return None
    pixels = stored.pixels()
    return letterbox_mask(box_mask(pixels) if mode == "box" else pixels, side)


def box_mask(mask: Mask) -> Mask:
    """The tight box of `mask` [H, W], as a mask of the same size."""
    box = np.zeros_like(mask)
    x, y, width, height = bounding_box(mask)
    box[y : y + height, x : x + width] = True
    return box


def usable_masks(masks: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """The accepted or edited masks of `frames`.

    Raises SonoError if a mask has another size than its frame.
    """
    usable = masks[masks["state"].isin(["accepted", "edited"]) & (masks["area"] > 0)]
    usable = usable[usable["image_id"].isin(frames["image_id"])]
    check_masks(usable, frames)
    return usable


def annotated_masks(masks: pd.DataFrame, frames: pd.DataFrame) -> dict[str, StoredMask]:
    """One accepted or edited mask of each frame, drawn by the hash of its id.

    Raises SonoError if a mask has another size than its frame.
    """
    usable = usable_masks(masks, frames)
    draws = usable["mask_id"].map(lambda mask_id: sha256(mask_id.encode()))
    chosen = usable.assign(draw=draws).sort_values(["image_id", "draw"]).drop_duplicates("image_id")
    columns = (chosen[name].tolist() for name in ("image_id", "counts", "height", "width"))
    return {
        image_id: StoredMask(counts, height, width)
        for image_id, counts, height, width in zip(*columns, strict=True)
    }
