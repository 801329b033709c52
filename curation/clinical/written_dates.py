"""Find dates in texts, in the orders, separators and languages that people use."""

import re
from datetime import date

from sono.curation.clinical.name_variants import APOSTROPHES, HYPHENS

# Months by the first letters of their English, German, French, Spanish, Italian, Portuguese and
# Dutch names.
MONTHS = {
    "jan": 1, "ene": 1, "gen": 1, "feb": 2, "fev": 2, "mar": 3, "maa": 3, "mae": 3, "mrt": 3,
    "mrz": 3, "apr": 4, "abr": 4, "avr": 4, "may": 5, "mai": 5, "mag": 5, "mei": 5, "jun": 6,
    "juin": 6, "giu": 6, "jul": 7, "juil": 7, "lug": 7, "aug": 8, "ago": 8, "aou": 8, "sep": 9,
    "set": 9, "oct": 10, "okt": 10, "out": 10, "ott": 10, "nov": 11, "dec": 12, "dez": 12,
    "dic": 12,
}  # fmt: skip
_MONTH = rf"({'|'.join(sorted(MONTHS, key=len, reverse=True))})[a-z]*"
_TH = "(?:st|nd|rd|th|er|o)?"
_OF = rf"[-. /,_]*(?:(?:del?|of) )?[{APOSTROPHES}]?"
# A pattern that begins with a digit is searched four times faster than one that begins with what is
# not before it, so the first digit comes first.
_DATES = (
    (re.compile(r"(\d(?<![\d.]\d)\d{3}) ?([-./:_ ]) ?(\d{1,2}) ?\2 ?(\d{1,2})(?!\d)"), (1, 3, 4)),
    (re.compile(r"(\d(?<![\d.]\d)\d?) ?([-./_ ]) ?(\d{1,2}) ?\2 ?(\d{4})(?!\d)"), (1, 3, 4)),
    (re.compile(r"(\d(?<![\d.]\d)\d?)([-./_])(\d{1,2})\2(\d{2})(?!\d|[-./]\d)"), (1, 3, 4)),
    (re.compile(rf"(\d(?<!\d\d)\d?){_TH}{_OF}{_MONTH}{_OF}(\d{{4}}|\d{{2}})(?!\d)"), (1, 2, 3)),
    (
        re.compile(
            rf"(?<![^\W_]){_MONTH}[-. /_]*(?:the )?(\d{{1,2}}){_TH}[-. /,_]+(?:of )?(\d{{4}})(?!\d)"
        ),
        (2, 1, 3),
    ),
    (re.compile(rf"(\d(?<!\d\d)\d{{3}})[-. /,_]*{_MONTH}[-. /_]*(\d{{1,2}})(?!\d)"), (1, 2, 3)),
)
_DATE_SIGNS = str.maketrans("年月년월", "----") | HYPHENS
_JOINED_DATE = re.compile(r"(\d(?<![^\W_]\d)(?<!\d\.\d)\d{7})(?:t?\d{4,6}(?:\.\d+)?z?)?(?![^\W_])")
_JOINED_ORDERS = (((0, 4), (4, 6), (6, 8)), ((0, 2), (2, 4), (4, 8)))


def dates_in(text: str) -> set[date]:
    """Every date that a normalized text may name, in all usual orders, separators and languages."""
    found = set()
    if not text.isascii():
        text = text.translate(_DATE_SIGNS)
    for pattern, groups in _DATES:
        for match in pattern.finditer(text):
            found |= _possible_dates([match[group] for group in groups])
    for match in _JOINED_DATE.finditer(text):
        for order in _JOINED_ORDERS:
            found |= _possible_dates([match[1][start:end] for start, end in order])
    return found


def _possible_dates(parts: list[str]) -> set[date]:
    """The dates that three numbers (or a month's name) give in the three usual orders.

    The orders are year-month-day, day-month-year and month-day-year.
    """
    first, second, third = parts
    orders = (
        [(first, second, third)]
        if len(first) == 4
        else [(third, second, first), (third, first, second)]
    )
    if len(first) == len(third) == 2:
        orders.append((first, second, third))
    found = set()
    for year, month, day in orders:
        for century in ("",) if len(year) == 4 else ("19", "20"):
            try:
                found.add(date(int(century + year), MONTHS.get(month) or int(month), int(day)))
            except ValueError:
                continue
    return {day for day in found if 1900 <= day.year < 2100}
