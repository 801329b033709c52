"""LabelMe JSON as masks: the polygons, circles and rectangles that were drawn on one picture."""

import posixpath
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.annotation.embedded_pictures import read_embedded
from sono.annotation.exchange.foreign_masks import ForeignMask, Found, Picture, Size, check_size
from sono.annotation.exchange.shapes import draw_box, draw_circle, draw_polygons, points_of
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError

AREAS = ("polygon", "circle", "rectangle")


def is_labelme(content: Any) -> bool:
    """Whether JSON content is what LabelMe writes."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("shapes"), list)
        and "imagePath" in content
    )


def read_labelme(path: Path, folder: Path, content: Mapping[str, Any], found: Found) -> None:
    """Add the shapes of LabelMe `content` to `found`.

    `path` is the file, below `folder`. A bad shape is refused.
    """
    image, inside = content["imagePath"], path.relative_to(folder).as_posix()
    if not isinstance(image, str) or not image.strip():
        found.refuse("broken", path, "imagePath is not a text")
        return
    name = posixpath.normpath(posixpath.join(posixpath.dirname(inside), image.replace("\\", "/")))
    size: Any = (content.get("imageHeight"), content.get("imageWidth"))
    embedded = partial(read_embedded, path) if content.get("imageData") else None
    picture = Picture(
        name, str(path), str(real_path(folder)), path.name, size=size, embedded=embedded
    )
    found.pictures.append(picture)
    if not all(type(side) is int for side in size):
        found.refuse(
            "broken",
            path,
            f"imageHeight and imageWidth are {size[0]} and {size[1]}; save it again in LabelMe",
        )
        return
    for number, shape in enumerate(content["shapes"]):
        place = f"{path}: shape {number}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            found.refuse("broken", place, "a shape without label")
            continue
        kind = shape.get("shape_type") or "polygon"
        if kind not in AREAS:
            what = "is not read" if kind == "mask" else "is not an area"
            found.refuse(
                "broken", place, f"a shape '{kind}' {what}; draw a polygon, circle or rectangle"
            )
            continue
        source = "box" if kind == "rectangle" else "import"
        read = partial(_pixels, kind, shape.get("points"))
        found.masks.append(ForeignMask(picture, shape["label"], size, place, read, source))


def _pixels(kind: str, numbers: Any, size: Size) -> NDArray[np.bool_]:
    """The mask [H, W] of a shape, whose points are pairs of x and y in pixels."""
    check_size(size)
    if kind == "polygon":
        return draw_polygons([points_of(numbers, 3).ravel()], size)
    points = points_of(numbers, 2)
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points[:2]
        return draw_circle(x, y, float(np.hypot(edge_x - x, edge_y - y)), size)
    if len(points) not in (2, 4):
        raise SonoError(f"a rectangle of {len(points)} points")
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    straight = np.isin(points[:, 0], [left, right]) & np.isin(points[:, 1], [top, bottom])
    if not straight.all():
        return draw_polygons([points.ravel()], size)
    return draw_box(left, top, right, bottom, size)
