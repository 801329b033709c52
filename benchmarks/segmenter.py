"""Dice of a segmenter's proposals, and the error of the head circumference, on unseen patients.

Trains on the accepted masks of some patients of a study (train and val split), proposes on the
others, also with calipers painted on the structure, and compares with their masks. The study is a
workspace that `sono qc` and `sono masks import` have filled; set the shares under `[splits]`, for
example 0.45, 0.05 and 0.5.

Example: python benchmarks/segmenter.py study --spacing-csv training_set_pixel_size_and_HC.csv
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.biometry import UnmeasuredError, measure
from sono.annotation.masks import dice, pixels
from sono.annotation.segmenter.fit import train_segmenter
from sono.annotation.segmenter.proposer import SegmenterProposer
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.frame_files import read_stored
from sono.curation.core.geometry import bounding_box
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.burned_in_overlays import calipers

HEAD = "fetal head"


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
    proposer: SegmenterProposer,
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
                "image_id": image, "structure": name, "dice": dice(mask, truth),
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


def report(found: pd.DataFrame) -> None:
    """Print a line for each structure, and the errors of the head circumference."""
    print("structure                  masks  mean Dice  median  <0.9  none  painted  box IoU >=0.5")
    for name, group in [*found.groupby("structure"), ("all", found)]:
        scores = group["dice"]
        print(
            f"{name:26} {len(group):5}  {scores.mean():9.4f}  {scores.median():.4f} "
            f"{(scores < 0.9).sum():5} {(scores == 0).sum():5}  "
            f"{(group['painted'] - scores).mean():+.4f}  {(group['box'] >= 0.5).mean():.3f}"
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
    options = parser.parse_args()
    workspace = Workspace.find(options.study)
    if not (workspace.runs / options.name).exists():
        start = time.process_time()
        print(train_segmenter(workspace, options.name))
        print(f"{(time.process_time() - start) / 60:.1f} CPU minutes")
    found = compare(
        workspace,
        SegmenterProposer.load(workspace.runs / options.name),
        options.spacing_csv,
        options.calipers,
    )
    report(found)


if __name__ == "__main__":
    main()
