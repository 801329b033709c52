"""The partition that a published table brings along: which of its rows are train, val and test."""

import re
from collections.abc import Iterator, Mapping

from sono.curation.clinical.dates import short
from sono.curation.clinical.placeholders import id_form
from sono.curation.clinical.values import shape
from sono.curation.core.column_values import SPLITS
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.records.delimited import Sheet, clean
from sono.curation.records.identity import known, unpadded
from sono.curation.records.table import path_parts, without_suffix
from sono.curation.records.table_reading import TableReading

WORDS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "te", "holdout", "held out", "held-out"),
}
YES, NO = ("1", "true", "yes", "y"), ("0", "false", "no", "n")
# split of yes and of no in a column of that title
OF_ONE = {"train": ("train", "test"), "test": ("test", "train")}
TITLES = (
    "split",
    "set",
    "subset",
    "partition",
    "fold",
    "phase",
    "data_split",
    "dataset_split",
    "split_name",
    "usage",
)


def read_partition(
    reading: TableReading, column: str, values: Mapping[str, str]
) -> dict[int, str] | None:
    """The split of each row, by its line, from the column `column`; None where the table has no
    such column.

    `values` maps cells to splits; the usual words need no mapping, nor do yes and no in a column
    called train or test. SonoError for a cell that no mapping knows, and where one patient, study
    or image has rows in several parts.
    """
    sheet, path = reading.sheet, reading.path
    index = _index(sheet, column)
    if index is None:
        return None
    known = _mapping(sheet.header[index]) | {
        cell_form(cell): split for cell, split in values.items()
    }
    found: dict[int, str] = {}
    for line, row in sheet.rows:
        cell = row[index]
        if not cell:
            continue
        if cell_form(cell) not in known:
            shown = short(cell) if reading.may_show(line, index) else shape(cell)
            raise SonoError(
                f"{path}:{line}: column '{column.strip()}' has '{shown}', which is no split; "
                f'map it in sono.toml: [splits] values = {{ "{shown}" = "train" }}'
            )
        found[line] = known[cell_form(cell)]
    _check_subjects(reading, found)
    return found


def looks_like_partition(sheet: Sheet) -> str:
    """The title of a column of the table that looks like a partition, "" where there is none."""
    for index, title in enumerate(sheet.header):
        known = _mapping(title)
        cells = {cell_form(row[index]) for _, row in sheet.rows if row[index]}
        named = _title(title) in TITLES or len(known) > len(_mapping(""))
        if (
            named
            and 1 < len({known.get(cell, cell) for cell in cells}) <= len(SPLITS)
            and cells <= known.keys()
        ):
            return title.strip()
    return ""


def missing_column(reading: TableReading, column: str) -> str:
    """That the table lacks `column`, with the nearest title."""
    return (
        f"{reading.path}: no column '{column.strip()}' for the "
        f"splits{did_you_mean(column, reading.sheet.header)}"
    )


def _index(sheet: Sheet, column: str) -> int | None:
    wanted = cell_form(column)
    return next(
        (index for index, title in enumerate(sheet.header) if cell_form(title) == wanted), None
    )


def _mapping(title: str) -> dict[str, str]:
    """Cells to splits without a setting, in a column of this `title`."""
    words = {word: split for split, spelled in WORDS.items() for word in spelled}
    yes, no = OF_ONE.get(_title(title).removeprefix("is_").removeprefix("in_"), ("", ""))
    flags = {**dict.fromkeys(YES, yes), **dict.fromkeys(NO, no)} if yes else {}
    return words | flags


def _check_subjects(reading: TableReading, found: Mapping[int, str]) -> None:
    """SonoError where rows of one patient, study or image are in several parts.

    It names lines, not the patient.
    """
    first: dict[tuple[str, ...], int] = {}
    for line, row in reading.sheet.rows:
        if line not in found:
            continue
        for subject in _subjects(reading.layout.cells(row)):
            before = first.setdefault(subject, line)
            if found[before] != found[line]:
                raise SonoError(
                    f"{reading.path}:{line}: the {subject[0]} of line {before} again, in "
                    f"{found[line]} instead of "
                    f"{found[before]}: the partition is crossed; correct the table, or leave "
                    f"[splits] column out"
                )


def _subjects(cells: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Whom and what a row is about.

    Its image, and its patient, or its study where it names no patient.
    """
    if "image" in cells:
        yield "image", without_suffix("/".join(path_parts(cells["image"])))
    center = id_form(cells.get("center", ""))  # two centers may have one number
    if patient := known(cells.get("patient")):
        yield "patient", center, unpadded(patient)  # without leading zeros it may be the same
        return
    for name in ("study_uid", "study", "accession"):
        if study := known(cells.get(name)):
            yield "study", name, center, study


def cell_form(text: str) -> str:
    """A cell of a partition as it is compared: case, blanks and a .0 do not count."""
    return clean(text).casefold().removesuffix(".0")


def _title(column: str) -> str:
    return re.sub(r"\W+", "_", column.strip().casefold()).strip("_")
