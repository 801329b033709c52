"""The gestational age of a row: its datings, the one that counts, and those that disagree."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from sono.curation.clinical.dates import parse_date, short
from sono.curation.clinical.dating import days_from_due, days_from_lmp, days_from_size, disagreeing
from sono.curation.clinical.gestational_age import MAX_GA_DAYS, MIN_GA_DAYS, read_ga
from sono.curation.clinical.placeholders import (
    is_answer,
    is_exam_day,
    is_placeholder,
    is_placeholder_day,
)
from sono.curation.core.errors import SonoError

Report = Callable[[str], None]
DATES = ("exam_date", "due", "lmp")
UNMEASURED = ("recorded", "due", "lmp")

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?", re.ASCII)
_DAYS = re.compile(r"(\d{1,3})(?:[.,]0+)?\s*(?:d|days?)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"\d+(?:[.,]0+)?\s*(?:w|wks?|weeks?)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class AgeRules:
    """The datings that may give the age, best first, and how ambiguous ages and dates are read."""

    order: tuple[str, ...] = ("recorded", "due", "lmp")
    point_days: bool = False
    # by field; None: the order is not known
    month_first: Mapping[str, bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class RowAge:
    """The age of a row in days with its `source`, all its datings in days, and its dates.

    `form` is how a recorded age is written; `conflicts` are the datings that disagree.
    """

    days: int | None = None
    source: str | None = None
    form: str | None = None
    datings: Mapping[str, int] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    # exam_date, due and lmp, as far as they are understood
    dates: Mapping[str, date] = field(default_factory=dict)
    exam_date_unread: bool = False

    @property
    def dated(self) -> int | None:
        """The age in days from a recorded age or a date, not from a size; None for none."""
        return next((self.datings[name] for name in UNMEASURED if name in self.datings), None)

    @property
    def stated(self) -> dict[str, int]:
        """The datings in days that need no date: recorded, crl and hc."""
        return {name: days for name, days in self.datings.items() if name not in ("due", "lmp")}


def row_age(
    cells: Mapping[str, str],
    units: Mapping[str, str],
    sizes_mm: Mapping[str, float],
    rules: AgeRules,
    report: Report,
) -> RowAge:
    """The age of a row by its recorded age, its dates, and CRL and HC in `sizes_mm`.

    A problem with one dating goes to `report`; the others still count.
    """
    datings: dict[str, int] = {}
    form = None
    try:
        if written := _written_age(cells, units, rules.point_days):
            datings["recorded"], form = read_ga(written, rules.point_days)
    except SonoError as error:
        report(str(error))
    dates, unread = _dates(cells, rules, report)
    datings |= _by_dates(dates, report)
    by_size = {
        name: days_from_size(name, sizes_mm[name]) for name in ("crl", "hc") if name in sizes_mm
    }
    datings |= {name: days for name, days in by_size.items() if days is not None}
    return _chosen(RowAge(form=form, datings=datings, dates=dates, exam_date_unread=unread), rules)


def without_sizes(age: RowAge, names: Collection[str], rules: AgeRules) -> RowAge:
    """The age of a row without the datings by the sizes `names`."""
    datings = {name: days for name, days in age.datings.items() if name not in names}
    return _chosen(replace(age, datings=datings), rules)


def _chosen(age: RowAge, rules: AgeRules) -> RowAge:
    """An age with the dating that comes first in the rules, and the datings that disagree."""
    source = next((name for name in rules.order if name in age.datings), None)
    if source is None:
        return replace(age, days=None, source=None, conflicts=())
    return replace(
        age, days=age.datings[source], source=source, conflicts=disagreeing(source, age.datings)
    )


def _dates(
    cells: Mapping[str, str], rules: AgeRules, report: Report
) -> tuple[dict[str, date], bool]:
    """The dates of a row, and whether its exam date is filled but not understood.

    A placeholder counts as an empty cell.
    """
    unread = False
    days_of: dict[str, date] = {}
    problems: list[str] = []
    for name in DATES:
        try:
            if name not in cells or (is_placeholder(cells[name]) and not is_answer(cells[name])):
                continue
            day = parse_date(cells[name], rules.month_first.get(name, False))
            if name == "exam_date" and is_placeholder_day(day):
                continue
            if name == "exam_date" and not is_exam_day(day):
                raise SonoError(f"date '{short(cells[name])}' is not from 1976 to today")
            days_of[name] = day
        except SonoError as error:
            unread |= name == "exam_date"
            # a message quotes one cell only, so that it can be masked
            problems.append(f"also {name}" if problems else f"{name}: {error}")
    if problems:
        report("; ".join(problems))
    return days_of, unread


def _by_dates(dates: Mapping[str, date], report: Report) -> dict[str, int]:
    """The ages in days on the exam date by the due date and the last period."""
    exam = dates.get("exam_date")
    if exam is None:
        return {}
    to_days = {"due": days_from_due, "lmp": days_from_lmp}
    ages = {name: to_days[name](exam, day) for name, day in dates.items() if name in to_days}
    for name, days in ages.items():
        if not MIN_GA_DAYS <= days <= MAX_GA_DAYS:
            report(
                f"the dates give a gestational age of {days} days ({name}), outside 4 to 45 weeks; "
                f"correct a date"
            )
    return {name: days for name, days in ages.items() if MIN_GA_DAYS <= days <= MAX_GA_DAYS}


def _written_age(cells: Mapping[str, str], units: Mapping[str, str], point_days: bool) -> str:
    """The recorded age as one text.

    Raises SonoError if the columns of weeks and days contradict each other.
    """
    if "ga" in cells:
        return _with_unit(cells["ga"], units.get("ga", ""))
    weeks, days = cells.get("ga_weeks", ""), cells.get("ga_days", "")
    if not weeks or not days:
        return _with_unit(weeks, "weeks") if weeks else _with_unit(days, "days")
    return f"{_joined(weeks, days, point_days)} days"


def _joined(weeks: str, days: str, point_days: bool) -> int:
    """Days of gestation from weeks and the days beyond them, or from weeks and all days.

    All days of 22 weeks may be 157.
    """
    by_weeks, _ = read_ga(_with_unit(weeks, "weeks"), point_days)
    found = _DAYS.fullmatch(days)
    number = int(found[1]) if found else -1
    total = by_weeks - by_weeks % 7 + number if 0 <= number <= 6 else number
    whole = _WHOLE.fullmatch(weeks) is not None
    if total != by_weeks and not (whole and total // 7 == by_weeks // 7):
        raise SonoError(
            f"the weeks and days of gestational age '{short(weeks)} weeks, {short(days)} days' "
            "contradict each other, so it is left out; correct the weeks or the days"
        )
    return total


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit and _NUMBER.fullmatch(text) else text
