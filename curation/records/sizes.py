"""Check sizes against the ages of their rows: columns that are in cm, and impossible cells."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sono.curation.clinical import values
from sono.curation.clinical.dating import DATINGS, days_from_size
from sono.curation.clinical.gestational_age import weeks_and_days
from sono.curation.core.column_values import RANGES_MM
from sono.curation.records.row_age import without_sizes
from sono.curation.records.table_reading import TableReading

BIOMETRY = (*DATINGS, "nt")
# Of the mean of an age: the lengths of dying embryos and of femora in lethal dysplasias, then heads
# and abdomens (a BPD in the column of HC is 0.27 of the mean), to hydrocephalus.
SHORTEST, SMALLEST, LARGEST = 1 / 4, 1 / 3, 2
LENGTHS = ("crl", "fl")
MM_PER_CM = 10


def is_possible(field: str, size_mm: float, ga_days: int | None = None) -> bool:
    """Whether a size in mm is possible at `ga_days` (None: at any age at which it is measured).

    The size must be a third (CRL and FL: a quarter) to twice the mean for the age by the formula of
    DATINGS (Robinson 1975, Hadlock 1984); ages outside the formula use its first or last day. The
    bounds are wide on purpose: they find wrong units, digits or columns, not diseases. NT has no
    formula and uses RANGES_MM.
    """
    if field not in DATINGS:
        low, high = RANGES_MM[field]
        return low <= size_mm <= high
    dating = DATINGS[field]
    if ga_days is None:
        return days_from_size(field, size_mm) is not None
    least = SHORTEST if field in LENGTHS else SMALLEST
    youngest, oldest = dating.days(size_mm / LARGEST), dating.days(size_mm / least)
    return youngest <= max(ga_days, dating.low_days) and min(ga_days, dating.high_days) <= oldest


def looks_like_cm(field: str, cells: Iterable[tuple[float, int | None]]) -> bool:
    """Whether numbers without a unit, each with its age in days, are sizes in cm and not in mm.

    They are if at least as many are possible only in cm as are possible in mm.
    """
    mm = cm = 0
    for number, ga_days in cells:
        if is_possible(field, number, ga_days):
            mm += 1
        elif is_possible(field, number * MM_PER_CM, ga_days):
            cm += 1
    return cm > 0 and cm >= mm


def leave_out_doubtful(reading: TableReading) -> None:
    """Remove and report sizes of columns that look like cm, and sizes impossible at their age."""
    for field in BIOMETRY:
        if field in reading.layout.columns:
            _leave_out_column(field, reading)
            _leave_out_cells(field, reading)


def _leave_out_column(field: str, reading: TableReading) -> None:
    column = reading.layout.columns[field]
    if field in reading.layout.units:
        return
    numbers = {
        place: number
        for place, record in enumerate(reading.records)
        if (number := values.bare_number(reading.rows_by_line[record.line][column])) is not None
    }
    if not looks_like_cm(
        field, ((number, reading.ages[place].dated) for place, number in numbers.items())
    ):
        return
    lines = {reading.records[place].line for place in numbers}
    reading.found[:] = [one for one in reading.found if one[2] != field or one[0] not in lines]
    for place in numbers:
        record = reading.records[place]
        reading.report(
            record.line,
            f"{field} looks like cm, not mm, in the complete column and is left out; name the "
            f'column {field}_cm, or set {field} = "cm" (or "mm", if that is correct) under '
            "[records.units] in sono.toml",
        )
        age = reading.ages[place] = without_sizes(reading.ages[place], (field,), reading.rules)
        changes: dict[str, Any] = {f"{field}_mm": None}
        if not record.exam_date_unread:
            changes |= {"ga_days": age.days, "ga_source": age.source, "ga_conflicts": age.conflicts}
            changes |= {"stated": age.stated}
        reading.records[place] = replace(record, **changes)


def _leave_out_cells(field: str, reading: TableReading) -> None:
    for place, record in enumerate(reading.records):
        size, ga_days = getattr(record, f"{field}_mm"), reading.ages[place].dated
        if size is None or ga_days is None or is_possible(field, size, ga_days):
            continue
        weeks, days = weeks_and_days(ga_days)
        reading.report(
            record.line,
            f"{field} of {size:g} mm is impossible at {weeks}w{days}d and is left out; correct the "
            "size, its unit or the age",
        )
        changes: dict[str, Any] = {f"{field}_mm": None}
        reading.records[place] = replace(record, **changes)
