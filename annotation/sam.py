"""Segment Anything as a proposer: a local model of any size, prompted with boxes and points."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sono.annotation.proposers import Box, OutlineProposer, Prompt, Proposal, box_of
from sono.annotation.sam_models.embedding_cache import EmbeddingCache, frame_key
from sono.annotation.sam_models.model import Embedding, SamModel
from sono.curation.core.errors import SonoError


@dataclass
class SamProposer:
    """Prompts SAM with the boxes of known masks, or else of the outline found without weights.

    `margin` widens these boxes, by the share of their size on every side.
    """

    model: SamModel
    margin: float = 0.05
    outlines: OutlineProposer = field(default_factory=OutlineProposer)
    cache: EmbeddingCache | None = None
    source: ClassVar[str] = "sam"
    _last: tuple[str, Embedding] | None = None  # the frame of the last prompt

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        margin: float = 0.05,
        pixels: Literal["sam", "unit"] = "sam",
        outlines: OutlineProposer | None = None,
        cache: EmbeddingCache | None = None,
    ) -> "SamProposer":
        """From a checkpoint, or a folder with an ONNX encoder and decoder.

        `pixels` "unit" scales the input of a checkpoint to 0..1, as MedSAM expects. Raises
        SonoError if it is not a SAM.
        """
        return cls(_load(checkpoint, pixels), margin, outlines or OutlineProposer(), cache)

    @property
    def model_hash(self) -> str:
        """That of the model."""
        return self.model.hash

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """A mask for each box; the image is encoded once."""
        prompts = list(boxes) or self._outline_boxes(gray, plane, region)
        wide = [widen(box, self.margin, gray.shape) for box in prompts]
        found = [
            self.prompted(gray, Prompt(box.structure, box=(box.x0, box.y0, box.x1, box.y1)))
            for box in wide
        ]
        return [proposal for proposal in found if proposal.mask.any()]

    def prompted(self, gray: NDArray[np.uint8], prompt: Prompt) -> Proposal:
        """The mask for one box or point; the same frame is encoded once."""
        size = (gray.shape[0], gray.shape[1])
        logits, quality = self.model.decode(self._embedding(gray), size, prompt)
        if not (np.isfinite(quality) and np.isfinite(logits).all()):
            raise SonoError(
                "the model answers a prompt with values that are not finite; its weights are "
                "damaged, give another --checkpoint"
            )
        score = float(np.clip(quality, 0, 1))
        stable = stability_of(logits)
        return Proposal(prompt.structure, logits > 0, score, stable, prompt.as_json())

    def _embedding(self, gray: NDArray[np.uint8]) -> Embedding:
        key = frame_key(gray)
        if self._last is None or self._last[0] != key:
            known = self.cache.read(self.model.hash, key) if self.cache else None
            if known is None:
                known = self.model.encode(gray)
                if self.cache:
                    self.cache.write(self.model.hash, key, known)
            self._last = (key, known)
        return self._last[1]

    def _outline_boxes(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None
    ) -> list[Box]:
        outlines = self.outlines.propose(gray, plane, region, ()) if plane is not None else []
        return [
            box_of(outline.structure, outline.mask)
            for outline in outlines
            if outline.structure is not None
        ]


def _load(checkpoint: Path, pixels: Literal["sam", "unit"]) -> SamModel:
    if checkpoint.is_dir() or checkpoint.suffix == ".onnx":
        from sono.annotation.sam_models.onnx_sam import OnnxSam

        return OnnxSam.load(checkpoint)
    from sono.annotation.sam_models.torch_sam import TorchSam

    return TorchSam.load(checkpoint, pixels)


def stability_of(logits: NDArray[np.floating[Any]]) -> float:
    """Overlap of the masks at thresholds +1 and -1 (the smaller lies in the larger)."""
    outer = int((logits > -1).sum())
    return float((logits > 1).sum() / outer) if outer else 0.0


def widen(box: Box, margin: float, frame: tuple[int, ...]) -> Box:
    """`box` larger by `margin` of its size on every side, within the frame (height, width)."""
    dx, dy = round((box.x1 - box.x0) * margin), round((box.y1 - box.y0) * margin)
    x0, y0 = max(box.x0 - dx, 0), max(box.y0 - dy, 0)
    return Box(box.structure, x0, y0, min(box.x1 + dx, frame[1]), min(box.y1 + dy, frame[0]))
