"""Read a records table: each row describes an image, study or patient and is checked and typed."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from sono.curation.clinical import values
from sono.curation.clinical.dates import count_orders, month_first_of
from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.config import Config
from sono.curation.core.errors import SonoError, counted
from sono.curation.core.planes import PLANES, PlaneTable
from sono.curation.records.column_looks import (
    columns_block,
    private_columns,
    suggested_columns,
)
from sono.curation.records.delimited import Sheet
from sono.curation.records.formats import read_sheet
from sono.curation.records.layouts import (
    KEYS,
    Layout,
    NoKeyColumnError,
    find_known_table,
    find_layout,
    refuse_rivals,
)
from sono.curation.records.partition import looks_like_partition
from sono.curation.records.row_age import DATES, AgeRules
from sono.curation.records.row_merging import IDS, merge_rows
from sono.curation.records.row_parsing import parse_row
from sono.curation.records.sizes import leave_out_doubtful
from sono.curation.records.table import JoinRules, Record, RecordsTable
from sono.curation.records.table_reading import TableReading

__all__ = ["Record", "RecordsConfig", "RecordsTable", "find_known_table", "read_records"]

Measure = Literal["bpd", "hc", "ac", "fl", "crl", "nt"]


class RecordsConfig(Config):
    """How to read the records table: its columns, and what the file itself does not show."""

    # title of each field, "" for none; several for name, operator and contact
    columns: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    # of columns whose title has no unit
    units: dict[Measure, Literal["mm", "cm"]] = Field(default_factory=dict)
    sheet: str = ""  # of a workbook; default: the first sheet
    delimiter: str = ""
    encoding: str = ""
    # what comes first in 03/04/2024; default: as the other dates show
    date_order: Literal["", "day", "month"] = ""
    # the meaning of 22.3: 22.3 weeks, or 22w3d
    ga_point: Literal["fraction", "days"] = "fraction"
    # best first
    ga_from: tuple[Literal["recorded", "due", "lmp", "crl", "hc"], ...] = ("recorded", "due", "lmp")
    findings: tuple[str, ...] = ()
    match_folders: bool = False  # use folder names as study or patient ids
    # most days between a row's exam date and the study date of a file
    date_tolerance_days: int = Field(default=0, ge=0, le=30)

    @property
    def known_findings(self) -> tuple[str, ...]:
        """The findings of our list and of the study's own."""
        return (*FINDINGS, *self.findings)


def read_records(
    path: Path, config: RecordsConfig, planes: PlaneTable, center_column: str | None = None
) -> RecordsTable:
    """Read a table and return its records.

    Raises SonoError for an unknown plane; correct it or give an alias.
    """
    reading = read_rows(path, config, planes, center_column)
    reading.require_known_planes()
    return merge_table(reading, config)


def read_rows(
    path: Path,
    config: RecordsConfig,
    planes: PlaneTable,
    center_column: str | None = None,
    known: Collection[str] = (),
) -> TableReading:
    """Read the rows of a table in the layout of FETAL_PLANES_DB, HC18 or a hospital.

    Invalid values are left out and reported by `problems`; unknown planes are in `unknown`. The
    column `center_column` names the center. No message shows a name from the table or one of the
    `known` persons; `knowing` adds the names in file headers. Raises SonoError if the file is no
    records table.
    """
    sheet = read_sheet(path, config.delimiter, config.encoding, config.sheet)
    try:
        layout = find_layout(path, sheet.header, config.columns, center_column or "")
    except NoKeyColumnError as error:
        raise SonoError(f"{error}{sheet.others}", _pasted(sheet, planes)) from error
    except SonoError as error:
        raise SonoError(f"{error}{sheet.others}") from error
    layout = replace(
        layout, units={**layout.units, **{str(field): unit for field, unit in config.units.items()}}
    )
    refuse_rivals(path, sheet, layout, config.columns)
    sheet, as_floats = _with_integer_ids(sheet, layout)
    orders = _date_orders(sheet, layout)
    chosen = config.date_order == "month" if config.date_order else None
    month_first = {
        name: month_first_of(name, orders) if chosen is None else chosen for name in orders
    }
    rules = AgeRules(config.ga_from, config.ga_point == "days", month_first)
    reading = TableReading(
        path, sheet, layout, planes, config.known_findings, rules, orders, as_floats, known
    )
    for line, row in sheet.rows:
        record = parse_row(line, row, reading)
        if record is not None:
            reading.records.append(record)
    leave_out_doubtful(reading)
    return reading


def _pasted(sheet: Sheet, planes: PlaneTable) -> str:
    """The lines for `sono.toml` that the contents of the columns suggest; "" for none."""
    block = columns_block(suggested_columns(sheet, planes))
    return f"The contents suggest these lines for sono.toml; check each:\n{block}" if block else ""


def merge_table(reading: TableReading, config: RecordsConfig) -> RecordsTable:
    """The records of a reading, rows about one subject merged into one."""
    kept = tuple(merge_rows(reading))
    rules = JoinRules(config.date_tolerance_days, config.ga_from)
    suggested = unused_columns(reading, config)
    return RecordsTable(
        kept,
        rejection_messages(reading),
        reading.layout.name,
        config.match_folders,
        rules,
        _unused(reading),
        _doubts(reading, config),
        suggested,
    )


def rejection_messages(reading: TableReading) -> tuple[str, ...]:
    """A message for each problem of a table except unknown planes, without known names."""
    notes = (f"{reading.name}: {reading.shown_title(note)}" for note in reading.sheet.notes)
    return (*reading.sheet.broken, *notes, *reading.problems())


def _doubts(reading: TableReading, config: RecordsConfig) -> tuple[str, ...]:
    """Messages on planes outside the 24, dates of unclear order, and columns that look private."""
    found = []
    if outside := reading.outside_planes():
        listed = ", ".join(f"{name} {count}" for name, count in outside.items())
        found.append(
            f"{counted(sum(outside.values()), 'row names', 'rows name')} a known plane outside the "
            f"{len(PLANES)}: {listed}; their frames are kept without a standard plane, and no "
            "caption names one"
        )
    counts = sum(reading.orders.values(), Counter[str]())
    if not (config.date_order or not counts["either"] or counts["day"] or counts["month"]):
        found.append(
            f"no date shows whether day or month comes first ({counts['either']} fit both): last "
            "periods and due dates among them are left out, other dates are read day first; "
            'set date_order = "day" or "month" in [records]'
        )
    private = private_columns(reading.sheet, reading.planes, reading.layout.used)
    if private:
        found.append(
            f"unused columns that look private: {', '.join(map(reading.shown_title, private))}; "
            "the privacy gate does not search for their cells; set them under [records.columns] "
            "by their fields, for example name, birth or contact (any other; it takes a list)"
        )
    return tuple(found)


def unused_columns(reading: TableReading, config: RecordsConfig) -> dict[str, tuple[str, ...]]:
    """Titles of unused columns by the field that their cells suggest, where it has no column.

    A field that the settings switch off is not suggested.
    """
    found = suggested_columns(reading.sheet, reading.planes, reading.layout.used)
    return {
        field: titles
        for field, titles in found.items()
        if field not in reading.layout.columns
        and config.columns.get(field) != ""
        and all(reading.shown_title(title) == title for title in titles)
    }


def _unused(reading: TableReading) -> tuple[str, ...]:
    """The titles of columns that have cells and no meaning, without a published partition."""
    partition = looks_like_partition(reading.sheet)
    return tuple(
        reading.shown_title(title)
        for index, title in enumerate(reading.sheet.header)
        if index not in reading.layout.used
        and title.strip() != partition
        and any(row[index] for _, row in reading.sheet.rows)
    )


def _with_integer_ids(sheet: Sheet, layout: Layout) -> tuple[Sheet, tuple[str, ...]]:
    """The sheet with 4711.0 read as 4711 in id columns of such numbers, and their titles.

    Ids that a spreadsheet has rounded to 15 digits become `1.23E+15`.
    """
    titles = []
    rows = [list(cells) for _, cells in sheet.rows]
    for index in sorted({layout.columns[name] for name in KEYS if name in layout.columns}):
        whole = values.whole_ids([cells[index] for cells in rows])
        if whole is not None:
            titles.append(sheet.header[index])
            for cells, text in zip(rows, whole, strict=True):
                cells[index] = text
    for index in sorted({layout.columns[name] for name in IDS if name in layout.columns}):
        for cells, text in zip(
            rows, values.with_rounded_ids([cells[index] for cells in rows]), strict=True
        ):
            cells[index] = text
    lines = [line for line, _ in sheet.rows]
    return replace(sheet, rows=tuple(zip(lines, rows, strict=True))), tuple(titles)


def _date_orders(sheet: Sheet, layout: Layout) -> dict[str, Counter[str]]:
    """For each date column, how many cells show day first, month first or fit either."""
    columns = {name: layout.columns[name] for name in (*DATES, "birth") if name in layout.columns}
    return {
        name: count_orders(row[index] for _, row in sheet.rows) for name, index in columns.items()
    }
