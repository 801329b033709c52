"""Tables for the training script of open_clip: a path and a caption in each row."""

import csv
from pathlib import Path

from sono.annotation.release.records import SPLIT_NAMES
from sono.annotation.release.samples import SampleSet


def write_open_clip(found: SampleSet, folder: Path) -> None:
    """Write `images/` and `SPLIT.csv` with the columns `filepath` and `title`, parted by tabs.

    These are open_clip's default names. Paths are relative to the folder, where training has to be
    started. A frame with several captions has a row for each; masks and facts have no place.
    """
    (folder / "images").mkdir()
    for split in found.splits:
        with (folder / f"{SPLIT_NAMES[split]}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, delimiter="\t", lineterminator="\n")
            rows.writerow(["filepath", "title"])
            for sample in found.walk(split, f"export {SPLIT_NAMES[split]}"):
                place = f"images/{sample.image_id}.png"
                (folder / place).write_bytes(sample.png())
                rows.writerows([place, text] for text in sample.captions)
