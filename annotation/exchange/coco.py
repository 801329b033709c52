"""COCO JSON as masks: one entry at a time, so that a bad one is refused and the others are used."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, StrictInt, StrictStr, ValidationError

from sono.annotation.exchange.foreign_masks import ForeignMask, Found, Picture, Size, check_size
from sono.annotation.exchange.shapes import draw_polygons
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode, from_runs

PARTS = ("images", "annotations", "categories")
EXPORT_HELP = (
    "export as COCO (for instance 'COCO 1.0' in CVAT, 'COCO' with polygons or brush in "
    "Label Studio)"
)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[StrictInt | StrictStr, BeforeValidator(_whole)]  # a text stays a text
Pixels = Annotated[int, BeforeValidator(_whole)]


class Entry(BaseModel):
    """What every entry of a COCO file has."""

    id: Id


class CocoImage(Entry):
    """An entry of `images`."""

    file_name: str
    height: Pixels
    width: Pixels


class CocoAnnotation(Entry):
    """An entry of `annotations`; polygons, a list of runs or compressed runs."""

    image_id: Id
    category_id: Id
    segmentation: Any = None
    attributes: Any = None


class CocoCategory(Entry):
    """An entry of `categories`."""

    name: str


def is_coco(content: Any) -> bool:
    """Whether JSON content has the parts of a COCO file that masks need."""
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in PARTS)


def read_coco(path: Path, content: Mapping[str, Any], found: Found) -> None:
    """Add the masks of COCO `content` to `found`; bad entries are refused.

    Raises SonoError if two images share an id, one file name has two ids, or two categories share
    an id: then the picture or the label of a mask is ambiguous.
    """
    images = _by_id(path, "images", _entries(path, content, "images", CocoImage, found))
    categories = _by_id(
        path, "categories", _entries(path, content, "categories", CocoCategory, found)
    )
    _check_names(path, list(images.values()))
    folder = str(real_path(path).parent)
    pictures = {
        key: Picture(image.file_name, f"{path}: image {key}", folder)
        for key, image in images.items()
    }
    found.pictures += pictures.values()
    for annotation in _entries(path, content, "annotations", CocoAnnotation, found):
        place = f"{path}: annotation {annotation.id}"
        image, category = (
            images.get(_key(annotation.image_id)),
            categories.get(_key(annotation.category_id)),
        )
        if image is None or category is None:
            lost = (
                f"image {annotation.image_id}"
                if image is None
                else f"category {annotation.category_id}"
            )
            found.refuse("broken", place, f"{lost} is not in the file")
            continue
        size = (image.height, image.width)
        exported = annotation.attributes if isinstance(annotation.attributes, dict) else {}
        read = partial(_pixels, annotation.segmentation)
        found.masks.append(
            ForeignMask(
                pictures[_key(image.id)], category.name, size, place, read, exported=exported
            )
        )


def _entries(
    path: Path, content: Mapping[str, Any], part: str, model: type[Any], found: Found
) -> list[Any]:
    """The entries of a part that are what they should be; the others are refused."""
    entries = []
    for number, raw in enumerate(content[part]):
        try:
            entries.append(model.model_validate(raw))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, (part, number, *problem["loc"])))
            found.refuse("broken", f"{path}: {place}", str(problem["msg"]).lower())
    return entries


def _key(identifier: Id) -> str:
    """One form of an id: exporters write 7 in one place and "7" in another."""
    return str(identifier).strip()


def _by_id(path: Path, part: str, entries: Sequence[Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for entry in entries:
        first = known.setdefault(_key(entry.id), entry)
        if first.model_dump(exclude={"id"}) != entry.model_dump(exclude={"id"}):
            names = [getattr(one, "file_name", getattr(one, "name", "")) for one in (first, entry)]
            raise SonoError(
                f"{path}: {part} '{names[0]}' and '{names[1]}' share the id {_key(entry.id)}, so "
                "their masks are ambiguous; export it again with one id for each"
            )
    return known


def _check_names(path: Path, images: Sequence[CocoImage]) -> None:
    known: dict[tuple[str, ...], CocoImage] = {}
    for image in images:
        first = known.setdefault(_name_parts(image.file_name), image)
        if first is not image:
            raise SonoError(
                f"{path}: '{image.file_name}' is the name of image {first.id} and of image "
                f"{image.id}, so the name is ambiguous; export it again with the folders in "
                "file_name"
            )


def _name_parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _pixels(segmentation: Any, size: Size) -> NDArray[np.bool_]:
    """The mask [H, W] of a COCO segmentation of any of the three kinds."""
    check_size(size)
    if isinstance(segmentation, dict):
        return _run_pixels(segmentation, size)
    if isinstance(segmentation, list):
        return draw_polygons(segmentation, size)
    raise SonoError(f"'segmentation' is {type(segmentation).__name__}; {EXPORT_HELP}")


def _run_pixels(segmentation: dict[str, Any], size: Size) -> NDArray[np.bool_]:
    if segmentation.get("size") not in (list(size), size):
        raise SonoError(
            f"the runs are for {segmentation.get('size')}, the image is {list(size)} (height, "
            "width)"
        )
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        return decode(counts, *size)
    if isinstance(counts, list) and all(isinstance(run, int) for run in counts):
        return from_runs(counts, *size)
    raise SonoError(f"run lengths that are neither a string nor whole numbers; {EXPORT_HELP}")
