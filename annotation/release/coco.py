"""COCO: captions and instances of each split in a JSON file each, and the pictures."""

import json
from pathlib import Path
from typing import Any

from pycocotools import mask as coco

from sono.annotation.release.records import SPLIT_NAMES, frame_values, region_values, run_lengths
from sono.annotation.release.samples import SampleSet

DESCRIPTION = "sono: fetal ultrasound frames, captions and masks"


def write_coco(found: SampleSet, folder: Path) -> None:
    """Write `images/`, `annotations/captions_SPLIT.json` and `annotations/instances_SPLIT.json`.

    The instances are compressed run lengths. The entries of images have all values of the frames.
    """
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    structures = sorted({own.structure for sample in found.samples for own in sample.regions})
    numbers = {name: number for number, name in enumerate(structures, start=1)}
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    for split in found.splits:
        images: list[dict[str, Any]] = []
        captions: list[dict[str, Any]] = []
        instances: list[dict[str, Any]] = []
        for number, sample in enumerate(found.walk(split, f"export {SPLIT_NAMES[split]}"), 1):
            file = f"{sample.image_id}.png"
            (folder / "images" / file).write_bytes(sample.png())
            values = frame_values(sample)
            del values["captions"]
            images.append({"id": number, "file_name": file, **values})
            captions += [
                {"id": len(captions) + place, "image_id": number, "caption": text}
                for place, text in enumerate(sample.captions, start=1)
            ]
            for region, runs in zip(region_values(sample), run_lengths(sample), strict=True):
                instances.append({
                    "id": len(instances) + 1,
                    "image_id": number,
                    "category_id": numbers[region["structure"]],
                    "segmentation": runs,
                    "bbox": [float(side) for side in coco.toBbox(runs)],
                    "area": int(coco.area(runs)),
                    "iscrowd": 0,
                    "attributes": region,
                })  # fmt: skip
        common = {"info": {"description": DESCRIPTION}, "images": images}
        _write(folder, f"captions_{SPLIT_NAMES[split]}", common | {"annotations": captions})
        _write(
            folder,
            f"instances_{SPLIT_NAMES[split]}",
            common | {"categories": categories, "annotations": instances},
        )


def _write(folder: Path, name: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (folder / "annotations" / f"{name}.json").write_text(text, encoding="utf-8")
