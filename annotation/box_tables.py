"""Tables of boxes as masks: a row a box, with the picture's name, a label and the edges in pixels."""

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sono.annotation.foreign_masks import MAX_BYTES, ForeignMask, Found, Picture, Size
from sono.annotation.mask_labels import plain_label
from sono.annotation.shapes import draw_box
from sono.curation.errors import SonoError, did_you_mean
from sono.curation.records.formats import read_sheet
from sono.curation.storage import open_regular, real_path

# Titles by field, as data sets and tools write them. "x" and "y" are not here: they may be a corner or the center.
TITLES = {
    "file": ("fname", "file", "filename", "file name", "image", "image name", "image path", "path"),
    "label": ("structure", "label", "class", "class name", "category"),
    "left": ("w_min", "xmin", "x1", "left"),
    "top": ("h_min", "ymin", "y1", "top"),
    "right": ("w_max", "xmax", "x2", "right"),
    "bottom": ("h_max", "ymax", "y2", "bottom"),
    "width": (),  # of the box, where right and bottom are missing; only by --column
    "height": (),
    "picture_width": ("width", "img width", "image width"),
    "picture_height": ("height", "img height", "image height"),
}
SIZES = {"width": "picture_width", "height": "picture_height"}
EDGES = ("left", "top", "right", "bottom")


def read_boxes(path: Path, columns: Mapping[str, str], found: Found) -> None:
    """Add the boxes of a table (CSV, TSV, XLSX, Parquet, JSON lines) to `found`, a bad row as refused.

    Columns are known by the titles of TITLES or by `columns` (field -> title). Edges are in source pixels, the right
    and bottom ones exclusive. Columns width and height are the size of the picture, or of each box where all of them
    are. SonoError where a column is missing, or where all edges are fractions.
    """
    with suppress(OSError):  # `read_sheet` says why it cannot be opened
        open_regular(path, MAX_BYTES).close()
    sheet = read_sheet(path)
    places = _columns(path, sheet.header, columns)
    folder = str(real_path(path).parent)
    for problem in sheet.broken:
        found.refuse("broken", problem)
    rows = [(line, {name: row[place] for name, place in places.items()}) for line, row in sheet.rows]
    _refuse_fractions(path, [cells for _, cells in rows])
    sized = not _are_of_boxes([cells for _, cells in rows])
    for line, cells in rows:
        place = f"{path}:{line}"
        picture = Picture(cells["file"], f"{path}: {cells['file']}", folder)
        if not cells["file"] or not cells["label"]:
            found.refuse("broken", place, "a row without file or label")
            continue
        found.pictures.append(picture)
        try:
            edges, size = _edges(cells), _picture_size(cells) if sized else None
        except SonoError as error:
            found.refuse("broken", place, str(error))
            continue
        found.masks.append(ForeignMask(picture, cells["label"], size, place, partial(_pixels, edges), "box"))


def _columns(path: Path, header: tuple[str, ...], given: Mapping[str, str]) -> dict[str, int]:
    """The place of the column of each field."""
    for name in given:
        if name not in TITLES:
            raise SonoError(f"--column '{name}': no field of a box{did_you_mean(name, TITLES)}")
    plain = [plain_label(title) for title in header]
    places: dict[str, int] = {}
    for name, titles in TITLES.items():
        wanted = {plain_label(given[name])} if name in given else set(map(plain_label, titles))
        fitting = [place for place, title in enumerate(plain) if title in wanted]
        if len(fitting) > 1:
            shown = " and ".join(f"'{header[place]}'" for place in fitting)
            raise SonoError(f"{path}: {shown} may each be the {name} of a box; say which with --column {name}=TITLE")
        if name in given and not fitting:
            raise SonoError(f"{path}: no column '{given[name]}'{did_you_mean(given[name], header)}")
        if fitting:
            places[name] = fitting[0]
    for own, name in SIZES.items():
        if own in places and places.get(name) == places[own]:
            del places[name]
    sizes = {"right": "width", "bottom": "height"}
    missing = [name for name in ("file", "label", *EDGES) if name not in places and sizes.get(name) not in places]
    if missing:
        raise SonoError(
            f"{path}: no column for {', '.join(missing)} among {', '.join(header[:20])}; name them, as in "
            f'--column "{missing[0]}=TITLE" (fields: {", ".join(TITLES)})'
        )
    return places


def _refuse_fractions(path: Path, rows: list[dict[str, str]]) -> None:
    numbers = [cells[name] for cells in rows for name in (*EDGES, "width", "height") if cells.get(name)]
    try:
        whole = [float(number) for number in numbers]
    except ValueError:
        return
    if whole and all(0 <= number <= 1 for number in whole):
        raise SonoError(f"{path}: all edges lie between 0 and 1, so they are fractions; give them in pixels")


def _edges(cells: Mapping[str, str]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in pixels."""
    left, top = _number(cells, "left"), _number(cells, "top")
    right = _number(cells, "right") if "right" in cells else left + _number(cells, "width")
    bottom = _number(cells, "bottom") if "bottom" in cells else top + _number(cells, "height")
    return left, top, right, bottom


def _are_of_boxes(rows: list[dict[str, str]]) -> bool:
    """Whether the columns width and height hold the size of each box, not that of its picture."""
    with suppress(SonoError, KeyError):
        for cells in rows:
            left, top, right, bottom = _edges(cells)
            if (_number(cells, "picture_width"), _number(cells, "picture_height")) != (right - left, bottom - top):
                return False
        return True
    return False


def _picture_size(cells: Mapping[str, str]) -> Size | None:
    """Height and width of the picture that the box was drawn on; None where the row does not say."""
    if not (cells.get("picture_width") and cells.get("picture_height")):
        return None
    return round(_number(cells, "picture_height")), round(_number(cells, "picture_width"))


def _number(cells: Mapping[str, str], name: str) -> float:
    try:
        number = float(cells[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SonoError(f"{name} is '{cells[name]}', no number of pixels")
    return number


def _pixels(edges: tuple[float, float, float, float], size: Size) -> NDArray[np.bool_]:
    return draw_box(*edges, size)
