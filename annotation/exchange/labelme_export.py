"""LabelMe JSON: one file for each frame, with masks as small PNGs or as polygons.

X-AnyLabeling reads the polygons; both tools keep the attributes of a shape.
"""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sono.annotation.exchange.frames import Content, ExportMask, as_texts, json_text, place_of
from sono.annotation.exchange.rings import polygons_of
from sono.curation.core.geometry import bounding_box

VERSION = "5.5.0"  # of LabelMe, whose fields these are


def write_labelme(content: Content, target: Path, polygons: bool = False) -> None:
    """Write a JSON for each frame into the folder `target`."""
    for frame in content.frames:
        shapes: list[dict[str, Any]] = []
        for number, mask in enumerate(frame.masks, start=1):
            drawn = _polygons(mask, number, content) if polygons else [_mask(mask)]
            shapes += [_shape(mask, fields) for fields in drawn]
        name = frame.name.rpartition("/")[2] if "/" in frame.stem else frame.name
        size = {"imageHeight": frame.size[0], "imageWidth": frame.size[1]}
        top = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": name}
        text = json_text({**top, "imageData": None, **size})
        place_of(target, frame.stem, ".json").write_text(text, encoding="utf-8")


def _shape(mask: ExportMask, fields: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "label": mask.structure,
        "group_id": None,
        "description": "",
        "flags": {},
    }
    return {**plain, **fields, "attributes": as_texts(mask.attributes)}


def _mask(mask: ExportMask) -> dict[str, Any]:
    """A mask as a PNG of its box; the second point is its last pixel."""
    left, top, width, height = bounding_box(mask.pixels)
    part = mask.pixels[top : top + height, left : left + width]
    buffer = io.BytesIO()
    Image.fromarray(part).save(buffer, "PNG")
    points = [[left, top], [left + width - 1, top + height - 1]]
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"shape_type": "mask", "points": points, "mask": text}


def _polygons(mask: ExportMask, number: int, content: Content) -> Iterator[dict[str, Any]]:
    rings = polygons_of(mask, content)
    group = number if len(rings) > 1 else None
    for ring in rings:
        yield {"shape_type": "polygon", "points": np.asarray(ring).tolist(), "group_id": group}
