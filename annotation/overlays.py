"""Masks drawn on their frames, for review."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.masks import masks_of, pixels
from sono.curation.core.atomic import write_bytes
from sono.curation.core.drawing import LEGEND, DrawnMask, contact_sheet, overlay
from sono.curation.core.frame_files import read_stored
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_texts

SIDE = 256  # pixels
COLUMNS = 6


@dataclass(frozen=True)
class OverlaySummary:
    """The sheet, the number of frames on it, and a message if others have masks, too."""

    sheet: Path
    frames: int
    remarks: tuple[str, ...]


def write_overlays(
    workspace: Workspace, folder: Path, count: int = 24, no_vault: bool = False
) -> OverlaySummary:
    """Write `folder`/masks.png: up to `count` frames with masks, structure names and image id.

    The structures take turns. The names are searched for private strings; raises SonoError if that
    is impossible, unless `no_vault`.
    """
    workspace.require_vault(no_vault)
    target = folder / "masks.png"
    workspace.check_output(target)
    frames = workspace.accepted_images().drop_duplicates("image_id").set_index("image_id")
    masks = masks_of(workspace, frames.index)
    tiles, structures = [], []
    for image_id in choose_frames(masks, count):
        gray = read_stored(workspace.root / str(frames.at[image_id, "file"]))
        picture, names = draw_masks(gray, masks[masks["image_id"] == image_id])
        tiles.append((picture, image_id))
        structures.append(names)
    texts = [text for _, text in tiles] + [name for names in structures for name in names]
    check_texts(workspace, "masks.png", texts)
    write_bytes(target, contact_sheet(tiles, COLUMNS, SIDE, LEGEND, structures=structures))
    whole = masks["image_id"].nunique()
    more = f"{len(tiles)} of {whole} frames with masks are drawn; --count {whole} draws all"
    return OverlaySummary(target, len(tiles), (more,) if whole > len(tiles) else ())


def choose_frames(masks: pd.DataFrame, count: int) -> list[str]:
    """Up to `count` image ids, the structures taking turns.

    Ids are hashes, so their order is a fixed random draw.
    """
    queues = [sorted(set(group["image_id"])) for _, group in masks.groupby("structure", sort=True)]
    longest = max(map(len, queues))
    turns = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return list(dict.fromkeys(turns))[:count]


def draw_masks(gray: NDArray[np.uint8], masks: pd.DataFrame) -> tuple[NDArray[np.uint8], list[str]]:
    """The frame with its masks, and their structures, the largest first; proposals are dashed."""
    drawn = [
        DrawnMask(
            str(row["structure"]),
            pixels(row),
            row["state"] == "proposed",
        )
        for row in masks.sort_values("area", ascending=False).to_dict("records")
    ]
    return overlay(gray, drawn), list(dict.fromkeys(each.structure for each in drawn))
