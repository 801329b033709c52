"""Does `datasets` load a data set of 10,000 frames, typed and without a network?

The frames are noise with a mask and two captions each; every ninth has no plane, and the first
quarter no age, so that types cannot be derived from the first samples.

Example: python benchmarks/load_dataset.py
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.release.export import Layout, export_dataset
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.curation.core.planes import PLANES
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace

SIDE = 64
LAYOUTS: tuple[Layout, ...] = ("huggingface", "webdataset")


def make_study(root: Path, count: int) -> Workspace:
    """A study of `count` frames in all splits."""
    study = Workspace.create(root / "study")
    rng = np.random.default_rng(0)
    inside = np.zeros((SIDE, SIDE), np.bool_)
    inside[9:30, 9:40] = True
    images: list[dict[str, Any]] = []
    masks, captions = [], []
    for number in range(count):
        gray = rng.integers(20, 200, (SIDE, SIDE), np.uint8)
        image_id = image_id_of(gray)
        file = frame_file(image_id, gray)
        (study.root / file).parent.mkdir(parents=True, exist_ok=True)
        (study.root / file).write_bytes(encode_png(gray))
        plane = PLANES[number % len(PLANES)]
        images.append({
            "image_id": image_id, "source_id": f"{number:016x}", "frame": 0, "status": "accepted",
            "split": ("train", "val", "test", None)[number % 4], "height": SIDE, "width": SIDE,
            "plane": plane.id if number % 9 else None, "file": file,
            "ga_days": 150 if number > count // 4 else None,
        })  # fmt: skip
        masks.append(mask_row(images[-1], inside, "fetal head", "import", state="accepted"))
        captions += [
            {"image_id": image_id, "level": "global", "text": f"{words} {plane.name}.",
             "template": words, "tier": "full", "tokens": 5, "fields": []}
            for words in ("Image of", "View of")
        ]  # fmt: skip
    study.write(IMAGES, from_rows(IMAGES, images))
    study.write(MASKS, mask_table(masks))
    study.write(CAPTIONS, from_rows(CAPTIONS, captions))
    return study


def main() -> None:
    """Export and load each layout, print its rows, types and CPU seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=10_000)
    count = parser.parse_args().frames
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder
        import datasets

        datasets.disable_progress_bars()
        study = make_study(Path(folder), count)
        for layout in LAYOUTS:
            out = Path(folder) / layout
            export_dataset(study, out, layout, no_vault=True)
            start = time.process_time()
            loaded = datasets.load_dataset(str(out), cache_dir=str(Path(folder) / "cache"))
            spent = time.process_time() - start
            rows = {split: len(table) for split, table in loaded.items()}
            assert sum(rows.values()) == count
            print(f"{layout}: {rows} in {spent:.1f} CPU seconds")
            for name, kind in loaded["train"].features.items():
                print(f"  {name}: {str(kind)[:80]}")


if __name__ == "__main__":
    main()
