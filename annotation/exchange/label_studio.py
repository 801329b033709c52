"""Label Studio JSON: brushes, polygons in percent, rectangles and ellipses of each task."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sono.annotation.exchange.brush_rle import decode_brush, encode_brush
from sono.annotation.exchange.foreign_masks import ForeignMask, Found, Picture, Size, check_size
from sono.annotation.exchange.frames import (
    DESCRIPTION,
    Content,
    ExportFrame,
    ExportMask,
)
from sono.annotation.exchange.grouped import Shape, add_grouped
from sono.annotation.exchange.rings import polygons_of
from sono.annotation.exchange.shapes import draw_box, draw_ellipse, draw_polygons, points_of
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError

START = f'[\n{{"meta": {{"description": "{DESCRIPTION}'.encode()
LABELS = {
    "brushlabels": "brush", "polygonlabels": "polygon", "rectanglelabels": "rectangle",
    "ellipselabels": "ellipse",
}  # fmt: skip


def is_label_studio(content: Any) -> bool:
    """Whether JSON content is a list of tasks."""
    first = content[0] if isinstance(content, list) and content else None
    return (
        isinstance(first, dict)
        and isinstance(first.get("data"), dict)
        and bool({"annotations", "predictions"} & first.keys())
    )


def read_label_studio(path: Path, content: Sequence[Any], found: Found) -> None:
    """Add the shapes of all tasks to `found`; a bad one is refused, and so are canceled ones."""
    folder = str(real_path(path).parent)
    for number, task in enumerate(content):
        place = f"{path}: task {number}"
        name = _name(task)
        if not name:
            found.refuse("broken", place, "a task without the name of its picture in 'data'")
            continue
        picture = Picture(name, place, folder)
        found.pictures.append(picture)
        for kind in ("annotations", "predictions"):
            drafts = task.get(kind) or []
            if not isinstance(drafts, list):
                found.refuse("broken", place, f"'{kind}' is not a list")
                continue
            for order, one in enumerate(drafts):
                where = f"{place}, {kind[:-1]} {order}"
                add_grouped(_shapes(one, picture, where, found), found)


def _name(task: Any) -> str:
    """The picture of a task: its 'image', or the only text in its data."""
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return ""
    texts = [value for value in data.values() if isinstance(value, str)]
    image = data.get("image", texts[0] if len(texts) == 1 else "")
    return image if isinstance(image, str) else ""


def _shapes(one: Any, picture: Picture, place: str, found: Found) -> Iterator[Shape]:
    results = one.get("result") if isinstance(one, dict) else None
    if not isinstance(results, list) or one.get("was_cancelled"):
        what = "it was canceled" if isinstance(results, list) else "it has no list 'result'"
        found.refuse("broken", place, what)
        return
    for number, result in enumerate(results):
        where = f"{place}, region {number}"
        kind = result.get("type") if isinstance(result, dict) else None
        if kind in ("choices", "textarea", "rating", "relation"):
            continue  # no shapes
        try:
            yield _shape(result, kind, picture, where)
        except (SonoError, TypeError, KeyError, ValueError) as error:
            what = str(error) if isinstance(error, SonoError) else "a field is missing or damaged"
            found.refuse("broken", where, what)


def _shape(result: Any, kind: Any, picture: Picture, place: str) -> Shape:
    if kind not in LABELS:
        raise SonoError(f"a region '{kind}' is not an area; use a brush, polygon or rectangle")
    value, meta = result["value"], result.get("meta")
    labels = value[kind]
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise SonoError(f"{len(labels)} labels in place of one")
    size = (result["original_height"], result["original_width"])
    if not all(type(side) is int for side in size):
        raise SonoError(f"original_height and original_width are {size[0]} and {size[1]}")
    if result.get("image_rotation") or value.get("rotation"):
        raise SonoError("a turned picture or region; turn it back and draw it again")
    exported = meta if isinstance(meta, dict) else {}
    read = partial(_pixels, LABELS[kind], value)
    source = "box" if kind == "rectanglelabels" else "import"
    group = exported.get("mask_id") if kind == "polygonlabels" else None
    mask = ForeignMask(picture, labels[0], size, place, read, source, exported=exported)
    return Shape(mask, group if isinstance(group, str) else None)


def _pixels(kind: str, value: Mapping[str, Any], size: Size) -> Mask:
    """The mask [H, W] of a region; its coordinates are in percent of the sides."""
    check_size(size)
    scale = np.array([size[1], size[0]]) / 100
    if kind == "brush":
        if value.get("format") != "rle":
            raise SonoError(f"a brush in the format '{value.get('format')}'; export as JSON")
        return decode_brush(value.get("rle"), size)
    if kind == "polygon":
        points = points_of(value.get("points"), 3) * scale
        return draw_polygons([points.ravel()], size)
    names = (
        ("x", "y", "width", "height") if kind == "rectangle" else ("x", "y", "radiusX", "radiusY")
    )
    numbers = points_of(
        [[value.get(names[0]), value.get(names[1])], [value.get(names[2]), value.get(names[3])]], 2
    )
    (x, y), (across, down) = (numbers * scale).tolist()
    if kind == "rectangle":
        return draw_box(x, y, x + across, y + down, size)
    return draw_ellipse(x, y, across, down, size)


def write_label_studio(content: Content, target: Path, polygons: bool = False) -> None:
    """Write a task for each frame: reviewed masks as annotations, proposals as predictions."""
    with target.open("w", encoding="utf-8") as file:
        for number, frame in enumerate(content.frames):
            file.write((",\n" if number else "[\n") + json.dumps(_task(frame, content, polygons)))
        file.write("\n]\n")


def _task(frame: ExportFrame, content: Content, polygons: bool) -> dict[str, Any]:
    shapes: dict[str, list[dict[str, Any]]] = {"annotations": [], "predictions": []}
    for mask in frame.masks:
        part = "predictions" if mask.attributes.get("state") == "proposed" else "annotations"
        shapes[part] += _regions(mask, frame, content, polygons)
    parts = {part: [{"result": results}] if results else [] for part, results in shapes.items()}
    return {"meta": {"description": DESCRIPTION}, "data": {"image": frame.name}, **parts}


def _regions(
    mask: ExportMask, frame: ExportFrame, content: Content, polygons: bool
) -> Iterator[dict[str, Any]]:
    if polygons:
        rings = polygons_of(mask, content)
        scale = 100 / np.array([frame.size[1], frame.size[0]])
        values = [{"points": (ring * scale).tolist(), "closed": True} for ring in rings]
    else:
        values = [{"format": "rle", "rle": encode_brush(mask.pixels)}]
    kind = "polygonlabels" if polygons else "brushlabels"
    for number, value in enumerate(values):
        key = f"{mask.mask_id} {number}".encode()
        yield {
            "id": hashlib.sha256(key).hexdigest()[:10],
            "type": kind,
            "from_name": "label",
            "to_name": "image",
            "original_width": frame.size[1],
            "original_height": frame.size[0],
            "image_rotation": 0,
            "value": {**value, kind: [mask.structure]},
            "meta": dict(mask.attributes),
        }
