"""YOLO segmentation: a text of polygons for each frame, in fractions, and data.yaml with names."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sono.annotation.exchange.foreign_masks import (
    ForeignMask,
    Found,
    Picture,
    Size,
    check_size,
    read_file,
)
from sono.annotation.exchange.frames import Content, place_of
from sono.annotation.exchange.rings import drawn_iou, joined, polygons_of
from sono.annotation.exchange.shapes import draw_box, draw_polygons, points_of
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import check_inside, real_path
from sono.curation.core.errors import SonoError

NAMES = ("data.yaml", "data.yml", "dataset.yaml")
LABELS = "labels"
MAX_YAML = 1 << 20  # bytes
BOX = 4  # numbers of a box; a polygon has 6 or more
DIGITS = 8  # of fractions: a pixel of a side of 10,000 is 1e-4


def names_file(folder: Path) -> Path | None:
    """The file of a YOLO folder that names its classes."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read_yolo(path: Path, found: Found) -> None:
    """Add the polygons and boxes of a YOLO folder to `found`; `path` is its data.yaml.

    Raises SonoError if the names of its classes cannot be read.
    """
    names = _names(path)
    folder = path.parent
    below = folder / LABELS
    top = below if below.is_dir() else folder
    for file in sorted(top.rglob("*.txt")):
        inside = file.relative_to(top)
        picture = Picture(inside.with_suffix("").as_posix(), str(file), str(real_path(folder)))
        try:
            check_inside(file, folder)
            lines = read_file(file).decode("utf-8").splitlines()
        except (SonoError, UnicodeDecodeError) as error:
            found.refuse("broken", file, str(error).removeprefix(f"{file}: "))
            continue
        found.pictures.append(picture)
        for number, line in enumerate(lines, start=1):
            if line.strip():
                _read_line(line, f"{file}:{number}", names, picture, found)


class _UniqueLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A safe loader that refuses a mapping with two values of one key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(content) < len(node.value):
            raise yaml.YAMLError("a key occurs twice")
        return content


def _read_line(
    line: str, place: str, names: dict[int, str], picture: Picture, found: Found
) -> None:
    first, *rest = line.split()
    label = (
        names.get(int(first)) if first.isascii() and first.isdigit() and len(first) < 7 else None
    )
    if label is None:
        found.refuse("broken", place, f"class '{first[:20]}' has no name in the names file")
    elif len(rest) != BOX and (len(rest) < BOX + 2 or len(rest) % 2):
        found.refuse("broken", place, f"{len(rest)} numbers, which are no polygon or box")
    else:
        source = "box" if len(rest) == BOX else "import"
        found.masks.append(ForeignMask(picture, label, None, place, partial(_pixels, rest), source))


def _names(path: Path) -> dict[int, str]:
    try:
        content = yaml.load(read_file(path, MAX_YAML), _UniqueLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise SonoError(f"{path}: not valid YAML; write the names of the classes again") from error
    names: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(
        type(number) is int and isinstance(name, str) for number, name in names.items()
    ):
        raise SonoError(f"{path}: has no list 'names' of the classes; write it as Ultralytics does")
    return names


def _pixels(numbers: list[str], size: Size) -> Mask:
    """The mask [H, W] of a polygon or box in fractions of the sides."""
    check_size(size)
    pairs = [numbers[at : at + 2] for at in range(0, len(numbers), 2)]
    points = points_of(pairs, 2)
    if points.min() < -1 or points.max() > 2:
        raise SonoError("points far outside 0 to 1, so no fractions; export it again")
    points = points * [size[1], size[0]]
    if len(points) > BOX // 2:
        return draw_polygons([points.ravel()], size)
    (x, y), (width, height) = points.tolist()
    return draw_box(x - width / 2, y - height / 2, x + width / 2, y + height / 2, size)


def write_yolo(content: Content, target: Path) -> None:
    """Write labels/ with a text for each frame, and data.yaml.

    A line is one polygon, so that the parts of a mask are joined by cuts without width.
    """
    numbers = {name: number for number, name in enumerate(content.structures)}
    for frame in content.frames:
        lines = []
        for mask in frame.masks:
            rings = polygons_of(mask, content)
            ring = joined(rings)
            if len(rings) > 1 and drawn_iou([ring], mask.pixels) < drawn_iou(rings, mask.pixels):
                content.lose(mask, drawn_iou([ring], mask.pixels), f"{len(rings)} parts joined")
            shares = (ring / [frame.size[1], frame.size[0]]).round(DIGITS)
            lines.append(" ".join([str(numbers[mask.structure]), *map(_short, shares.ravel())]))
        text = "".join(f"{line}\n" for line in lines)
        place_of(target / LABELS, frame.stem, ".txt").write_text(text, encoding="utf-8")
    names = "".join(f"  {number}: {json.dumps(name)}\n" for name, number in numbers.items())
    text = f"path: .\ntrain: images\nval: images\nnames:\n{names}"
    (target / NAMES[0]).write_text(text, encoding="utf-8")


def _short(share: np.float64) -> str:
    return np.format_float_positional(share, trim="0")
