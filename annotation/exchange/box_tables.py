"""Tables of boxes as masks: one row per box with a file name, a label and edges in pixels."""

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sono.annotation.exchange.foreign_masks import MAX_BYTES, ForeignMask, Found, Picture, Size
from sono.annotation.exchange.shapes import draw_box
from sono.annotation.mask_labels import plain_label
from sono.curation.core.atomic import open_regular, real_path
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.records.formats import read_sheet

# Titles by field, as data sets and tools write them. "x" and "y" are not here: they may be a corner
# or the center.
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


class Row(NamedTuple):
    """The cells of a row by field, and its numbers.

    `numbers` holds the edges and sizes, with NaN for a cell that is not a finite number.
    """

    cells: Mapping[str, str]
    numbers: Mapping[str, float]

    @classmethod
    def of(cls, cells: Mapping[str, str]) -> "Row":
        return cls(
            cells,
            {name: _number(text) for name, text in cells.items() if name not in ("file", "label")},
        )

    def number(self, name: str) -> float:
        """Pixels; raises SonoError if the cell is no number."""
        if math.isnan(self.numbers[name]):
            raise SonoError(f"{name} is '{self.cells[name]}', not a number of pixels")
        return self.numbers[name]


def read_boxes(path: Path, columns: Mapping[str, str], found: Found) -> None:
    """Add the boxes of a table to `found`; bad rows are refused.

    Reads CSV, TSV, XLSX, Parquet and JSON lines. Columns are recognized by the titles in TITLES or
    by `columns` (field -> title). Edges are in source pixels; right and bottom are exclusive. The
    columns width and height are the size of the picture, or of each box if they match all boxes.
    Raises SonoError if a column is missing or all edges are fractions.
    """
    with suppress(OSError):  # `read_sheet` reports why it cannot be opened
        open_regular(path, MAX_BYTES).close()
    sheet = read_sheet(path)
    places = _columns(path, sheet.header, columns)
    folder = str(real_path(path).parent)
    for problem in sheet.broken:
        found.refuse("broken", problem)
    rows = [Row.of({name: row[place] for name, place in places.items()}) for _, row in sheet.rows]
    _refuse_fractions(path, rows)
    sized = not _are_of_boxes(rows)
    for (line, _), row in zip(sheet.rows, rows, strict=True):
        place, cells = f"{path}:{line}", row.cells
        picture = Picture(cells["file"], f"{path}: {cells['file']}", folder)
        if not cells["file"] or not cells["label"]:
            found.refuse("broken", place, "a row without file or label")
            continue
        found.pictures.append(picture)
        try:
            edges, size = _edges(row), _picture_size(row) if sized else None
        except SonoError as error:
            found.refuse("broken", place, str(error))
            continue
        found.masks.append(
            ForeignMask(picture, cells["label"], size, place, partial(_pixels, edges), "box")
        )


def _columns(path: Path, header: tuple[str, ...], given: Mapping[str, str]) -> dict[str, int]:
    """The place of the column of each field."""
    for name in given:
        if name not in TITLES:
            raise SonoError(f"--column '{name}': not a field of a box{did_you_mean(name, TITLES)}")
    plain = [plain_label(title) for title in header]
    places: dict[str, int] = {}
    for name, titles in TITLES.items():
        wanted = {plain_label(given[name])} if name in given else set(map(plain_label, titles))
        fitting = [place for place, title in enumerate(plain) if title in wanted]
        if len(fitting) > 1:
            shown = " and ".join(f"'{header[place]}'" for place in fitting)
            raise SonoError(
                f"{path}: {shown} may each be the {name} of a box; choose one with --column "
                f"{name}=TITLE"
            )
        if name in given and not fitting:
            raise SonoError(f"{path}: no column '{given[name]}'{did_you_mean(given[name], header)}")
        if fitting:
            places[name] = fitting[0]
    for own, name in SIZES.items():
        if own in places and places.get(name) == places[own]:
            del places[name]
    sizes = {"right": "width", "bottom": "height"}
    missing = [
        name
        for name in ("file", "label", *EDGES)
        if name not in places and sizes.get(name) not in places
    ]
    if missing:
        raise SonoError(
            f"{path}: no column for {', '.join(missing)} among {', '.join(header[:20])}; map "
            f'them, as in --column "{missing[0]}=TITLE" (fields: {", ".join(TITLES)})'
        )
    return places


def _refuse_fractions(path: Path, rows: list[Row]) -> None:
    numbers = [
        row.numbers[name]
        for row in rows
        for name in (*EDGES, "width", "height")
        if row.cells.get(name)
    ]
    if numbers and all(0 <= number <= 1 for number in numbers):
        raise SonoError(
            f"{path}: all edges are between 0 and 1, so they are fractions; give them in pixels"
        )


def _edges(row: Row) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in pixels."""
    left, top = row.number("left"), row.number("top")
    right = row.number("right") if "right" in row.numbers else left + row.number("width")
    bottom = row.number("bottom") if "bottom" in row.numbers else top + row.number("height")
    return left, top, right, bottom


def _are_of_boxes(rows: list[Row]) -> bool:
    """Whether the columns width and height hold the size of each box, not that of its picture."""
    with suppress(SonoError, KeyError):
        for row in rows:
            left, top, right, bottom = _edges(row)
            if (row.number("picture_width"), row.number("picture_height")) != (
                right - left,
                bottom - top,
            ):
                return False
        return True
    return False


def _picture_size(row: Row) -> Size | None:
    """Height and width of the picture that the box was drawn on; None if the row has none."""
    if not (row.cells.get("picture_width") and row.cells.get("picture_height")):
        return None
    return round(row.number("picture_height")), round(row.number("picture_width"))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _pixels(edges: tuple[float, float, float, float], size: Size) -> NDArray[np.bool_]:
    return draw_box(*edges, size)
