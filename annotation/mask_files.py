"""Readers of mask files that others write: COCO JSON, and folders of binary or colour-coded PNGs."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from pydantic import BaseModel, ValidationError

from sono.curation.errors import SonoError
from sono.curation.rle import decode, from_runs

MAX_PIXELS = 100_000_000
DARK = 32  # a pixel below this in all channels is unpainted
STRAY_SHARE = 0.005  # of the painted pixels: a colour rarer than this is the blur of an edge

# A named colour is the set of its strong channels, so dark red (128, 0, 0) is red too.
COLORS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "olive": (1, 1, 0),
    "magenta": (1, 0, 1), "purple": (1, 0, 1), "cyan": (0, 1, 1), "teal": (0, 1, 1),
    "white": (1, 1, 1), "gray": (1, 1, 1),
}  # fmt: skip

EXPORT_HELP = "export as COCO (for instance 'COCO 1.0' in CVAT, 'COCO' with polygons or brush in Label Studio)"


class ForeignMask(NamedTuple):
    """A mask as another tool wrote it: whose it is, its size (height, width), and how to get its pixels."""

    stem: str
    structure: str
    size: tuple[int, int]
    place: str
    read: Callable[[], NDArray[np.bool_]]


class CocoImage(BaseModel):
    """An entry of `images`."""

    id: int
    file_name: str
    height: int
    width: int


class CocoAnnotation(BaseModel):
    """An entry of `annotations`; polygons, a list of runs or compressed runs."""

    id: int
    image_id: int
    category_id: int
    segmentation: Any = None


class CocoCategory(BaseModel):
    """An entry of `categories`."""

    id: int
    name: str


class CocoFile(BaseModel):
    """The parts of a COCO file that masks need."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


def read_coco(path: Path) -> Iterator[ForeignMask]:
    """Masks of a COCO JSON; SonoError for another dialect, a broken file or an annotation that points nowhere."""
    content = _coco_file(path)
    images = {image.id: image for image in content.images}
    categories = {category.id: category.name for category in content.categories}
    for annotation in content.annotations:
        place = f"{path}: annotation {annotation.id}"
        image, category = images.get(annotation.image_id), categories.get(annotation.category_id)
        if image is None or category is None:
            lost = f"image {annotation.image_id}" if image is None else f"category {annotation.category_id}"
            raise SonoError(f"{place}: {lost} is not in the file; export it again")
        size = (image.height, image.width)
        if not 0 < size[0] * size[1] <= MAX_PIXELS or min(size) < 1:
            raise SonoError(f"{place}: an image of {size[0]} x {size[1]} pixels cannot be; export it again")
        stem = Path(image.file_name.replace("\\", "/")).stem
        yield ForeignMask(stem, category, size, place, partial(_pixels, annotation.segmentation, size, place))


def _coco_file(path: Path) -> CocoFile:
    raw = path.read_bytes()
    if raw.lstrip()[:1] == b"<":
        raise SonoError(f"{path}: XML (CVAT?) instead of COCO JSON; {EXPORT_HELP}")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SonoError(f"{path}: not valid JSON ({error}); {EXPORT_HELP}") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise SonoError(f"{path}: JSON without images, annotations and categories (Label Studio?); {EXPORT_HELP}")
    try:
        return CocoFile.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        raise SonoError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}") from error


def _pixels(segmentation: Any, size: tuple[int, int], place: str) -> NDArray[np.bool_]:
    """The mask [H, W] of a COCO segmentation of any of the three kinds."""
    try:
        if isinstance(segmentation, dict):
            return _run_pixels(segmentation, size)
        if isinstance(segmentation, list):
            return _polygon_pixels(segmentation, size)
    except (SonoError, TypeError, ValueError, OverflowError) as error:
        raise SonoError(f"{place}: {error}") from error
    raise SonoError(f"{place}: 'segmentation' is {type(segmentation).__name__}; {EXPORT_HELP}")


def _run_pixels(segmentation: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    if segmentation.get("size") not in (list(size), size):
        raise SonoError(f"the runs are for {segmentation.get('size')}, the image is {list(size)} (height, width)")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        return decode(counts, *size)
    if isinstance(counts, list) and all(isinstance(run, int) for run in counts):
        return from_runs(counts, *size)
    raise SonoError(f"run lengths that are neither a string nor whole numbers; {EXPORT_HELP}")


def _polygon_pixels(polygons: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The union of polygons [[x0, y0, x1, y1, ...], ...] by COCO's own rasteriser."""
    rings = [np.asarray(polygon, np.float64) for polygon in polygons]
    for ring in rings:
        # the rasteriser walks every pixel of an edge, so a far point would cost memory without bound
        if ring.ndim != 1 or len(ring) < 6 or len(ring) % 2 or not (np.abs(ring) <= 4 * max(size)).all():
            raise SonoError(f"a polygon of {ring.size} numbers that is no ring of x, y pairs near the image")
    if not rings:
        return np.zeros(size, np.bool_)
    runs = coco.merge(coco.frPyObjects([ring.tolist() for ring in rings], *size))
    return decode(runs["counts"].decode("ascii"), *size)


def read_mask_folder(folder: Path, structure: str | None, palette: Mapping[str, str]) -> Iterator[ForeignMask]:
    """Masks of the PNGs below `folder`: all of `structure`, or by the colours of `palette` (color -> structure)."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".png" and path.name[0] != "."]
    if not files:
        raise SonoError(f"{folder}: no PNG here; give the folder that holds the masks")
    for path in files:
        picture = read_mask_picture(path)
        for name, mask in _split(path, picture, structure, palette).items():
            yield ForeignMask(path.stem, name, (mask.shape[0], mask.shape[1]), str(path), partial(np.copy, mask))


def read_mask_picture(path: Path) -> NDArray[np.uint8]:
    """A mask picture as RGB [H, W, 3]; SonoError when it is damaged, cut short or absurdly large."""
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise SonoError(f"{path}: {picture.width} x {picture.height} pixels are too many for a mask")
            picture.load()
            if picture.mode.startswith("I"):
                flat = np.asarray(picture) > 0
                return np.repeat(flat[..., None], 3, axis=2).astype(np.uint8) * 255
            return np.array(picture.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SonoError(f"{path}: not a whole PNG ({error}); copy or export it again") from error


def _split(
    path: Path, picture: NDArray[np.uint8], structure: str | None, palette: Mapping[str, str]
) -> dict[str, NDArray[np.bool_]]:
    if structure is not None:
        top = picture.max(axis=2)
        # label pictures hold 0 and 1, drawn ones 0 and 255 with soft edges
        return {structure: fill_outline(top > top.max() // 2)}
    if not (np.ptp(picture, axis=2) > DARK).any():
        raise SonoError(f'{path}: a mask without colours; say what it shows with --structure "fetal head"')
    return _by_color(path, picture, palette)


def _by_color(path: Path, picture: NDArray[np.uint8], palette: Mapping[str, str]) -> dict[str, NDArray[np.bool_]]:
    painted = picture.max(axis=2) > DARK
    found = {color: match_color(picture, color) & painted for color in palette}
    left = painted & ~np.logical_or.reduce(list(found.values()))
    if left.sum() > STRAY_SHARE * painted.sum():
        red, green, blue = np.median(picture[left], axis=0).astype(int)
        raise SonoError(
            f"{path}: colour #{red:02x}{green:02x}{blue:02x} covers {left.sum()} pixels and has no structure; "
            f'name it with --color "#{red:02x}{green:02x}{blue:02x}=STRUCTURE"'
        )
    # a structure painted over another one left a hole in it
    masks = {palette[color]: mask | (_filled(mask) & painted) for color, mask in found.items()}
    return {name: mask for name, mask in masks.items() if mask.sum() > STRAY_SHARE * painted.sum() / 10}


def match_color(picture: NDArray[np.uint8], color: str) -> NDArray[np.bool_]:
    """Pixels [H, W] of RGB `picture` in a color given as #rrggbb (within 24) or by name (by its strong channels)."""
    if color.startswith("#") and len(color) == 7:
        try:
            wanted = np.frombuffer(bytes.fromhex(color[1:]), np.uint8).astype(np.int16)
        except ValueError as error:
            raise SonoError(f"'{color}' is not a color; write #rrggbb or one of {', '.join(COLORS)}") from error
        return np.asarray(np.abs(picture.astype(np.int16) - wanted).max(axis=2) <= 24)
    if color not in COLORS:
        raise SonoError(f"unknown color '{color}'; write #rrggbb or one of {', '.join(COLORS)}")
    strong = picture > picture.max(axis=2, keepdims=True) // 2
    return np.asarray((strong == np.array(COLORS[color], np.bool_)).all(axis=2))


def fill_outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` [H, W] with a thin closed outline filled; one that leaves the picture gets its hull; others stay."""
    drawn = mask.sum()
    filled = _filled(mask)
    if filled.sum() > 3 * drawn:
        return filled
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()
    if edge and drawn:
        hull = np.zeros(mask.shape, np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32)), 1)
        if hull.sum() > 8 * drawn:
            return hull.astype(np.bool_)
    return mask


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` with its holes filled."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(canvas, outlines, -1, 1, cv2.FILLED)
    return canvas.astype(np.bool_)
