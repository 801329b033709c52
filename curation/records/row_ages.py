"""The gestational age of a row: every dating that the row gives, which one counts, and which disagree with it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

from sono.curation.errors import SonoError
from sono.curation.placeholders import is_exam_day, is_no_day, names_nobody
from sono.curation.records.ages import MAX_GA_DAYS, MIN_GA_DAYS, read_ga
from sono.curation.records.dates import parse_date, short
from sono.curation.records.dating import days_from_due, days_from_lmp, days_from_size, disagreeing

Tell = Callable[[str], None]
DATES = ("exam_date", "due", "lmp")

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?", re.ASCII)


@dataclass(frozen=True)
class AgeRules:
    """The datings that may give the age, best first, and how ambiguous ages and dates are read."""

    order: tuple[str, ...] = ("recorded", "due", "lmp")
    point_days: bool = False
    month_first: bool = False


@dataclass(frozen=True)
class RowAge:
    """Age in days with its `source`; `form` of a recorded age; every dating in days; conflicts; dates of the row."""

    days: int | None = None
    source: str | None = None
    form: str | None = None
    datings: Mapping[str, int] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    dates: Mapping[str, date] = field(default_factory=dict)  # exam_date, due and lmp, as far as they are understood
    exam_date_unread: bool = False

    @property
    def stated(self) -> dict[str, int]:
        """The datings that no date is needed for."""
        return {name: days for name, days in self.datings.items() if name not in ("due", "lmp")}


def row_age(
    cells: Mapping[str, str], units: Mapping[str, str], sizes_mm: Mapping[str, float], rules: AgeRules, tell: Tell
) -> RowAge:
    """The age that a row gives, from its written age, its dates and the CRL and HC among `sizes_mm`.

    What is wrong with a single dating goes to `tell`; the others still count.
    """
    datings: dict[str, int] = {}
    form = None
    written = _written_age(cells, units)
    if written:
        try:
            datings["recorded"], form = read_ga(written, rules.point_days)
        except SonoError as error:
            tell(str(error))
    dates, unread = _dates(cells, rules, tell)
    datings |= _by_dates(dates, tell)
    by_size = {name: days_from_size(name, sizes_mm[name]) for name in ("crl", "hc") if name in sizes_mm}
    datings |= {name: days for name, days in by_size.items() if days is not None}
    source = next((name for name in rules.order if name in datings), None)
    if source is None:
        return RowAge(datings=datings, dates=dates, exam_date_unread=unread)
    return RowAge(datings[source], source, form, datings, disagreeing(source, datings), dates, unread)


def _dates(cells: Mapping[str, str], rules: AgeRules, tell: Tell) -> tuple[dict[str, date], bool]:
    """The dates of a row, and whether its exam date is filled but not understood; what stands for none is none."""
    unread = False
    days_of: dict[str, date] = {}
    problems: list[str] = []
    for name in DATES:
        try:
            if name not in cells or names_nobody(cells[name]):
                continue
            day = parse_date(cells[name], rules.month_first)
            if name == "exam_date" and is_no_day(day):
                continue
            if name == "exam_date" and not is_exam_day(day):
                raise SonoError(f"date '{short(cells[name])}' is not from 1976 to today")
            days_of[name] = day
        except SonoError as error:
            unread |= name == "exam_date"
            problems.append(f"also {name}" if problems else f"{name}: {error}")  # one cell a message, to be masked
    if problems:
        tell("; ".join(problems))
    return days_of, unread


def _by_dates(dates: Mapping[str, date], tell: Tell) -> dict[str, int]:
    """The ages on the exam day that the due date and the last period give."""
    exam = dates.get("exam_date")
    if exam is None:
        return {}
    to_days = {"due": days_from_due, "lmp": days_from_lmp}
    ages = {name: to_days[name](exam, day) for name, day in dates.items() if name in to_days}
    for name, days in ages.items():
        if not MIN_GA_DAYS <= days <= MAX_GA_DAYS:
            tell(f"the dates give a gestational age of {days} days ({name}), outside 4 to 45 weeks; mend a date")
    return {name: days for name, days in ages.items() if MIN_GA_DAYS <= days <= MAX_GA_DAYS}


def _written_age(cells: Mapping[str, str], units: Mapping[str, str]) -> str:
    if "ga" in cells:
        return _with_unit(cells["ga"], units.get("ga", ""))
    weeks, days = cells.get("ga_weeks", ""), cells.get("ga_days", "")
    whole = [re.sub(r"[.,]0+$", "", part) for part in (weeks, days)]
    if whole[0].isdigit() and whole[1].isdigit() and int(whole[1]) <= 6:
        return f"{whole[0]}w{whole[1]}d"
    return _with_unit(weeks, "weeks") if weeks else _with_unit(days, "days")


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit and _NUMBER.fullmatch(text) else text
