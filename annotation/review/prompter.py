"""A new mask for a box or a point of the reviewer: by SAM, or without weights within a box."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sono.annotation.propose import EMBEDDINGS, MaskConfig, make_proposer
from sono.annotation.proposers import OutlineProposer, Prompt, Proposal
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace

if TYPE_CHECKING:
    from sono.annotation.sam import SamProposer

WITHOUT_SAM = "clicks and other structures need a model: start the review with --checkpoint SAM.pth"


@dataclass
class Prompter:
    """The proposer of a review. Calls wait for each other."""

    proposer: "OutlineProposer | SamProposer"
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, workspace: Workspace, checkpoint: Path | None) -> "Prompter":
        """SAM with its checkpoint, else the proposer without weights."""
        outlines = OutlineProposer(workspace.planes().outlines)
        config = workspace.settings("masks", MaskConfig)
        return cls(make_proposer(checkpoint, config, outlines, workspace.root / EMBEDDINGS))

    def kinds(self, structure: str) -> tuple[str, ...]:
        """Which prompts give a mask of the structure."""
        if not isinstance(self.proposer, OutlineProposer):
            return ("box", "point")
        return ("box",) if self.proposer.takes(structure) else ()

    def offer(self, structure: str) -> dict[str, Any]:
        """The prompts for the page, and why there are no others."""
        kinds = self.kinds(structure)
        return {"prompts": kinds, "no_prompt": "" if "point" in kinds else WITHOUT_SAM}

    def propose(
        self,
        gray: NDArray[np.uint8],
        structure: str,
        box: tuple[int, int, int, int] | None,
        point: tuple[int, int] | None,
    ) -> Proposal:
        """The mask for one box or point in a frame [H, W].

        Raises SonoError if nothing is found, or if no proposer takes such a prompt.
        """
        if (box is None) == (point is None):
            raise SonoError("a prompt is one box or one point")
        if ("point" if box is None else "box") not in self.kinds(structure):
            raise SonoError(f"no mask of {structure} for this prompt: {WITHOUT_SAM}")
        height, width = gray.shape
        x0, y0, x1, y1 = box or (*(point or (0, 0)), width, height)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise SonoError(f"the prompt is outside of the frame of {width} x {height} pixels")
        with self._guard:
            found = self.proposer.prompted(gray, Prompt(structure, box, point))
        if found is None or not found.mask.any():
            raise SonoError(f"no outline of the {structure} there; try a box that contains it")
        return found
