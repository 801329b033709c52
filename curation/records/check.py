"""The report of `sono records check`: how sono reads a table, without names or ids of patients."""

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from sono.curation.clinical import values
from sono.curation.clinical.dates import parse_date
from sono.curation.clinical.dating import DATINGS, SOURCES, days_from_size
from sono.curation.clinical.gestational_age import POINT
from sono.curation.core.errors import IssuesError, SonoError, counted
from sono.curation.core.planes import OTHER, PlaneTable
from sono.curation.privacy.source_names import names_of_persons
from sono.curation.records.file_matching import MatchOptions, RawMatch, match_raw
from sono.curation.records.partition import partition_remark
from sono.curation.records.read import (
    RecordsConfig,
    merge_table,
    read_rows,
    rejection_messages,
)
from sono.curation.records.table import Record
from sono.curation.records.table_reading import TableReading

if TYPE_CHECKING:
    from rich.console import Group

UNKNOWN, NONE = "unknown label", "none"
POINT_DIGITS = 5  # this many ages like 22.3, and no other decimals, look like weeks and days


@dataclass(frozen=True)
class Column:
    """A column: its `meaning`, the number of filled cells, and its most frequent patterns."""

    title: str
    meaning: str
    filled: int
    looks: dict[str, int]


@dataclass(frozen=True)
class Compared:
    """Another dating of rows with an age: rows, median difference in days, and conflicts."""

    rows: int
    median_days: float
    conflicts: int


@dataclass(frozen=True)
class RecordsReport:
    """How a table is read; rows are identified by their line, never by their cells."""

    table: str
    layout: str
    rows: int
    records: dict[str, int]  # rows by kind: image, study, patient
    columns: tuple[Column, ...]
    planes: dict[str, int]
    ages: dict[str, int]  # rows by the dating that gave the age, and recorded ages by form
    datings: dict[str, Compared]
    age_conflicts: tuple[int, ...]  # lines
    patients: int
    exams: int
    patients_with_several_exams: int
    repeated_rows: tuple[int, ...]
    conflicting_rows: tuple[int, ...]
    rejected: tuple[str, ...]
    remarks: tuple[str, ...]
    # titles of unused columns by the field that their cells suggest
    suggested: dict[str, tuple[str, ...]] = field(default_factory=dict)
    raw: RawMatch | None = None
    stops_qc: str = ""  # why `sono qc` refuses this table
    unknown_planes: str = ""  # the section of sono.toml that would give each label a plane

    def refuse_what_stops_qc(self) -> None:
        """Raise SonoError if `sono qc` would stop with this error, too."""
        if self.stops_qc:
            raise SonoError(
                f"{self.table}: `sono qc` stops at its {counted(self.planes[UNKNOWN], 'row')}"
                " with an unknown "
                "plane; correct them, or give each label a plane in sono.toml or in a planes file "
                "(docs/records.md)"
            )

    def refuse_findings(self) -> None:
        """IssuesError (exit 3) where a row, value, age or file needs attention."""
        missing = self.raw.unmatched + self.raw.rows_without_file if self.raw else 0
        findings = {
            "rejected rows or values": len(self.rejected),
            "conflicts of age": len(self.age_conflicts),
            "files or rows without a match": missing,
        }
        listed = ", ".join(f"{count} {name}" for name, count in findings.items() if count)
        if listed:
            raise IssuesError(f"{self.table}: {listed}; see above")

    def __rich__(self) -> "Group":
        """The report for a terminal."""
        from sono.curation.records.check_view import view

        return view(self)


def check_records(
    path: Path,
    config: RecordsConfig,
    planes: PlaneTable,
    raw: Path | str | None = None,
    options: MatchOptions | None = None,
) -> RecordsReport:
    """Read a table as `sono qc` would and report on it; with `raw`, match that folder, too.

    No message shows a name from the headers of the files or of earlier runs; where no header is
    known, only cells like known words are shown. Raises SonoError if the file is not a records
    table.
    """
    options = options or MatchOptions()
    reading = read_rows(path, config, planes, known=names_of_persons(options.sources))
    table = merge_table(reading, config)
    found, persons = match_raw(raw, table, path, options) if raw else (None, ())
    reading = (
        reading.knowing(persons)
        if raw or options.names or len(options.sources)
        else replace(reading, before_headers=True)
    )
    records = reading.records
    exams = _exams(reading)
    return RecordsReport(
        table=path.name,
        layout=table.layout,
        rows=len(reading.sheet.rows) + len(reading.sheet.broken),
        records=_counts(record.kind for record in records),
        columns=_columns(reading),
        planes=_planes(reading),
        ages=_ages(reading),
        datings=_datings(reading),
        age_conflicts=tuple(record.line for record in records if record.ga_conflicts),
        patients=len(exams),
        exams=sum(map(len, exams.values())),
        patients_with_several_exams=sum(len(found) > 1 for found in exams.values()),
        repeated_rows=tuple(reading.repeated),
        conflicting_rows=tuple(reading.conflicting),
        rejected=(*rejection_messages(reading), *reading.unknown_planes()),
        remarks=(*table.doubts, *_remarks(reading, options.partition)),
        suggested=dict(table.suggested),
        raw=found,
        stops_qc=reading.planes_problem(),
        unknown_planes=reading.planes_block(),
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _columns(reading: TableReading) -> tuple[Column, ...]:
    fields = {index: field for field, index in reading.layout.columns.items()}
    found = []
    for index, title in enumerate(reading.sheet.header):
        cells = [row[index] for _, row in reading.sheet.rows if row[index]]
        looks = values.most_common(Counter(map(values.shape, cells)))
        found.append(
            Column(title, _meaning(index, fields.get(index, ""), reading), len(cells), looks)
        )
    return tuple(found)


def _meaning(index: int, field: str, reading: TableReading) -> str:
    unit = reading.layout.units.get(field, "")
    named = f"{field} ({unit})" if unit and unit not in field else field
    if index in reading.layout.private:
        return f"{named}, private" if named else "private"
    return named or "unused"


def _planes(reading: TableReading) -> dict[str, int]:
    """Rows by plane; "none" where the row has no label."""
    index = reading.layout.columns.get("plane")
    unknown = (
        sum(row[index] in reading.unknown for _, row in reading.sheet.rows)
        if index is not None
        else 0
    )
    counts = Counter(record.plane or NONE for record in reading.records)
    counts[NONE] -= min(unknown, counts[NONE])
    order = [*reading.planes.by_id, OTHER, NONE]
    known = {plane: counts[plane] for plane in order if counts[plane]}
    return {**known, **({UNKNOWN: unknown} if unknown else {})}


def _ages(reading: TableReading) -> dict[str, int]:
    sources = Counter(record.ga_source or NONE for record in reading.records)
    forms = Counter(f"written as {age.form}" for age in reading.ages if age.form)
    return {
        **{name: sources[name] for name in (*SOURCES, NONE) if sources[name]},
        **_counts(forms.elements()),
    }


def _datings(reading: TableReading) -> dict[str, Compared]:
    """Compare every other dating, with biometry by its formula, with the age in use."""
    differences: dict[str, list[int]] = {}
    conflicts: Counter[str] = Counter()
    for record, age in zip(reading.records, reading.ages, strict=True):
        if record.ga_days is None:
            continue
        conflicts.update(record.ga_conflicts)
        for name, days in {**_by_size(record), **age.datings}.items():
            if name != record.ga_source:
                differences.setdefault(name, []).append(days - record.ga_days)
    order = dict.fromkeys((*SOURCES, *DATINGS))
    return {
        name: Compared(len(differences[name]), float(median(differences[name])), conflicts[name])
        for name in order
        if name in differences
    }


def _by_size(record: Record) -> dict[str, int]:
    sizes = {name: getattr(record, f"{name}_mm") for name in DATINGS}
    ages = {name: days_from_size(name, size) for name, size in sizes.items() if size is not None}
    return {name: days for name, days in ages.items() if days is not None}


def _exams(reading: TableReading) -> dict[str, set[str]]:
    """The exams of each patient.

    An exam is identified by study or accession number, else by date, else by an age that is not
    measured.
    """
    dates = _exam_dates(reading)
    exams: dict[str, set[str]] = {}
    for record in reading.records:
        if record.patient:
            age = record.ga_days if record.ga_source not in DATINGS else None
            exam = record.study or record.accession or dates.get(record.line) or age
            exams.setdefault(record.patient, set()).update([str(exam)] if exam else [])
    return exams


def _exam_dates(reading: TableReading) -> dict[int, date]:
    """The exam date of each line that has one."""
    index = reading.layout.columns.get("exam_date")
    found: dict[int, date] = {}
    if index is None:
        return found
    for line, row in reading.sheet.rows:
        with suppress(SonoError):
            found[line] = parse_date(row[index], reading.rules.month_first.get("exam_date", False))
    return found


def _remarks(reading: TableReading, partition: str) -> tuple[str, ...]:
    remarks = _date_remarks(reading)
    if reading.before_headers and reading.found:
        remarks.append(
            "cells in these messages are masked unless they are like known words, because no "
            "header of a file is known; give --raw FOLDER, or --names to see them"
        )
    remarks += filter(None, [] if partition else [partition_remark(reading.sheet)])
    remarks += [
        f"all ids of the column '{title}' end in .0 and are read without it"
        for title in reading.as_floats
    ]
    waiting = sum(
        bool(record.due or record.lmp) and record.exam_date is None for record in reading.records
    )
    if waiting:
        remarks.append(
            f"{counted(waiting, 'row has', 'rows have')}"
            " a due date or last period but no exam date; the study date of a "
            "file is used for the age"
        )
    forms = Counter(age.form for age in reading.ages)
    if (
        forms[POINT] >= POINT_DIGITS
        and not reading.rules.point_days
        and not _other_decimals(reading)
    ):
        remarks.append(
            f"{forms[POINT]} ages look like 22.3 and none has another decimal; if they mean weeks "
            'and days, set ga_point = "days" in [records]'
        )
    return tuple(remarks)


def _other_decimals(reading: TableReading) -> bool:
    """Whether an age like 22.43 or 22.9 shows that the point is a decimal one."""
    fields = ("ga", "ga_weeks")
    columns = [reading.layout.columns[name] for name in fields if name in reading.layout.columns]
    pattern = re.compile(r"\d+[.,](?:[7-9]|\d{2,}).*")
    return any(pattern.fullmatch(row[index]) for _, row in reading.sheet.rows for index in columns)


def _date_remarks(reading: TableReading) -> list[str]:
    remarks: list[str] = []
    shown = sum(reading.orders.values(), Counter[str]())
    if not shown["day"] and not shown["month"]:
        return remarks
    for name, counts in reading.orders.items():
        if not counts:
            continue
        fits = (
            f"{counts['day']} fit day first only, {counts['month']} month first only, "
            f"{counts['either']} both"
        )
        first = reading.rules.month_first[name]
        if first is None:
            remarks.append(
                f"dates of {name} have both orders ({fits}); those that fit both are left out"
            )
        else:
            remarks.append(f"dates of {name} are read {'month' if first else 'day'} first ({fits})")
    return remarks
