"""Dates of a records table: all usual forms, and whether the day or the month comes first."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from sono.curation.clinical.name_variants import normalize
from sono.curation.clinical.written_dates import MONTHS
from sono.curation.core.errors import SonoError

SERIAL_DATES = (20_000, 80_000)  # spreadsheet day numbers of 1954 to 2119
SERIAL_START = date(1899, 12, 30)  # day 0 of a spreadsheet's calendar, with its leap day of 1900
_TIME = r"(?:[T ]\d{1,2}:\d{2}.*)?"
_SECONDS = r"(?:[T ]?\d{4}(?:\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?"  # of a DICOM date and time
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-./])(\d{{1,2}})\2(\d{{1,2}}){_TIME}", re.ASCII)
_COMPACT = re.compile(rf"(\d{{4}})()(\d{{2}})(\d{{2}}){_SECONDS}", re.ASCII)
_NUMBERS = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}){_TIME}", re.ASCII)
MONTH_NAMES = frozenset(
    re.findall(
        r"\w+",
        """
        jan janv feb febr fevr sept sett juil juill
    january february march april may june july august september october november december januar
    februar marz maerz mai juni juli oktober dezember janvier fevrier mars avril juin juillet aout
    septembre octobre novembre decembre enero febrero marzo abril mayo junio julio agosto septiembre
    setiembre octubre noviembre diciembre gennaio febbraio aprile maggio giugno luglio settembre
    ottobre dicembre janeiro fevereiro marco maio junho julho setembro outubro novembro dezembro
    januari februari maart mei augustus
    """,
    )
)  # without accents
_OF = r"[-./ ]+(?:(?:de|of) )?"
_NAMED = re.compile(
    rf"(?:[a-z]{{2,10}}\.?,? )?(\d{{1,2}}){_OF}([a-z]{{3,}})[.,]*{_OF}(\d{{4}}){_TIME}", re.ASCII
)
_MONTH_NAMED = re.compile(
    rf"(?:[a-z]{{2,10}}\.?,? )?([a-z]{{3,}})\.? (\d{{1,2}}),? (\d{{4}}){_TIME}", re.ASCII
)
_SERIAL = re.compile(r"(\d{5})(?:\.\d+)?", re.ASCII)


def parse_date(text: str, month_first: bool | None = False) -> date:
    """A date from one of the usual forms; raises SonoError for anything else.

    Forms: `2024-01-31` (also with / or points; a time may follow), `20240131`, `31.01.2024`,
    `31/01/2024`, `31-Jan-2024`, `Jan 31, 2024` and `45322`, a spreadsheet's day number. Months may
    be named in seven languages. `03/04/2024` is 3 April, or 4 March if the table is `month_first`;
    with points it is always 3 April. If `month_first` is None, because the order is not known, such
    a date is a SonoError. Years of two digits are not accepted.
    """
    written = text.strip()
    if found := _YEAR_FIRST.fullmatch(written) or _COMPACT.fullmatch(written):
        return _date(text, int(found[1]), int(found[3]), int(found[4]))
    if found := _NUMBERS.fullmatch(written):
        first, second = int(found[1]), int(found[3])
        if month_first is None:
            if found[2] != "." and first != second and max(first, second) <= 12:
                raise SonoError(
                    f"date '{short(text)}' fits both orders, and the other dates do not decide; "
                    "write it as 2024-01-31, or set date_order in [records]"
                )
            month_first = second > 12
        day, month = (second, first) if month_first and found[2] != "." else (first, second)
        return _date(text, int(found[4]), month, day)
    spelled = normalize(written)
    if (found := _NAMED.fullmatch(spelled)) and (named := _month(found[2])):
        return _date(text, int(found[3]), named, int(found[1]))
    if (found := _MONTH_NAMED.fullmatch(spelled)) and (named := _month(found[1])):
        return _date(text, int(found[3]), named, int(found[2]))
    if (found := _SERIAL.fullmatch(written)) and SERIAL_DATES[0] <= int(found[1]) <= SERIAL_DATES[
        1
    ]:
        return SERIAL_START + timedelta(days=int(found[1]))
    raise SonoError(f"date '{short(text)}' is not understood; write it as 2024-01-31")


def count_orders(texts: Iterable[str]) -> Counter[str]:
    """Count the dates with `/` or `-` that can be "day" first, "month" first, or "either"."""
    counts: Counter[str] = Counter()
    for text in texts:
        found = _NUMBERS.fullmatch(text.strip())
        if found and found[2] != "." and found[1] != found[3]:
            first, second = int(found[1]), int(found[3])
            counts["either" if max(first, second) <= 12 else "day" if first > 12 else "month"] += 1
    return counts


def month_first_of(field: str, orders: Mapping[str, Counter[str]]) -> bool | None:
    """Whether the dates of a field are month first; None if that is not known.

    The field's own column decides, otherwise the other columns. If none shows an order, only dates
    that other facts check are read, day first: an exchanged LMP or due date would be a wrong age.
    """
    own, all_of_them = orders.get(field, Counter()), sum(orders.values(), Counter[str]())
    counts = own if own["day"] or own["month"] else all_of_them
    if bool(counts["day"]) == bool(counts["month"]):
        return None if counts["day"] or field in ("due", "lmp") else False
    return bool(counts["month"])


def short(text: str) -> str:
    """A value as it may be shown in a message: printable and on one line."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[:60].strip())
    return clean + "..." if len(text) > 60 else clean


def _month(word: str) -> int | None:
    """The number of a month that `word` names or abbreviates."""
    if word in MONTH_NAMES or word in MONTHS:
        return next(MONTHS[word[:size]] for size in (4, 3) if word[:size] in MONTHS)
    return None


def _date(text: str, year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError as error:
        raise SonoError(
            f"date '{short(text)}': {error}; [records] date_order sets what comes first, or write "
            f"2024-01-31"
        ) from error
