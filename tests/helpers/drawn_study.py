"""A small study that can be learned in seconds.

Femora are bright bars, heads are rings, and each center has five patients.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from studies import fill_vault

from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.atomic import write_bytes
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace

STRUCTURES = {"femur": "femur", "transthalamic": "fetal head"}
SPLITS = ("train", "train", "train", "val", "test")


def drawing(plane: str, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    shape = np.zeros((60, 80), np.uint8)
    center = (int(rng.integers(30, 50)), int(rng.integers(22, 38)))
    if plane == "femur":
        cv2.line(shape, (center[0] - 18, center[1]), (center[0] + 18, center[1] + 6), 1, 5)
    else:
        cv2.ellipse(shape, center, (20, 15), 0, 0, 360, 1, 3)
    speckle = rng.rayleigh(30, shape.shape)
    return np.clip(speckle * (1 + 4 * shape), 0, 255).astype(np.uint8), shape.astype(np.bool_)


def drawn_study(folder: Path) -> Workspace:
    """Centers A and B, 5 patients each, 4 frames of two planes each, masks and captions."""
    workspace = Workspace.create(folder)
    rng = np.random.default_rng(0)
    rows, masks = [], []
    for patient in range(10):
        for number, plane in enumerate(["femur", "transthalamic"] * 2):
            gray, shape = drawing(plane, rng)
            image_id = image_id_of(gray)
            write_bytes(workspace.root / frame_file(image_id, gray), encode_png(gray))
            row: dict[str, object] = {
                "image_id": image_id,
                "source_id": f"{patient}-{number}",
                "frame": 0,
            }
            row |= {
                "patient_id": f"w{patient}",
                "center": "AB"[patient % 2],
                "split": SPLITS[patient // 2],
            }
            row |= {
                "plane": plane,
                "status": "accepted",
                "height": 60,
                "width": 80,
                "file": frame_file(image_id, gray),
            }
            rows.append(row)
            masks.append(mask_row(row, shape, STRUCTURES[plane], "manual", state="accepted"))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(workspace)
    workspace.write(MASKS, mask_table(masks))
    build_captions(workspace)
    return workspace
