"""Masks that are predicted without a person: by the weight-free proposer and by a segmenter."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sono.annotation.proposers import OutlineProposer, Proposer
from sono.annotation.segmenter.proposer import SegmenterProposer
from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.workspace import Workspace
from sono.evaluation.probes.encoder import Subject
from sono.evaluation.selection import Seen

OUTLINES, SEGMENTER = "outlines", "segmenter"


@dataclass(frozen=True)
class Proposers(Subject):
    """The proposers by name."""

    proposers: Mapping[str, Proposer]


def proposers_of(workspace: Workspace, segmenter: Path | None) -> Proposers:
    """The weight-free proposer, and the `segmenter` of a file or a run, if one is given."""
    outlines = OutlineProposer(workspace.planes().outlines)
    if segmenter is None:
        folder = workspace.runs / "weight-free proposer"
        return Proposers("the weight-free proposer", folder, Seen(), (), {OUTLINES: outlines})
    trained = SegmenterProposer.load(segmenter)
    name = segmenter.resolve().name if segmenter.is_dir() else segmenter.resolve().parent.name
    return Proposers(
        f"segmenter {name} and the weight-free proposer",
        workspace.runs / f"segmenter {name}",
        Seen(image_ids=frozenset(trained.info.image_ids_seen)),
        (),
        {OUTLINES: outlines, SEGMENTER: trained},
    )


def predicted(proposer: Proposer, gray: Gray, plane: str, structure: str) -> Mask | None:
    """The mask [H, W] with the best score of a structure; None if there is none.

    The proposer is given the plane, but no mask of a person.
    """
    found = [one for one in proposer.propose(gray, plane, None, ()) if one.structure == structure]
    return max(found, key=lambda one: one.score).mask if found else None
