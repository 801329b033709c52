"""LabelMe JSON as masks: the polygons, circles, rectangles and masks drawn on one picture."""

import base64
import posixpath
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.annotation.embedded_pictures import read_embedded
from sono.annotation.exchange.foreign_masks import (
    DAMAGED,
    ForeignMask,
    Found,
    Picture,
    Size,
    check_size,
)
from sono.annotation.exchange.frames import from_texts
from sono.annotation.exchange.grouped import Shape, add_grouped
from sono.annotation.exchange.picture_pixels import open_png
from sono.annotation.exchange.shapes import draw_box, draw_circle, draw_polygons, points_of
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError

AREAS = ("polygon", "circle", "rectangle", "mask")
MAX_MASK_TEXT = 1 << 26  # characters of base64


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
    add_grouped(_shapes(path, content["shapes"], picture, size, found), found)


def _shapes(
    path: Path, shapes: list[Any], picture: Picture, size: Size, found: Found
) -> Iterator[Shape]:
    for number, shape in enumerate(shapes):
        place = f"{path}: shape {number}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            found.refuse("broken", place, "a shape without label")
            continue
        kind = shape.get("shape_type") or "polygon"
        if kind not in AREAS:
            what = "is not an area; draw a polygon, circle, rectangle or mask"
            found.refuse("broken", place, f"a shape '{kind}' {what}")
            continue
        source = "box" if kind == "rectangle" else "import"
        read = partial(_pixels, kind, shape)
        attributes = shape.get("attributes")
        exported = from_texts(attributes) if isinstance(attributes, dict) else {}
        mask = ForeignMask(picture, shape["label"], size, place, read, source, exported)
        group = shape.get("group_id")
        yield Shape(mask, group if isinstance(group, int) and kind == "polygon" else None)


def _pixels(kind: str, shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """The mask [H, W] of a shape, whose points are pairs of x and y in pixels."""
    check_size(size)
    numbers = shape.get("points")
    if kind == "mask":
        return _mask_pixels(shape.get("mask"), points_of(numbers, 2), size)
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


def _mask_pixels(text: Any, points: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """The mask [H, W] of a PNG that covers the box from its first to its last pixel."""
    (left, top), (right, bottom) = points[:2].round().astype(int).tolist()
    width, height = right - left + 1, bottom - top + 1
    if left < 0 or top < 0 or right >= size[1] or bottom >= size[0] or min(width, height) < 1:
        raise SonoError(
            f"a mask from ({left}, {top}) to ({right}, {bottom}), outside the picture of {size[1]} "
            f"x {size[0]} pixels (width x height)"
        )
    if not isinstance(text, str) or len(text) > MAX_MASK_TEXT:
        raise SonoError("a shape 'mask' without its picture; save it again in LabelMe")
    try:
        with open_png(base64.b64decode(text, validate=True)) as one:
            if one.size != (width, height):
                raise SonoError(
                    f"a mask of {one.width} x {one.height} pixels in a box of {width} x {height} "
                    "(width x height)"
                )
            part = np.asarray(one.convert("L")) > 0
    except DAMAGED as error:
        raise SonoError("a shape 'mask' whose picture is not a complete PNG") from error
    mask = np.zeros(size, np.bool_)
    mask[top : bottom + 1, left : right + 1] = part
    return mask
