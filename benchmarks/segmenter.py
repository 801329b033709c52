"""Dice of a segmenter's proposals, and the error of the head circumference, on unseen patients.

Trains on the accepted head masks of some patients of a study (train and val split), proposes on the
others (test split), and compares with their masks. The study is a workspace that `sono qc` and
`sono masks import` have filled; set the shares under `[splits]`, for example 0.45, 0.05 and 0.5.

Example: python benchmarks/segmenter.py study --spacing-csv training_set_pixel_size_and_HC.csv
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from sono.annotation.biometry import UnmeasuredError, measure
from sono.annotation.masks import dice, pixels
from sono.annotation.segmenter.fit import train_segmenter
from sono.annotation.segmenter.proposer import SegmenterProposer
from sono.curation.core.frame_files import read_stored
from sono.curation.core.workspace import Workspace

STRUCTURE = "fetal head"


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


def compare(workspace: Workspace, proposer: SegmenterProposer, table: Path | None) -> pd.DataFrame:
    """Dice and HC in mm of proposal and annotation for each test frame with an accepted mask."""
    frames = workspace.accepted_images().drop_duplicates("image_id")
    frames = frames[frames["split"] == "test"].set_index("image_id")
    masks = workspace.masks()
    masks = masks[(masks["structure"] == STRUCTURE) & (masks["state"] == "accepted")]
    spacing, rows = spacing_of(workspace, table), []
    for row in masks[masks["image_id"].isin(frames.index)].to_dict("records"):
        frame = frames.loc[str(row["image_id"])]
        truth = pixels(row)
        gray = read_stored(workspace.root / str(frame["file"]))
        found = [one.mask for one in proposer.propose(gray, frame["plane"], None, ())]
        mask = found[0] if found else np.zeros(truth.shape, np.bool_)
        rows.append({"image_id": row["image_id"], "dice": dice(mask, truth)})
        if (pixel := spacing.get(str(row["image_id"]))) is not None:
            try:
                own, other = (
                    measure(one, (pixel, pixel), STRUCTURE)["hc"] for one in (mask, truth)
                )
                rows[-1] |= {"hc_error_mm": own - other}
            except UnmeasuredError as error:
                rows[-1] |= {"unmeasured": str(error)}
    return pd.DataFrame(rows)


def main() -> None:
    """Train, propose, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--name", default="segmenter", help="the run; trained if it is missing")
    parser.add_argument("--spacing-csv", type=Path)
    options = parser.parse_args()
    workspace = Workspace.find(options.study)
    if not (workspace.runs / options.name).exists():
        start = time.process_time()
        print(train_segmenter(workspace, options.name))
        print(f"{(time.process_time() - start) / 60:.1f} CPU minutes")
    found = compare(
        workspace, SegmenterProposer.load(workspace.runs / options.name), options.spacing_csv
    )
    scores = found["dice"]
    print(f"{len(found)} frames: mean Dice {scores.mean():.4f}, median {scores.median():.4f}")
    print(f"below 0.9: {(scores < 0.9).sum()}; not found: {(scores == 0).sum()}")
    if "hc_error_mm" in found:
        error = found["hc_error_mm"].dropna()
        print(
            f"head circumference of {len(error)}: mean absolute error {error.abs().mean():.2f} mm, "
            f"bias {error.mean():+.2f}, SD {error.std():.2f}"
        )


if __name__ == "__main__":
    main()
