"""Tables for the training script of open_clip: a path and a caption in each row."""

import csv
from pathlib import Path

from sono.annotation.release.records import SPLIT_NAMES
from sono.annotation.release.samples import SampleSet


def write_open_clip(found: SampleSet, folder: Path) -> None:
    """Write `images/` and `SPLIT.csv` with the columns `filepath` and `title`, parted by tabs.

    These are open_clip's default names. Paths are relative to the folder, where training has to be
    started. A frame with several captions has a row for each; masks and facts have no place. A
    third column `held_out` is there if the study holds a center out of training.
    """
    (folder / "images").mkdir()
    for split in found.splits:
        with (folder / f"{SPLIT_NAMES[split]}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, delimiter="\t", lineterminator="\n")
            rows.writerow(["filepath", "title", *(["held_out"] if found.hold_out else [])])
            for sample in found.walk(split, f"export {SPLIT_NAMES[split]}"):
                place = f"images/{sample.image_id}.png"
                (folder / place).write_bytes(sample.png())
                mark = [str(sample.held_out).lower()] if found.hold_out else []
                rows.writerows([place, text, *mark] for text in sample.captions)
