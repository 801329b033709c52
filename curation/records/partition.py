"""The partition of a published table: which of its rows are train, val and test."""

import json
import re
from collections.abc import Iterator, Mapping

from sono.curation.clinical.dates import short
from sono.curation.clinical.placeholders import id_form, known
from sono.curation.clinical.values import shape
from sono.curation.core.column_values import SPLITS
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.records.delimited import Sheet, clean
from sono.curation.records.identity import unpadded
from sono.curation.records.table import path_parts, without_suffix
from sono.curation.records.table_reading import TableReading

WORDS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "te", "holdout", "held out", "held-out"),
}
YES, NO = ("1", "true", "yes", "y"), ("0", "false", "no", "n")
# the splits of yes and no in a column with this title
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
    """The split of each line by the column `column`; None where the table has no such column.

    `values` maps cells to splits; common words need no mapping, nor do yes and no in a column
    called train or test. Raises SonoError for a cell without a mapping, and where one patient,
    study or image has rows in several splits.
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
                f"{path}:{line}: column '{column.strip()}' has '{shown}', which is not a split; "
                f'map it in sono.toml: [splits] values = {{ "{shown}" = "train" }}'
            )
        found[line] = known[cell_form(cell)]
    _check_subjects(reading, found)
    return found


def looks_like_partition(sheet: Sheet) -> str:
    """The title of a column that looks like a partition, "" for none."""
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


def partition_remark(sheet: Sheet) -> str:
    """A remark on a column that looks like a partition and how to use it, "" for none."""
    title = looks_like_partition(sheet)
    if not title:
        return ""
    return (
        f"column '{title}' of the records table looks like a published partition, which is not "
        f"used; to use it, set [splits] column = {json.dumps(title, ensure_ascii=False)} in "
        "sono.toml"
    )


def missing_column(reading: TableReading, column: str) -> str:
    """A message that the table lacks `column`, with the nearest title."""
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
    """The splits of cells that need no setting, in a column with this `title`."""
    words = {word: split for split, spelled in WORDS.items() for word in spelled}
    yes, no = OF_ONE.get(_title(title).removeprefix("is_").removeprefix("in_"), ("", ""))
    flags = {**dict.fromkeys(YES, yes), **dict.fromkeys(NO, no)} if yes else {}
    return words | flags


def _check_subjects(reading: TableReading, found: Mapping[int, str]) -> None:
    """SonoError, without the patient's id, where one patient, study or image is in two splits."""
    first: dict[tuple[str, ...], int] = {}
    for line, row in reading.sheet.rows:
        if line not in found:
            continue
        for subject in _subjects(reading.layout.cells(row)):
            before = first.setdefault(subject, line)
            if found[before] != found[line]:
                raise SonoError(
                    f"{reading.path}:{line}: the {subject[0]} of line {before} again, in "
                    f"{found[line]} instead of {found[before]}, so the partition is crossed; "
                    "correct the table, or leave [splits] column out"
                )


def _subjects(cells: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The subjects of a row: its image, and its patient, or its study if it names no patient."""
    if "image" in cells:
        yield "image", without_suffix("/".join(path_parts(cells["image"])))
    center = id_form(cells.get("center", ""))  # two centers may use one number
    if patient := known(cells.get("patient")):
        yield "patient", center, unpadded(patient)  # with and without zeros it may be one patient
        return
    for name in ("study_uid", "study", "accession"):
        if study := known(cells.get(name)):
            yield "study", name, center, study


def cell_form(text: str) -> str:
    """A cell of a partition for comparison, without case, blanks and a trailing .0."""
    return clean(text).casefold().removesuffix(".0")


def _title(column: str) -> str:
    return re.sub(r"\W+", "_", column.strip().casefold()).strip("_")
