"""Masks as rows: identity, checks, and what may replace what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.atomic import sha256
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import bounding_box
from sono.curation.core.rle import decode, encode
from sono.curation.core.tables import MASKS, empty_table, from_rows
from sono.curation.core.workspace import Workspace

SAME_MASK = ["image_id", "structure", "source"]
SAME_STRUCTURE = SAME_MASK[:2]


def masks_of(workspace: Workspace, image_ids: pd.Series | pd.Index) -> pd.DataFrame:
    """The masks of these frames that were not rejected; raises SonoError if there is none."""
    masks = workspace.masks()
    masks = masks[(masks["state"] != "rejected") & masks["image_id"].isin(image_ids)]
    if masks.empty:
        raise SonoError(
            f"{workspace.root}: no masks yet; run `sono masks propose` or `sono masks import`"
        )
    return masks


def mask_row(
    image: Mapping[str, Any], mask: NDArray[np.bool_], structure: str, source: str, **fields: object
) -> dict[str, object]:
    """A row of the masks table for `mask` [H, W] in the stored pixels of `image`.

    The id is a hash of image, structure, source and pixels. Raises SonoError for an empty mask or
    one of another size than the frame; masks are never rotated or scaled. `fields` fill the other
    columns (state: "proposed" unless given).
    """
    size = (int(image["height"]), int(image["width"]))
    if mask.shape != size:
        raise SonoError(
            f"frame {image['image_id']}: the mask of {structure} is {mask.shape[0]} x "
            f"{mask.shape[1]} pixels, the frame {size[0]} x {size[1]}; make it on this frame "
            "(height x width)"
        )
    x, y, width, height = bounding_box(mask)
    if not width:
        raise SonoError(
            f"frame {image['image_id']}: the mask of {structure} is empty; leave it out"
        )
    counts = encode(mask)
    row: dict[str, object] = {
        "mask_id": sha256("\0".join((image["image_id"], structure, source, counts)).encode())[:16],
        "image_id": image["image_id"],
        "structure": structure,
        "height": size[0],
        "width": size[1],
        "counts": counts,
        "box_x": x,
        "box_y": y,
        "box_width": width,
        "box_height": height,
        "area": int(np.count_nonzero(mask)),
        "source": source,
        "state": "proposed",
    }
    return row | fields


def pixels(row: Mapping[Any, Any]) -> NDArray[np.bool_]:
    """The mask [H, W] of a row."""
    return decode(row["counts"], int(row["height"]), int(row["width"]))


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice the common area over the sum of both areas."""
    return float(2 * (one & other).sum() / max(int(one.sum()) + int(other.sum()), 1))


def check_masks(masks: pd.DataFrame, images: pd.DataFrame) -> None:
    """Raise SonoError if a mask belongs to no image or has another size than its stored frame."""
    known = (
        images.dropna(subset=["image_id", "height"])
        .drop_duplicates("image_id")
        .set_index("image_id")
    )
    lost = masks[~masks["image_id"].isin(known.index)]
    if len(lost):
        raise SonoError(
            f"mask {lost.iloc[0].mask_id}: its image {lost.iloc[0].image_id} is not in the images "
            "table"
        )
    sizes = known.loc[masks["image_id"], ["height", "width"]].to_numpy(np.int64)
    wrong = np.flatnonzero((sizes != masks[["height", "width"]].to_numpy(np.int64)).any(axis=1))
    if len(wrong):
        mask, size = masks.iloc[wrong[0]], sizes[wrong[0]]
        raise SonoError(
            f"mask {mask.mask_id}: {mask.height} x {mask.width} pixels, but frame {mask.image_id} "
            f"has {size[0]} x {size[1]}; the frame changed since, make the mask again"
        )


def has_proposals(workspace: Workspace) -> bool:
    """Whether masks wait for a review."""
    return bool((workspace.read(MASKS, ["state"])["state"] == "proposed").any())


def next_to_proposals(masks: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The proposals in `masks` whose frame and structure have a reviewed mask of `new`, too."""
    reviewed = new[new["state"].isin(TRAINED_STATES)]
    both = _keys(masks, SAME_STRUCTURE).isin(_keys(reviewed, SAME_STRUCTURE))
    return masks[(masks["state"] == "proposed") & both]


def replace_masks(
    existing: pd.DataFrame, new: pd.DataFrame, replace: bool | None = None
) -> pd.DataFrame:
    """Merge two tables: `new` replaces proposals of the same image, structure and source.

    It also replaces the `outdated` masks; other reviewed masks stay. A new proposal is dropped if a
    person has already decided on this structure.
    """
    if new.empty:
        return existing
    reviewed = existing["state"] != "proposed"
    stale = ~reviewed & _keys(existing).isin(_keys(new))
    decided = (new["state"] == "proposed") & _keys(new).isin(_keys(existing[reviewed]))
    known = new["mask_id"].isin(existing.loc[reviewed, "mask_id"])
    stale |= outdated(existing, new, replace)
    return concat_masks([existing[~stale], new[~decided & ~known]])


def outdated(
    existing: pd.DataFrame, new: pd.DataFrame, replace: bool | None = None
) -> "pd.Series[bool]":
    """Which accepted masks of `existing` are replaced by accepted ones of `new` [existing].

    `replace` None: those of the same frame, structure and source; True: those of any source; False:
    none.
    """
    rejected = existing.loc[existing["state"] == "rejected", "mask_id"]
    fresh = new[new["state"].isin(TRAINED_STATES) & ~new["mask_id"].isin(rejected)]
    columns = SAME_STRUCTURE if replace else SAME_MASK
    again = _keys(existing, columns).isin(_keys(fresh, columns)) & (replace is not False)
    return (
        existing["state"].isin(TRAINED_STATES) & again & ~existing["mask_id"].isin(new["mask_id"])
    )


def concat_masks(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several mask tables in one, in order; the first of equal masks wins."""
    filled = [table for table in tables if len(table)]
    if not filled:
        return empty_table(MASKS)
    return pd.concat(filled, ignore_index=True).drop_duplicates("mask_id", ignore_index=True)


def mask_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Rows of `mask_row` as a checked table, each mask once."""
    return from_rows(MASKS, list({str(row["mask_id"]): row for row in rows}.values()))


def _keys(masks: pd.DataFrame, columns: Sequence[str] = SAME_MASK) -> pd.Index:
    return pd.MultiIndex.from_frame(masks[[*columns]])
