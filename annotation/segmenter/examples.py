"""Frames and accepted masks as the segmenter sees them: squares, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sono.annotation.masks import pixels
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.frame_files import read_stored
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.curation.core.workspace import Workspace


@dataclass(frozen=True)
class Examples:
    """N frames [N, S, S] and masks, packed to save memory.

    `masks` are the bits of [structures, S, S] of each frame. `known` [N, structures] is whether a
    frame says something about a structure: it has a mask of it, or its plane never shows it.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    known: NDArray[np.bool_]
    drawn: NDArray[np.bool_]  # [N, structures]: there is a mask
    planes: Mapping[str, tuple[str, ...]]  # the structures that the masks of a plane show

    def __len__(self) -> int:
        return len(self.frames)

    def masks_of(self, numbers: NDArray[np.intp]) -> NDArray[np.bool_]:
        """The masks [n, structures, S, S] of some frames."""
        side, count = self.frames.shape[1], self.known.shape[1]
        bits = np.unpackbits(self.masks[numbers], axis=1, count=count * side * side)
        return bits.reshape(len(numbers), count, side, side).astype(np.bool_)


def usable_masks(masks: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """The accepted and edited masks of these frames."""
    mine = masks["image_id"].isin(frames["image_id"]) & masks["state"].isin(TRAINED_STATES)
    return masks[mine]


def load_examples(
    workspace: Workspace,
    frames: pd.DataFrame,
    masks: pd.DataFrame,
    structures: Sequence[str],
    side: int,
) -> Examples:
    """Read the `frames` that have masks of the `structures`; sizes in pixels of the square."""
    wanted = masks[masks["structure"].isin(structures)]
    rows = frames[frames["image_id"].isin(wanted["image_id"])].sort_values("image_id")
    of_frame = {str(name): group for name, group in wanted.groupby("image_id")}
    planes = structures_of_planes(rows, wanted)
    grays, packed, drawn = [], [], []
    for row in rows.to_dict("records"):
        grays.append(letterbox(read_stored(workspace.root / str(row["file"])), side))
        found = _union(of_frame[str(row["image_id"])], structures, side)
        packed.append(np.packbits(found))
        drawn.append(found.any(axis=(1, 2)))
    has = np.array(drawn, np.bool_).reshape(len(rows), len(structures))
    absent = [
        [_never(planes, row["plane"], name) for name in structures]
        for row in rows.to_dict("records")
    ]
    return Examples(
        np.array(grays, np.uint8).reshape(len(rows), side, side),
        np.array(packed, np.uint8).reshape(len(rows), -(-len(structures) * side * side // 8)),
        has | np.array(absent, np.bool_).reshape(has.shape),
        has,
        planes,
    )


def structures_of_planes(frames: pd.DataFrame, masks: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The structures that have a mask in some frame of a plane, by plane."""
    plane = frames.drop_duplicates("image_id").set_index("image_id")["plane"]
    shown = masks["structure"].groupby(masks["image_id"].map(plane)).unique()
    return {str(name): tuple(sorted(found)) for name, found in shown.items()}


def _never(planes: Mapping[str, tuple[str, ...]], plane: object, structure: str) -> bool:
    return isinstance(plane, str) and plane in planes and structure not in planes[plane]


def _union(masks: pd.DataFrame, structures: Sequence[str], side: int) -> NDArray[np.bool_]:
    """The pixels [structures, S, S] of each structure; several masks of one are joined."""
    found = np.zeros((len(structures), side, side), np.bool_)
    for row in masks.to_dict("records"):
        found[structures.index(str(row["structure"]))] |= letterbox_mask(pixels(row), side)
    return found


def as_input(frames: NDArray[np.uint8]) -> Tensor:
    """Square frames [n, S, S] as the input [n, 1, S, S] of the model, tones 0 to 1."""
    return torch.from_numpy(frames[:, np.newaxis].astype(np.float32) / 255)
