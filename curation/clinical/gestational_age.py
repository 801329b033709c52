"""Gestational age in days, from any of the usual ways to write it."""

import re
import unicodedata
from collections.abc import Callable

from sono.curation.clinical.dates import SERIAL_DATES, short
from sono.curation.core.errors import SonoError

MIN_GA_DAYS, MAX_GA_DAYS = 4 * 7, 45 * 7
POINT = "22.3"  # a fraction of a week, or weeks and days with a point between

# English, German, French, Spanish, Italian, Portuguese and Dutch, without accents. SSW is
# Schwangerschaftswoche, SA
# semaines d'amenorrhee, SG semanas de gestacion or settimane gestazionali: all count from the last
# period.
_WEEK = (
    r"(?:(?:w(?:ks?|eeks?|oche|ochen|eken)?|ssw|schwangerschaftswochen?|zwangerschapswe(?:ek|ken)"
    r"|s(?:em(?:ana|aine)?s?|ett?(?:imana|imane)?|a|g|dg)?)\.?(?: d'amenorrhee| de "
    r"(?:gestacion|gestacao))?)"
)
_DAY = r"(?:(?:d(?:ays?|ias?|ag(?:en)?)?|t(?:ag|age|agen)?|j(?:ours?)?|g(?:g|iorn[io])?)\.?)"
_AND = r"(?:\+|,|&|and\s|und\s|et\s|y\s|e\s|en\s)"
_TITLE = r"(?:ga|gestational age|eg|ig|ag|ad|ssw|sa)\b[.:=]?"  # in front of the age
_MONTH = (
    r"(?:jan|feb|mar|mrz|apr|avr|may|mai|jun|jul|aug|aou|ago|sep|oct|okt|ott|nov|dec|dez|dic)[a-z]*"
)


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


# a unit occurs once: in 22w 3w one of the two is a mistake, and it is unknown which
_WEEKS_AND_DAYS = _form(
    rf"(\d+)\s*(?:\+\s*(\d+)\s*(?:{_DAY}|{_WEEK})?|{_WEEK}\s*{_AND}?\s*(\d+)\s*{_DAY}?)"
)
_SEVENTHS = _form(
    rf"(\d+)(?:(?:\s*\+\s*|\s+)(\d+)\s*/\s*7\s*{_WEEK}?|\s*{_WEEK}\s*{_AND}?\s*(\d+)\s*/\s*7)"
)
_FORTIETHS = _form(rf"(\d+)(?:\s*\+\s*(\d+))?(?:\s*/\s*7)?\s*/\s*40(?:\s*{_WEEK})?")
_FORTIETHS_AND_DAYS = _form(rf"(\d+)\s*/\s*40\s*{_AND}?\s*(\d+)\s*(?:/\s*7|{_DAY})?")
_ORDINAL = _form(rf"(\d+)\.\s*{_WEEK}")
_DAYS = _form(rf"(\d+)\s*(?![tgj]\b){_DAY}")  # a bare 157 g may be a weight
_WEEKS = _form(rf"(\d+(?:\.\d+)?)\s*{_WEEK}")
_POINT = _form(rf"(\d\d?\.[0-6])(?:\s*{_WEEK})?")
_DECIMAL = _form(rf"(\d+)\.(\d+)\s*{_WEEK}?")
_NUMBER = _form(r"(\d+(?:\.\d+)?)")
_DATE = re.compile(
    rf"\d+[-./]\d+([-./]\d+)?([ t]\d.*)?|\d+:\d+(:\d+)?"
    rf"|\d+[-. /]*{_MONTH}\.?([-. /]*\d+)?|{_MONTH}[-. /]*\d+([-., /]+\d+)?"
)


def parse_ga(text: str) -> int:
    """Gestational age in days; raises SonoError for anything else, or outside 4 to 45 weeks.

    Forms: `22w3d`, `22+3`, `22 3/7`, `22+3/40`, `22.43`, `157 days`, `22 weeks 3 days` and `22`.
    The words may be English, German, French, Spanish, Italian, Portuguese or Dutch. A number alone
    means weeks up to 45, otherwise days. A decimal is a fraction of a week: `22.3` is 22 weeks and
    2 days, not 22+3.
    """
    return read_ga(text)[0]


def read_ga(text: str, point_days: bool = False) -> tuple[int, str]:
    """Days as from `parse_ga`, and the form in which they are written.

    With `point_days`, `22.3` and `22.3 weeks` are 22w3d, and decimals that are no day of a week
    (`22.7`, `22.10`) are a SonoError.
    """
    plain = _simplified(text)
    if point_days and (decimal := _DECIMAL.fullmatch(plain)) and decimal[2].strip("0"):
        return _in_range(_point_days(decimal, text), text), POINT
    for form, pattern, to_days in _FORMS:
        found = pattern.fullmatch(plain)
        if found:
            return _in_range(to_days(found), text), form
    if _DATE.fullmatch(plain):
        raise SonoError(_date_message(text, "a date or a time"))
    raise SonoError(f"gestational age '{short(text)}' is not understood; write it as 22w3d or 22+3")


def weeks_and_days(ga_days: int) -> tuple[int, int]:
    """Completed weeks and remaining days: 157 is (22, 3)."""
    return divmod(ga_days, 7)


def _simplified(text: str) -> str:
    """Lower case, no accents, ASCII digits, a decimal point, no leading `GA` or `=`."""
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text[:100]).lower())
    lowered = " ".join(
        "".join(letter for letter in apart if not unicodedata.combining(letter)).split()
    )
    decimal = re.sub(r"(?<=\d),(?=\d)", ".", lowered).replace("\u2019", "'")
    return re.sub(rf"^(?:{_TITLE}|=)\s*", "", decimal)


def _weeks_and_days(found: re.Match[str]) -> int:
    weeks, *parts = found.groups()
    days = int(next(filter(None, parts), 0))
    if days > 6:
        raise SonoError(f"gestational age '{found[0]}' has {days} days after its weeks; use 0 to 6")
    return 7 * int(weeks) + days


def _point_days(found: re.Match[str], text: str) -> int:
    if found[2] not in "123456":
        raise SonoError(
            f"gestational age '{short(text)}' is not weeks and days with a point between, as "
            "[records] ga_point expects; write it as 22w3d"
        )
    return 7 * int(found[1]) + int(found[2])


def _ordinal(found: re.Match[str]) -> int:
    raise SonoError(
        f"gestational age '{found[0]}' is a week in progress (week 22 is 21+0 to 21+6); write "
        "weeks and days"
    )


def _number(found: re.Match[str]) -> int:
    value = float(found[1])
    if value.is_integer() and SERIAL_DATES[0] <= value <= SERIAL_DATES[1]:
        raise SonoError(_date_message(found[0], "the day number of a date"))
    return int(value) if value.is_integer() and value > 45 else round(7 * value)


_FORMS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], int]], ...] = (
    ("22w3d, 22+3", _WEEKS_AND_DAYS, _weeks_and_days),
    ("22 3/7", _SEVENTHS, _weeks_and_days),
    ("22+3/40", _FORTIETHS, _weeks_and_days),
    ("22+3/40", _FORTIETHS_AND_DAYS, _weeks_and_days),
    ("22. SSW", _ORDINAL, _ordinal),
    ("157 days", _DAYS, lambda found: int(found[1])),
    (POINT, _POINT, _number),
    ("22.43 weeks", _WEEKS, lambda found: round(7 * float(found[1]))),
    ("22, 22.43 or 157", _NUMBER, _number),
)


def _in_range(days: int, text: str) -> int:
    if MIN_GA_DAYS <= days <= MAX_GA_DAYS:
        return days
    raise SonoError(
        f"gestational age '{short(text)}' is outside 4 to 45 weeks; correct it or leave the cell "
        "empty"
    )


def _date_message(text: str, what: str) -> str:
    return (
        f"gestational age '{short(text)}' is {what}: a spreadsheet probably turned an entry like "
        f"12+3 into it; "
        "format the column as text and enter it again"
    )
