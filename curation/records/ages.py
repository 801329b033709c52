"""Gestational age: from any of the ways in which it is written down to days, and from dates."""

import re
import unicodedata
from collections.abc import Callable
from datetime import date, timedelta

from sono.curation.errors import SonoError

MIN_GA_DAYS, MAX_GA_DAYS = 4 * 7, 45 * 7
PREGNANCY_DAYS = 280  # Naegele: from the first day of the last period to the due date
SERIAL_DATES = (20_000, 80_000)  # spreadsheet day numbers of 1954 to 2119

_WEEK, _DAY = r"(?:w|wks?|weeks?)", r"(?:d|days?)"
_MONTH = r"(?:jan|feb|mar|mär|mrz|apr|avr|may|mai|jun|jul|aug|aoû|ago|sep|oct|okt|ott|nov|dec|dez|déc|dic)[a-zéû]*"


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_WEEKS_AND_DAYS = _form(rf"(\d+)\s*(?:\+|{_WEEK}\s*(?:\+|,|and\s)?)\s*(\d+)\s*{_DAY}?")
_SEVENTHS = _form(rf"(\d+)(?:\s*\+\s*|\s*{_WEEK}\s*|\s+)(\d+)\s*/\s*7\s*{_WEEK}?")
_DAYS = _form(rf"(\d+)\s*{_DAY}")
_WEEKS = _form(rf"(\d+(?:\.\d+)?)\s*{_WEEK}")
_NUMBER = _form(r"(\d+(?:\.\d+)?)")
_DATE = re.compile(
    rf"\d+[-./]\d+([-./]\d+)?([ t]\d.*)?|\d+[-. /]*{_MONTH}\.?([-. /]*\d+)?|{_MONTH}[-. /]*\d+([-., /]+\d+)?"
)

_ISO_DATE = _form(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ]\d{1,2}:\d{2}.*)?")
_COMPACT_DATE = _form(r"(\d{4})(\d{2})(\d{2})")
_DAY_FIRST_DATE = _form(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?: \d{1,2}:\d{2}.*)?")


def parse_ga(text: str) -> int:
    """Gestational age in days, from `22w3d`, `22+3`, `22 3/7`, `22.43`, `157 days`, `22 weeks 3 days`, `22w` or `22`.

    A plain number up to 45 means weeks, a larger one days. A decimal is a fraction of a week: `22.3` is 22 weeks and 2
    days, not 22+3. SonoError with the value for anything else, and for ages below 4 or above 45 weeks.
    """
    plain = _plain(text)
    for pattern, to_days in _FORMS:
        found = pattern.fullmatch(plain)
        if found:
            return _in_range(to_days(found), text)
    if _DATE.fullmatch(plain):
        raise SonoError(_date_message(text, "a date"))
    raise SonoError(f"gestational age '{_short(text)}' is not understood; write it as 22w3d or 22+3")


def ga_from_dates(exam: date, lmp: date | None, due: date | None) -> int:
    """Gestational age in days on the exam day; the due date, often corrected by ultrasound, goes before `lmp`."""
    if due is not None:
        start = due - timedelta(days=PREGNANCY_DAYS)
    elif lmp is not None:
        start = lmp
    else:
        raise SonoError("gestational age needs the last period or the due date beside the exam date")
    days = (exam - start).days
    if not MIN_GA_DAYS <= days <= MAX_GA_DAYS:
        raise SonoError(f"the dates give a gestational age of {days} days, outside 4 to 45 weeks; mend a date")
    return days


def weeks_and_days(ga_days: int) -> tuple[int, int]:
    """Completed weeks and the days beyond them: 157 is (22, 3)."""
    return divmod(ga_days, 7)


def parse_date(text: str) -> date:
    """A date from `2024-01-31` (a time may follow), `20240131`, `31.01.2024`, `31/01/2024` or `31-01-2024`.

    Day first, always: `03/04/2024` is 3 April. A month-first table shows itself by errors such as month 31.
    """
    plain = text.strip()
    for pattern, order in ((_ISO_DATE, (1, 2, 3)), (_COMPACT_DATE, (1, 2, 3)), (_DAY_FIRST_DATE, (4, 3, 1))):
        found = pattern.fullmatch(plain)
        if found:
            return _date(text, *(int(found[group]) for group in order))
    raise SonoError(f"date '{_short(text)}' is not understood; write it as 2024-01-31")


def _plain(text: str) -> str:
    """Lower case, one kind of digits and blanks, a point as decimal sign, no leading `GA`."""
    lowered = " ".join(unicodedata.normalize("NFKC", text[:100]).lower().split())
    decimal = re.sub(r"(?<=\d),(?=\d)", ".", lowered)
    return re.sub(r"^ga\b[:=]?\s*", "", decimal)


def _weeks_and_days(found: re.Match[str]) -> int:
    weeks, days = int(found[1]), int(found[2])
    if days > 6:
        raise SonoError(f"gestational age '{found[0]}' has {days} days beside its weeks; they go from 0 to 6")
    return 7 * weeks + days


def _number(found: re.Match[str]) -> int:
    value = float(found[1])
    if value.is_integer() and SERIAL_DATES[0] <= value <= SERIAL_DATES[1]:
        raise SonoError(_date_message(found[0], "the day number of a date"))
    return int(value) if value.is_integer() and value > 45 else round(7 * value)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], int]], ...] = (
    (_WEEKS_AND_DAYS, _weeks_and_days),
    (_SEVENTHS, _weeks_and_days),
    (_DAYS, lambda found: int(found[1])),
    (_WEEKS, lambda found: round(7 * float(found[1]))),
    (_NUMBER, _number),
)


def _in_range(days: int, text: str) -> int:
    if MIN_GA_DAYS <= days <= MAX_GA_DAYS:
        return days
    raise SonoError(f"gestational age '{_short(text)}' is outside 4 to 45 weeks; mend it or leave it empty")


def _date(text: str, year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError as error:
        raise SonoError(f"date '{_short(text)}': {error}; dates are read day first, or write 2024-01-31") from error


def _date_message(text: str, what: str) -> str:
    return (
        f"gestational age '{_short(text)}' is {what}: a spreadsheet probably turned an entry like 12+3 into it; "
        "format the column as text and enter it again"
    )


def _short(text: str) -> str:
    """A value as it may stand in a message: printable and of one line."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[:60].strip())
    return clean + "..." if len(text) > 60 else clean
