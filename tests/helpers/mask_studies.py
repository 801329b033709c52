"""A small study of frames without pixels, and mask files to import into it."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sono.curation.core.rle import decode
from sono.curation.core.tables import IMAGES, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

SOURCE = (30, 40)  # height, width
BOX = (5, 2, 35, 28)  # crop x0, y0, x1, y1


def frame_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "image_id": f"{number:016x}", "source_id": f"source{number}", "frame": 0,
        "status": "accepted", "height": BOX[3] - BOX[1], "width": BOX[2] - BOX[0],
        "source_height": SOURCE[0], "source_width": SOURCE[1], "crop_x0": BOX[0], "crop_y0": BOX[1],
        "crop_x1": BOX[2], "crop_y1": BOX[3], "plane": "femur", "region": "lower limb",
        "file": f"frames/00/{number:016x}.png",
    }  # fmt: skip
    return row | changes


def make_study(
    folder: Path, paths: list[str], rows: list[dict[str, Any]] | None = None
) -> Workspace:
    """A workspace with a frame a path, and the vault's table of sources."""
    workspace = Workspace.create(folder / "study")
    rows = rows or [frame_row(number) for number in range(len(paths))]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    file = {"root": b"raw", "modified_ns": 0, "settings_hash": "0" * 16, "private": []}
    sources = [
        {**row, **file, "path": os.fsencode(path)} for row, path in zip(rows, paths, strict=True)
    ]
    write_table(workspace.sources_path, from_rows(SOURCES, sources), SOURCES)
    return workspace


def drawn() -> np.ndarray:
    mask = np.zeros(SOURCE, np.bool_)
    mask[10:16, 8:30] = True
    return mask


def coco_file(
    folder: Path, segmentation: Any, name: str = "scan.png", category: str = "femur", **size: int
) -> Path:
    path = folder / "masks.json"
    image = {"id": 7, "file_name": name, "height": SOURCE[0], "width": SOURCE[1], **size}
    annotation = {"id": 3, "image_id": 7, "category_id": 2, "segmentation": segmentation}
    content = {
        "images": [image],
        "annotations": [annotation],
        "categories": [{"id": 2, "name": category}],
    }
    path.write_text(json.dumps(content))
    return path


def png(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()
    )
    return path


def stored(workspace: Workspace) -> list[np.ndarray]:
    return [decode(row.counts, row.height, row.width) for row in workspace.masks().itertuples()]
