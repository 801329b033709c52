"""COCO JSON: masks as compressed runs, which are exact, or as polygons along pixel edges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sono.annotation.exchange.frames import DESCRIPTION, Content, ExportMask, json_text
from sono.annotation.exchange.rings import Ring, polygons_of
from sono.curation.core.geometry import bounding_box
from sono.curation.core.rle import encode

START = f'{{\n "info": {{\n  "description": "{DESCRIPTION}'.encode()  # of every export


def write_coco(content: Content, target: Path, polygons: bool = False) -> None:
    """Write all frames and masks as COCO JSON, with the attributes of each mask."""
    categories = {name: number for number, name in enumerate(content.structures, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, frame in enumerate(content.frames, start=1):
        size = {"height": frame.size[0], "width": frame.size[1]}
        images.append({"id": number, "file_name": frame.name, **size})
        for mask in frame.masks:
            shape = _polygons(polygons_of(mask, content)) if polygons else _runs(mask)
            annotations.append({
                "id": len(annotations) + 1,
                "category_id": categories[mask.structure],
                "image_id": number,
                "segmentation": shape,
                "bbox": list(bounding_box(mask.pixels)),
                "area": int(mask.pixels.sum()),
                "iscrowd": 0,
                "attributes": dict(mask.attributes),
            })  # fmt: skip
    named = [{"id": number, "name": name} for name, number in categories.items()]
    parts = {"images": images, "categories": named, "annotations": annotations}
    text = json_text({"info": {"description": DESCRIPTION}, **parts})
    target.write_text(text, encoding="utf-8")


def _runs(mask: ExportMask) -> dict[str, Any]:
    return {"size": list(mask.pixels.shape), "counts": encode(mask.pixels)}


def _polygons(rings: Sequence[Ring]) -> list[list[int]]:
    return [ring.astype(int).ravel().tolist() for ring in rings]
