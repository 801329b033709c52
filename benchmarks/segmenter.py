"""Dice of a segmenter's proposals, and the error of the head circumference, on unseen patients.

Trains on the accepted masks of some patients of a study, proposes on the others, also with calipers
painted on the structure, and compares with their masks. The study is a workspace that `sono qc` and
`sono masks import` have filled. Either its splits are used (set the shares under `[splits]`, for
example 0.45, 0.05 and 0.5), or with --folds patients are divided here and the study stays as it is;
a frame without a patient then counts as one of its own.

Example: python benchmarks/segmenter.py study --spacing-csv training_set_pixel_size_and_HC.csv
         python benchmarks/segmenter.py shenzhen --folds 5
         python benchmarks/segmenter.py barcelona --folds 2 --fold 0
         python benchmarks/segmenter.py phantom --folds 4 --fold 0 --hold-out B
         python benchmarks/segmenter.py study --outlines transthalamic --spacing-csv CSV
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.biometry import UnmeasuredError, measure
from sono.annotation.masks import dice, pixels
from sono.annotation.proposers import Box, OutlineProposer, Proposal
from sono.annotation.segmenter.config import SegmenterConfig
from sono.annotation.segmenter.examples import usable_masks
from sono.annotation.segmenter.fit import learn, train_segmenter
from sono.annotation.segmenter.proposer import SegmenterProposer
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.frame_files import read_stored
from sono.curation.core.geometry import bounding_box
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import training_rows
from sono.curation.dataset.splits import fold_splits
from sono.curation.phantom.burned_in_overlays import calipers

HEAD = "fetal head"


class Seen(Protocol):
    """The structures that a proposer finds, and the frames that it was fitted on."""

    structures: list[str]
    image_ids_seen: list[str]


class Scored(Protocol):
    """A proposer with what it has seen."""

    @property
    def info(self) -> Seen:
        """What it finds, and what it has seen."""

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """As `Proposer` does."""


@dataclass
class Tuned:
    """The frames on whose patients constants were set by hand count as seen."""

    structures: list[str]
    image_ids_seen: list[str]


@dataclass(frozen=True)
class Outlines:
    """The outline without weights of one plane, on every frame."""

    plane: str
    info: Tuned

    @classmethod
    def of(cls, workspace: Workspace, plane: str) -> "Outlines":
        """Scored on the test split."""
        frames = workspace.accepted_images()
        seen = frames.loc[frames["split"] != "test", "image_id"]
        return cls(plane, Tuned([OutlineProposer().outlines[plane]], sorted(set(seen))))

    def propose(
        self, gray: NDArray[np.uint8], plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        """The outline of `self.plane`, as the frames of the study may have no plane."""
        return OutlineProposer().propose(gray, self.plane, region, boxes)


def spacing_of(workspace: Workspace, table: Path | None) -> dict[str, float]:
    """Millimeters per stored pixel by image id, from a table with file names and pixel sizes."""
    if table is None:
        return {}
    sizes = pd.read_csv(table).set_index("filename")["pixel size(mm)"].to_dict()
    sources = workspace.sources().drop_duplicates("image_id")
    names = sources["path"].map(lambda path: Path(os.fsdecode(path)).name)
    return {
        image: float(sizes[name])
        for image, name in zip(sources["image_id"], names, strict=True)
        if name in sizes
    }


def compare(
    workspace: Workspace,
    proposer: Scored,
    table: Path | None,
    with_calipers: bool = False,
) -> pd.DataFrame:
    """A row for each accepted mask on a frame that the segmenter has not seen.

    It has the Dice of the proposal, that on the same frame with calipers painted on the structure,
    the overlap of the boxes, and the difference of the head circumference in mm.
    """
    frames = workspace.accepted_images().drop_duplicates("image_id").set_index("image_id")
    frames = frames[~frames.index.isin(proposer.info.image_ids_seen)]
    masks = workspace.masks()
    masks = masks[masks["structure"].isin(proposer.info.structures)]
    masks = masks[masks["state"].isin(TRAINED_STATES) & masks["image_id"].isin(frames.index)]
    spacing, rows = spacing_of(workspace, table), []
    for image, group in masks.groupby("image_id"):
        frame = frames.loc[str(image)]
        gray = read_stored(workspace.root / str(frame["file"]))
        found = {
            one.structure: one.mask for one in proposer.propose(gray, frame["plane"], None, ())
        }
        for row in group.to_dict("records"):
            name, truth = str(row["structure"]), pixels(row)
            none = np.zeros(truth.shape, np.bool_)
            mask, other = found.get(name, none), found
            if with_calipers:
                painted = gray.copy()
                calipers(painted, truth)
                again = proposer.propose(painted, frame["plane"], None, ())
                other = {one.structure: one.mask for one in again}
            rows.append({
                "image_id": image, "center": frame["center"], "structure": name,
                "dice": dice(mask, truth),
                "painted": dice(other.get(name, none), truth), "box": box_overlap(mask, truth),
            })  # fmt: skip
            if (pixel := spacing.get(str(image))) is not None:
                rows[-1] |= circumference_error(mask, truth, pixel)
    return pd.DataFrame(rows)


def box_overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The intersection over union of the boxes of two masks."""
    (x, y, width, height), (x2, y2, width2, height2) = bounding_box(one), bounding_box(other)
    across = max(0, min(x + width, x2 + width2) - max(x, x2))
    common = across * max(0, min(y + height, y2 + height2) - max(y, y2))
    return common / (width * height + width2 * height2 - common)


def circumference_error(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], pixel: float
) -> dict[str, float | str]:
    """The difference of the head circumferences in mm."""
    try:
        own, other = (measure(one, (pixel, pixel), HEAD)["hc"] for one in (mask, truth))
    except UnmeasuredError as error:
        return {"unmeasured": str(error)}
    return {"hc_error_mm": own - other}


def of_fold(
    workspace: Workspace,
    folds: int,
    fold: int,
    hold_out: Sequence[str],
    config: SegmenterConfig,
) -> SegmenterProposer:
    """A segmenter that has not seen the patients of one fold, nor the centers `hold_out`."""
    frames = workspace.accepted_images()
    whole = frames.assign(patient_id=frames["patient_id"].fillna(frames["image_id"]))
    placed = frames.assign(split=fold_splits(whole, folds, fold, config.seed))
    used = training_rows(placed, hold_out).drop_duplicates("image_id")
    masks = usable_masks(workspace.masks(), used)
    train = used.loc[used["split"] == "train", "image_id"]
    names = sorted(set(masks.loc[masks["image_id"].isin(train), "structure"]))
    start = time.process_time()
    found = learn(workspace, used, masks, names, config, hold_out)
    print(
        f"fold {fold}: {found.train_frames} frames to learn from, {found.val_frames} that pick the "
        f"step, best {found.best_step}; {(time.process_time() - start) / 60:.1f} CPU minutes",
        flush=True,
    )
    return SegmenterProposer(found.model, found.info, "")


def report(found: pd.DataFrame) -> None:
    """Print a line for each structure and center, and the errors of the head circumference."""
    print(
        "structure                  masks  mean Dice  median  <0.9  none  painted  box IoU  >=0.5"
    )
    groups = [*found.groupby("structure"), ("all", found)]
    if found["center"].nunique() > 1:
        groups += [(f"all of center {name}", group) for name, group in found.groupby("center")]
    for name, group in groups:
        scores = group["dice"]
        print(
            f"{name:26} {len(group):5}  {scores.mean():9.4f}  {scores.median():.4f} "
            f"{(scores < 0.9).sum():5} {(scores == 0).sum():5}  "
            f"{(group['painted'] - scores).mean():+.4f}  {group['box'].mean():7.4f}  "
            f"{(group['box'] >= 0.5).mean():.3f}"
        )
    if "hc_error_mm" in found:
        error = found["hc_error_mm"].dropna()
        print(
            f"head circumference of {len(error)}: mean absolute error {error.abs().mean():.2f} mm, "
            f"bias {error.mean():+.2f}, SD {error.std():.2f}"
        )


def main() -> None:
    """Train, propose, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--name", default="segmenter", help="the run; trained if it is missing")
    parser.add_argument("--spacing-csv", type=Path)
    parser.add_argument("--calipers", action="store_true", help="also with calipers painted")
    parser.add_argument("--folds", type=int, help="divide the patients here")
    parser.add_argument("--fold", type=int, help="only this one, from 0")
    parser.add_argument("--outlines", metavar="PLANE", help="without weights, instead of training")
    parser.add_argument("--hold-out", nargs="*", default=[], help="centers to score, not to learn")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    workspace, more = Workspace.find(options.study), (options.spacing_csv, options.calipers)
    config = SegmenterConfig(image_size=options.image_size, steps=options.steps, seed=options.seed)
    if options.outlines:
        report(compare(workspace, Outlines.of(workspace, options.outlines), *more))
        return
    if options.folds:
        folds = range(options.folds) if options.fold is None else [options.fold]
        found = pd.DataFrame()
        for fold in folds:
            proposer = of_fold(workspace, options.folds, fold, options.hold_out, config)
            found = pd.concat([found, compare(workspace, proposer, *more)])
            report(found)
        return
    if not (workspace.runs / options.name).exists():
        start = time.process_time()
        print(train_segmenter(workspace, options.name, (), options.hold_out, config))
        print(f"{(time.process_time() - start) / 60:.1f} CPU minutes")
    report(compare(workspace, SegmenterProposer.load(workspace.runs / options.name), *more))


if __name__ == "__main__":
    main()
