"""Masks drawn on their frames, for a person to look at."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.masks import decode
from sono.curation.errors import SonoError
from sono.curation.geometry import letterbox, letterbox_mask
from sono.curation.storage import sha256, write_bytes
from sono.curation.stored import read_stored
from sono.curation.workspace import Workspace

CELL = 256  # pixels
COLUMNS = 6
FILL = 0.15  # share of the structure's colour inside its outline


def structure_color(structure: str) -> tuple[int, int, int]:
    """A bright RGB colour that follows from the name alone."""
    hue = int(sha256(structure.encode())[:8], 16) / 2**32
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(gray: NDArray[np.uint8], masks: Sequence[tuple[str, NDArray[np.bool_]]]) -> NDArray[np.uint8]:
    """Frame [H, W] as RGB [H, W, 3] with each (structure, mask [H, W]) lightly filled and outlined."""
    picture = np.repeat(gray[..., None], 3, axis=2)
    thickness = max(1, round(max(gray.shape) / 300))
    for structure, mask in masks:
        if mask.shape != gray.shape:
            raise SonoError(f"a mask of {mask.shape} on a frame of {gray.shape} (height, width); they must be equal")
        color = structure_color(structure)
        tinted = (1 - FILL) * picture[mask] + FILL * np.array(color)
        picture[mask] = tinted.round().astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, color, thickness)
    return picture


def write_overlays(workspace: Workspace, folder: Path, count: int = 24) -> Path:
    """Write `folder`/masks.png, a contact sheet of up to `count` frames with masks, every structure in turn."""
    frames = workspace.accepted_images().drop_duplicates("image_id").set_index("image_id")
    masks = workspace.masks()
    masks = masks[(masks["state"] != "rejected") & masks["image_id"].isin(frames.index)]
    if masks.empty:
        raise SonoError(f"{workspace.root}: no masks yet; run `sono masks propose` or `sono masks import`")
    cells = [
        _cell(read_stored(workspace.root / str(frames.at[image_id, "file"])), masks[masks["image_id"] == image_id])
        for image_id in choose_frames(masks, count)
    ]
    target = folder / "masks.png"
    done, png = cv2.imencode(".png", cv2.cvtColor(_sheet(cells), cv2.COLOR_RGB2BGR))
    if not done:
        raise SonoError(f"{target}: the contact sheet could not be encoded; choose fewer frames")
    write_bytes(target, png.tobytes())
    return target


def choose_frames(masks: pd.DataFrame, count: int) -> list[str]:
    """Image ids, the structures taking turns; ids are hashes, so their order is a fair draw that never changes."""
    queues = [sorted(set(group["image_id"])) for _, group in masks.groupby("structure", sort=True)]
    longest = max(map(len, queues))
    turns = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return list(dict.fromkeys(turns))[:count]


def _cell(gray: NDArray[np.uint8], masks: pd.DataFrame) -> NDArray[np.uint8]:
    drawn = [
        (str(row["structure"]), letterbox_mask(decode(row["counts"], int(row["height"]), int(row["width"])), CELL))
        for row in masks.sort_values("area", ascending=False).to_dict("records")
    ]
    cell = overlay(letterbox(gray, CELL), drawn)
    for line, structure in enumerate(dict.fromkeys(name for name, _ in drawn)):
        place = (6, 14 + 13 * line)
        cv2.putText(cell, structure, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, structure_color(structure), 1, cv2.LINE_AA)
    return cell


def _sheet(cells: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = min(COLUMNS, len(cells))
    blank = np.zeros((CELL, CELL, 3), np.uint8)
    padded = [*cells, *[blank] * (-len(cells) % columns)]
    rows = [np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)]
    return np.vstack(rows)
