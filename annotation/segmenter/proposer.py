"""Propose the masks that a trained segmenter finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sono.annotation.masks import dice
from sono.annotation.proposers import Box, Proposal
from sono.annotation.segmenter.examples import as_input
from sono.annotation.segmenter.files import SegmenterInfo, load_segmenter
from sono.annotation.segmenter.model import Segmenter
from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.atomic import file_sha256
from sono.curation.core.geometry import letterbox
from sono.curation.imaging.components import connected_components

LEAST_PART = 0.2  # of the area of the largest part; smaller parts of a structure are left out
LEAST_AREA = 2e-4  # of the frame; a smaller find is no structure


@dataclass(frozen=True)
class SegmenterProposer:
    """Proposes what the model finds of the structures of the plane; of all without a known plane.

    A score is the mean probability of the mask's pixels; the stability is the Dice between the
    frame's mask and that of its mirror image.
    """

    model: Segmenter
    info: SegmenterInfo
    model_hash: str
    source: ClassVar[str] = "model"

    @classmethod
    def load(cls, given: Path) -> "SegmenterProposer":
        """From the file of a segmenter or the folder of its run."""
        model, info, path = load_segmenter(given)
        return cls(model, info, file_sha256(path)[:16])

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """One mask for each structure that is found in a frame [H, W]."""
        names = self.info.structures
        wanted = set(self.info.planes.get(plane or "", names))
        direct, mirrored = self.probabilities(gray)
        proposals = []
        for name, one, other in zip(names, direct, mirrored, strict=True):
            if name not in wanted:
                continue
            share = in_frame((one + other) / 2, *gray.shape)
            mask = main_parts(share > 0.5)
            if np.count_nonzero(mask) >= max(1, LEAST_AREA * mask.size):
                score = float(share[mask].mean())
                proposals.append(Proposal(name, mask, score, dice(one > 0.5, other > 0.5)))
        return proposals

    @torch.inference_mode()
    def probabilities(self, gray: Gray) -> NDArray[np.float32]:
        """Probabilities [2, structures, S, S] of a frame and, turned back, of its mirror image."""
        square = as_input(letterbox(gray, self.info.image_size)[np.newaxis])
        both = torch.sigmoid(self.model(torch.cat([square, square.flip(-1)])))
        return np.stack([both[0].numpy(), both[1].flip(-1).numpy()])


def in_frame(square: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A letterboxed map [S, S] in the pixels of its frame [H, W]."""
    side = max(height, width)
    whole = cv2.resize(square, (side, side), interpolation=cv2.INTER_LINEAR)
    top, left = (side - height) // 2, (side - width) // 2
    return np.asarray(whole[top : top + height, left : left + width], np.float32)


def main_parts(mask: Mask) -> Mask:
    """A mask [H, W] without parts that are much smaller than its largest."""
    labels, stats = connected_components(mask)
    if len(stats) <= 2:
        return mask
    area = stats[:, 4]
    kept = area >= LEAST_PART * area[1:].max()
    kept[0] = False
    return np.asarray(kept[labels])
