"""The stage `masks propose`: run a proposer over the accepted frames, saving batch by batch."""

import reprlib
import shutil
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd
from pydantic import Field

from sono.annotation.doubt import with_doubt
from sono.annotation.masks import check_masks, concat_masks, mask_row, mask_table, replace_masks
from sono.annotation.proposers import HYPOTHESIS, Box, OutlineProposer, Proposer
from sono.curation.core.atomic import remove_leftovers, sha256
from sono.curation.core.config import Config
from sono.curation.core.console import warn
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import read_stored
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import MASKS, read_table, write_table
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy

if TYPE_CHECKING:
    from sono.annotation.sam import SamProposer

EMBEDDINGS = Path("packed", "embeddings")  # in the workspace; may be deleted at any time

# How each source finds its proposals.
MEANINGS = {
    "heuristic": "ellipses and lines that are fitted to the echoes, without a trained model",
    "sam": "the model in --checkpoint, started from boxes of masks or of such outlines",
    "model": "the segmenter in --with, trained on accepted masks",
}


class MaskConfig(Config):
    """`[masks]` in sono.toml: which proposals are kept, and how SAM is prompted."""

    min_score: float = Field(0.0, ge=0, le=1)
    box_margin: float = Field(0.05, ge=0, le=1)  # of the box's size, on every side
    sam_pixels: Literal["sam", "unit"] = "sam"  # "unit" for MedSAM
    cache_gb: float = Field(4.0, ge=0)  # of the encoder's results; SAM ViT-B: 4 MB a frame


@dataclass(frozen=True)
class ProposeSummary:
    """The counts of one run.

    `frames` were processed, frames that were `already_in_table` had proposals of this proposer, and
    `structures` counts the new masks. The structures of `by_best_guess` are not confirmed by a
    plane, because none is known. `passed_over` counts the frames without a proposal by plane,
    because a proposer finds outlines in only a few planes.
    """

    source: str
    source_means: str
    model_hash: str | None
    frames: int
    already_in_table: int
    proposed: int
    structures: dict[str, int]
    by_best_guess: int
    passed_over: dict[str, int]

    def refuse_nothing(self) -> None:
        """Raise SonoError if no frame has a proposal, from this run or an earlier one."""
        if not self.proposed and not self.already_in_table:
            counts = ", ".join(f"{plane} {count}" for plane, count in self.passed_over.items())
            raise SonoError(
                f"nothing was proposed for {self.frames} frames ({counts}); {self._why}"
            )

    @property
    def _why(self) -> str:
        """Why there may be no proposal, and what to do."""
        if self.source == "model":
            return (
                "the segmenter finds none of its structures in them: train it longer or on more "
                "masks, or run `sono masks propose` without --with"
            )
        return (
            f"outlines are known for {', '.join(sorted(PlaneTable().outlines))} and for planes "
            "with `outline` in the planes file, and SAM starts from boxes of masks: give `sono qc` "
            "records or folder names with planes, run `sono masks propose` without --checkpoint "
            "first, or import masks"
        )


class Job(NamedTuple):
    """One frame for the proposer."""

    image: dict[str, Any]
    boxes: tuple[Box, ...]


def propose_masks(
    workspace: Workspace,
    checkpoint: Path | None = None,
    engine: Engine | None = None,
    segmenter: Path | None = None,
) -> ProposeSummary:
    """Propose masks for the accepted frames.

    Without weights, by the SAM in `checkpoint`, or by a `segmenter` of `sono masks train`.

    Frames that have proposals of the same proposer are skipped. The result does not depend on
    workers or restarts.
    """
    config = workspace.settings("masks", MaskConfig)
    outlines = OutlineProposer(workspace.planes().outlines)
    proposer = (
        make_proposer(checkpoint, config, outlines, workspace.root / EMBEDDINGS)
        if segmenter is None
        else _trained(segmenter, checkpoint, workspace.planes())
    )
    frames = workspace.accepted_images().drop_duplicates("image_id")
    with workspace.lock():
        masks = _without_old_guesses(before := workspace.masks(), frames)
        parts = workspace.root / ".parts-masks" / f"{proposer.source}-{proposer.model_hash}"
        remove_leftovers(parts)
        earlier = [read_table(part, MASKS) for part in sorted(parts.glob("*.parquet"))]
        known = known_frames([masks, *earlier], proposer)
        jobs = _jobs(frames[~frames["image_id"].isin(known)], masks)
        fresh = _propose(
            workspace, proposer, jobs, parts, _own_engine(engine or Engine(), proposer)
        )
        new = _merged([*earlier, *fresh], frames, config)
        check_masks(new, frames)
        if len(new) or len(masks) < len(before):
            removed = before.loc[~before["mask_id"].isin(masks["mask_id"]), "image_id"]
            touched = {*new["image_id"], *removed}
            workspace.write(MASKS, with_doubt(replace_masks(masks, new), touched))
        shutil.rmtree(parts.parent, ignore_errors=True)
        check_privacy(workspace)
    structures = {
        str(name): int(count)
        for name, count in new["structure"].value_counts().sort_index().items()
    }
    skipped = int(frames["image_id"].isin(known).sum())
    passed_over = _passed_over(jobs, new, outlines.outlines)
    guesses = int(is_guess(new).sum())
    _warn_of_guesses(guesses, len(new))
    return ProposeSummary(
        proposer.source,
        MEANINGS[proposer.source],
        proposer.model_hash,
        len(jobs),
        skipped,
        len(new),
        structures,
        guesses,
        passed_over,
    )


def _warn_of_guesses(guesses: int, proposals: int) -> None:
    if guesses:
        warn(
            f"{guesses} of {proposals} proposals are guesses, because the plane of their frame is "
            "unknown: the structure may be wrong. Look at all of them in `sono masks review "
            "--reviewer NAME`, or give `sono qc` the planes (--records) and propose again"
        )


def _passed_over(
    jobs: Sequence[Job], new: pd.DataFrame, outlines: Container[str]
) -> dict[str, int]:
    """Frames without a new proposal by plane.

    For planes with an outline, none was found in these frames.
    """
    found = set(new["image_id"])
    planes = (_text(job.image["plane"]) for job in jobs if job.image["image_id"] not in found)
    names = (
        f"{plane} (nothing found)" if plane in outlines else plane or "no plane" for plane in planes
    )
    return dict(sorted(Counter(names).items()))


def is_guess(masks: pd.DataFrame) -> "pd.Series[bool]":
    """Which masks are proposals whose structure no plane confirms [masks]."""
    marked = masks["prompt"].fillna("").str.contains(f'"{HYPOTHESIS}"', regex=False)
    return (masks["state"] == "proposed") & marked


def _without_old_guesses(masks: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """The masks without guesses on frames whose plane is known by now."""
    known = frames.loc[frames["plane"].notna(), "image_id"]
    return masks[~(is_guess(masks) & masks["image_id"].isin(known))].reset_index(drop=True)


def make_proposer(
    checkpoint: Path | None,
    config: MaskConfig,
    outlines: OutlineProposer,
    cache: Path | None = None,
) -> "OutlineProposer | SamProposer":
    """The weight-free proposer, or SAM, which keeps its embeddings in the folder `cache`."""
    if checkpoint is None:
        return outlines
    from sono.annotation.sam import SamProposer
    from sono.annotation.sam_models.embedding_cache import EmbeddingCache

    kept = None if cache is None else EmbeddingCache(cache, int(config.cache_gb * 1e9))
    return SamProposer.load(checkpoint, config.box_margin, config.sam_pixels, outlines, kept)


def _trained(segmenter: Path, checkpoint: Path | None, planes: PlaneTable) -> Proposer:
    from sono.annotation.segmenter.proposer import SegmenterProposer

    if checkpoint is not None:
        raise SonoError("--checkpoint and --with are two proposers; run them one by one")
    proposer = SegmenterProposer.load(segmenter)
    unknown = [name for name in proposer.info.structures if name not in planes.structures]
    if unknown:
        raise SonoError(
            f"{segmenter}: finds {reprlib.repr(unknown[0])}, which is no structure of this study; "
            "add it to a plane in the planes file, or train a segmenter on this study's masks"
        )
    return proposer


def known_frames(tables: Sequence[pd.DataFrame], proposer: Proposer) -> set[str]:
    """Frames with a mask of this very proposer."""
    known: set[str] = set()
    for table in tables:
        own = (table["source"] == proposer.source) & (table["model_hash"] == proposer.model_hash)
        known.update(table.loc[own, "image_id"])
    return known


def _own_engine(engine: Engine, proposer: Proposer) -> Engine:
    """A model stays in this process: its weights would travel with every batch."""
    if isinstance(proposer, OutlineProposer):
        return engine
    return replace(engine, jobs=1, scheduler=None, batch_size=8)


def _jobs(frames: pd.DataFrame, masks: pd.DataFrame) -> list[Job]:
    boxes = _boxes(masks)
    columns = ["image_id", "height", "width", "plane", "region", "file"]
    rows = frames.sort_values("image_id")[columns].to_dict("records")
    return [
        Job({str(k): v for k, v in row.items()}, boxes.get(row["image_id"], ())) for row in rows
    ]


def _boxes(masks: pd.DataFrame) -> dict[str, tuple[Box, ...]]:
    """Boxes of the masks of each frame: of the reviewed ones, else of the weight-free proposals."""
    reviewed = masks["state"].isin(["accepted", "edited"])
    drawn = masks[reviewed | ((masks["state"] == "proposed") & (masks["source"] == "heuristic"))]
    better = set(masks.loc[reviewed, "image_id"])
    boxes: dict[str, tuple[Box, ...]] = {}
    for row in drawn.to_dict("records"):
        if row["image_id"] in better and row["state"] == "proposed":
            continue
        x, y = int(row["box_x"]), int(row["box_y"])
        box = Box(row["structure"], x, y, x + int(row["box_width"]), y + int(row["box_height"]))
        boxes[row["image_id"]] = (*boxes.get(row["image_id"], ()), box)
    return boxes


def _propose(
    workspace: Workspace, proposer: Proposer, jobs: list[Job], parts: Path, engine: Engine
) -> list[pd.DataFrame]:
    """Tables of new proposals, one a batch, each saved as soon as it is there."""
    tables = []
    work = partial(propose_one, proposer, workspace.root)
    for batch in run_batches(engine, work, jobs, _nothing, "masks", (workspace.config_path,)):
        table = mask_table([row for rows in batch for row in rows])
        if len(table):
            name = sha256("".join(sorted(table["mask_id"])).encode())[:16]
            write_table(parts / f"{name}.parquet", table, MASKS)
            tables.append(table)
    return tables


def propose_one(proposer: Proposer, root: Path, job: Job) -> list[dict[str, object]]:
    """Mask rows for one frame; proposals without structure or pixels are left out."""
    plane, region = (_text(job.image[name]) for name in ("plane", "region"))
    proposals = proposer.propose(
        read_stored(root / str(job.image["file"])), plane, region, job.boxes
    )
    return [
        mask_row(
            job.image, each.mask, each.structure, proposer.source, model_hash=proposer.model_hash,
            prompt=each.prompt, score=each.score, stability=each.stability,
        )
        for each in proposals if each.structure is not None and each.mask.any()
    ]  # fmt: skip


def _nothing(job: Job) -> list[dict[str, object]]:
    return []


def _merged(tables: list[pd.DataFrame], frames: pd.DataFrame, config: MaskConfig) -> pd.DataFrame:
    """All proposals for current frames with at least the minimum score."""
    whole = concat_masks(tables)
    wanted = whole["image_id"].isin(frames["image_id"]) & (whole["score"] >= config.min_score)
    return whole[wanted].reset_index(drop=True)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
