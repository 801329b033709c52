"""Export masks as COCO JSON over the stored frames; `sono masks import` reads it back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sono.annotation.masks import check_masks, masks_of
from sono.curation.core.atomic import atomic_path
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_file

DESCRIPTION = "sono: fetal ultrasound frames and masks, stored pixels"
START = f'{{\n "info": {{\n  "description": "{DESCRIPTION}"'.encode()  # of every export
ATTRIBUTES = ("mask_id", "state", "source", "model_hash", "prompt", "score", "stability")


@dataclass(frozen=True)
class ExportSummary:
    """What was written and where."""

    path: Path
    images: int
    masks: int
    private_strings: int


def export_coco(workspace: Workspace, target: Path, no_vault: bool = False) -> ExportSummary:
    """Write all accepted frames and their masks as COCO JSON, without rejected masks.

    The same tables give the same bytes. `file_name` is relative to the workspace; sizes and masks
    are in stored pixels. Nothing is written on an error: Raises PrivacyError if something private
    is found, SonoError if there are no masks, or when private text cannot be searched for (unless
    `no_vault`).
    """
    workspace.require_vault(no_vault)
    workspace.check_output(target, START)
    frames = workspace.accepted_images().drop_duplicates("image_id").sort_values("image_id")
    masks = masks_of(workspace, frames["image_id"])
    check_masks(masks, frames)
    numbers = {image_id: number for number, image_id in enumerate(frames["image_id"], start=1)}
    names = sorted(set(masks["structure"]))
    content = {
        "info": {"description": DESCRIPTION},
        "images": [_image(numbers, row) for row in frames.to_dict("records")],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [
            {
                "id": number,
                "category_id": names.index(row["structure"]) + 1,
                **_annotation(numbers, row),
            }
            for number, row in enumerate(masks.to_dict("records"), start=1)
        ],
    }
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        searched = check_file(workspace, temporary, target.name)
    return ExportSummary(target, len(frames), len(masks), searched)


def _image(numbers: Mapping[str, int], row: Mapping[Any, Any]) -> dict[str, object]:
    size = {"height": int(row["height"]), "width": int(row["width"])}
    return {"id": numbers[row["image_id"]], "file_name": row["file"], **size}


def _annotation(numbers: Mapping[str, int], row: Mapping[Any, Any]) -> dict[str, object]:
    return {
        "image_id": numbers[row["image_id"]],
        "segmentation": {"size": [int(row["height"]), int(row["width"])], "counts": row["counts"]},
        "bbox": [int(row[name]) for name in ("box_x", "box_y", "box_width", "box_height")],
        "area": int(row["area"]),
        "iscrowd": 0,
        "attributes": {name: None if pd.isna(row[name]) else row[name] for name in ATTRIBUTES},
    }
