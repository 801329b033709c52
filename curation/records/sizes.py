"""Sizes of a records table against the ages of its rows.

Columns that are in cm, and single impossible cells.
"""

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
SMALLEST, LARGEST = 1 / 4, 2  # of the mean of an age: femora of lethal dysplasias to hydrocephalus
MM_PER_CM = 10


def is_possible(field: str, size_mm: float, ga_days: int | None = None) -> bool:
    """Whether a fetus of `ga_days` (None: of an age at which `field` is usually measured) can have
    a size in mm.

    With an age the size must be a quarter to twice the mean of that age, by the formula of DATINGS
    (Robinson 1975, Hadlock 1984), and of its first or last day for younger or older fetuses. The
    bounds are wide on purpose: they find slips of unit or digit, not diseases. NT, which has no
    formula, goes by RANGES_MM alone.
    """
    if field not in DATINGS:
        low, high = RANGES_MM[field]
        return low <= size_mm <= high
    dating = DATINGS[field]
    if ga_days is None:
        return days_from_size(field, size_mm) is not None
    youngest, oldest = dating.days(size_mm / LARGEST), dating.days(size_mm / SMALLEST)
    return youngest <= max(ga_days, dating.low_days) and min(ga_days, dating.high_days) <= oldest


def looks_like_cm(field: str, cells: Iterable[tuple[float, int | None]]) -> bool:
    """Whether numbers without a unit, each with its row's age in days, are sizes in cm and not in
    mm.

    They are where at least as many are possible in cm alone as are possible in mm.
    """
    mm = cm = 0
    for number, ga_days in cells:
        if is_possible(field, number, ga_days):
            mm += 1
        elif is_possible(field, number * MM_PER_CM, ga_days):
            cm += 1
    return cm > 0 and cm >= mm


def leave_out_doubtful(reading: TableReading) -> None:
    """Take out of the records of a table the sizes of columns that look like cm, and those that
    an age excludes.
    """
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
            f"{field} looks like cm, not mm, in the whole column and is left out; name the column "
            f"{field}_cm, or set "
            f'{field} = "cm" (or "mm", if it is right) under [records.units] in sono.toml',
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
            f"size, its unit or "
            "the age",
        )
        changes: dict[str, Any] = {f"{field}_mm": None}
        reading.records[place] = replace(record, **changes)
