"""What a column of a records table seems to contain, where its title is not known.

Suggestions only: a person puts them into `sono.toml`. No cell is repeated.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import date, timedelta
from statistics import median

from sono.curation.clinical.dates import parse_date
from sono.curation.clinical.gestational_age import read_ga
from sono.curation.clinical.values import LATERALITY, PRESENTATION, SEX
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.records.delimited import Sheet
from sono.curation.records.table import SUFFIXES
from sono.curation.records.titles import SEVERAL, parse_title

SAMPLE = 2000  # cells of a column that are looked at
MIN_SHARE = 0.8  # of these cells must look like the content
MIN_PLANES = 0.5  # of the labels must be known
MIN_MOTHER = timedelta(days=12 * 365)  # a birth is at least this long before the exams
TYPED = frozenset(("image", "patient", "ga", "birth", "exam_date"))  # whose cells have digits
MIN_TITLED = 2  # of these columns with a title that has none: the first row has titles
MIN_NAMES = 3  # different names that make a column of names

_DIGIT = re.compile(r"\d")
_FILE = re.compile(rf".*\.(?:{'|'.join(sorted(SUFFIXES))})", re.IGNORECASE)
_AGE = re.compile(r"\d{1,2}\s*\+\s*\d.*|\d{1,2}\s+\d/7.*|\d{1,2}\s*[wW].*\d.*", re.ASCII)
_DATE = re.compile(r"(?=.*\d{4}).{8,}", re.ASCII)
_ID = re.compile(r"[A-Za-z]{0,5}[-_./]?\d(?:[-_./]?\d){3,}[A-Za-z]?", re.ASCII)
_DECIMAL = re.compile(r"\d+[.,]\d*", re.ASCII)
_PHONE = re.compile(r"(?:\+|0)\d[\d ()/.-]*[ ()/.-][\d ()/.-]*\d", re.ASCII)
_MAIL = re.compile(r"\S+@\S+\.\w+")
_STREET = re.compile(
    r".*(?:str(?:\.|asse|aße|eet|aat)?|weg|platz|allee|gasse|road|rd\.?|avenue|ave\.?|laan)"
    r"\s+\d+.*|(?:rue|via|calle|rua|avenida)\s.*|.*\b\d{5}\s+[^\W\d]{3,}.*|\d+\s.*(?:street|road|rue).*",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?:[^\W\d_]+\.?[\s,'’-]*){1,4}")
_PRIVATE_TITLES = {
    "name": "name nachn vorn nom cognome apellid sobrenome naam mother mutter mere madre surname",
    "birth": "birth geb naiss nacim nascit nascim geboor dob",
    "contact": (
        "phone telef mobil handy mail adress address anschrift strass street direcc indirizz "
        "endere wohn postal plz insur versich kasse assur seguro ssn passport ausweis"
    ),
}
# A title with one of these words, or with a word that begins with one of the latter, names centers.
_CENTER_WORDS = frozenset({
    "center", "centre", "zentrum", "clinic", "clinique", "clinica", "site", "standort", "centro",
    "hopital", "ospedale", "ziekenhuis", "institution", "facility",
})  # fmt: skip
_CENTER_STARTS = ("hospital", "klinik", "krankenhaus")
_DATE_TITLES = {  # of a due date or last period, by words of the title
    "due": frozenset({"et", "vet", "edd", "due", "termin", "entbindung", "terme", "parto"}),
    "lmp": frozenset({"lp", "lr", "lmp", "periode", "regel", "menstruation", "ddr", "fum"}),
}
_PUBLIC_WORDS = frozenset(
    word
    for words in (*LATERALITY.values(), *PRESENTATION.values(), *SEX.values())
    for word in words.split()
) | {"yes", "no", "true", "false", "other", "normal", "abnormal", "ja", "nein"}


def suggested_columns(
    sheet: Sheet, planes: PlaneTable, used: Collection[int] = ()
) -> dict[str, tuple[str, ...]]:
    """Titles by the field that their cells suggest, without the columns `used`.

    Nothing is suggested where the first row may be data: then it has no title unlike its cells.
    """
    looks = _looks(sheet, planes, used)
    titled = [
        i for i, look in looks.items() if look in TYPED and not _DIGIT.search(sheet.header[i])
    ]
    if not used and len(titled) < MIN_TITLED:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for index, look in looks.items():
        if look in SEVERAL or look not in found:
            found[look] = (*found.get(look, ()), sheet.header[index])
    return found


def private_columns(sheet: Sheet, planes: PlaneTable, used: Collection[int]) -> list[str]:
    """The titles of columns, except those `used`, that look private by title or content."""
    looks = _looks(sheet, planes, used)
    private = ("name", "birth", "contact", "patient", "exam_date", "due", "lmp")
    return [
        title
        for index, title in enumerate(sheet.header)
        if index not in used
        and _cells(sheet, index)
        and (looks.get(index) in private or _by_title(title))
    ]


def columns_block(columns: Mapping[str, tuple[str, ...]]) -> str:
    """The section `[records.columns]` of `sono.toml`, to be pasted; "" for no column."""
    return "\n".join(("[records.columns]", *column_lines(columns), "")) if columns else ""


def column_lines(columns: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The lines of that section, such as `ga = "SSW"`."""
    return [f"{field} = {_toml(titles)}" for field, titles in columns.items()]


def _toml(titles: tuple[str, ...]) -> str:
    return json.dumps(titles[0] if len(titles) == 1 else titles, ensure_ascii=False)


def _looks(sheet: Sheet, planes: PlaneTable, used: Collection[int]) -> dict[int, str]:
    """The field that each column seems to contain; columns without one are left out."""
    days: dict[int, date] = {}
    looks: dict[int, str] = {}
    for index in range(len(sheet.header)):
        cells = _cells(sheet, index)
        if not cells:
            continue
        if _share(cells, _is_date) >= MIN_SHARE:
            days[index] = date.fromordinal(int(median(_ordinals(cells))))
        looks[index] = "exam_date" if index in days else _look(cells, planes)
        if looks[index] in ("", "name", "patient") and _are_centers(sheet.header[index], cells):
            looks[index] = "center"
        if not looks[index]:
            looks[index] = _by_title(sheet.header[index])
    newest = max(days.values()) if len(days) > 1 else date.today()
    for index, day in days.items():
        words = set(parse_title(sheet.header[index])[0].split("_"))
        dating = next((name for name, known in _DATE_TITLES.items() if words & known), "exam_date")
        looks[index] = "birth" if newest - day > MIN_MOTHER else dating
    return {index: look for index, look in looks.items() if look and index not in used}


def _look(cells: list[str], planes: PlaneTable) -> str:
    """The field that the cells of a column suggest, "" for none; dates are not looked for."""
    tests: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("image", lambda cell: _FILE.fullmatch(cell) is not None),
        ("contact", _is_contact),
        ("patient", lambda cell: bool(_ID.fullmatch(cell) and not _DECIMAL.fullmatch(cell))),
    )
    found = next((field for field, test in tests if _share(cells, test) >= MIN_SHARE), "")
    if found:
        return found
    if _share(cells, lambda cell: _parses(read_ga, cell)) >= MIN_SHARE and any(
        map(_AGE.fullmatch, cells)
    ):
        return "ga"
    if _share(cells, lambda cell: bool(planes.get(cell) or planes.proposal(cell))) >= MIN_PLANES:
        return "plane"
    names = {cell for cell in cells if _is_name(cell)}
    return "name" if len(names) >= MIN_NAMES and _share(cells, _is_name) >= MIN_SHARE else ""


def _are_centers(title: str, cells: list[str]) -> bool:
    """Whether the title names centers, and the cells repeat."""
    words = parse_title(title)[0].split("_")
    named = any(word in _CENTER_WORDS or word.startswith(_CENTER_STARTS) for word in words)
    return named and len(cells) >= 2 * len(set(cells))


def _by_title(title: str) -> str:
    """The private field that a part of the title names, "" for none."""
    words = re.findall(r"[^\W\d_]+", title.casefold())
    for field, parts in _PRIVATE_TITLES.items():
        if any(word.startswith(part) for word in words for part in parts.split()):
            return field
    return ""


def _cells(sheet: Sheet, index: int) -> list[str]:
    return [row[index] for _, row in sheet.rows[:SAMPLE] if row[index]]


def _share(cells: list[str], test: Callable[[str], bool]) -> float:
    return sum(count for cell, count in Counter(cells).items() if test(cell)) / len(cells)


def _ordinals(cells: list[str]) -> list[int]:
    return [parse_date(cell).toordinal() for cell in cells if _is_date(cell)]


def _is_date(cell: str) -> bool:
    return _DATE.fullmatch(cell) is not None and _parses(parse_date, cell)


def _is_contact(cell: str) -> bool:
    return any(pattern.fullmatch(cell) for pattern in (_PHONE, _MAIL, _STREET))


def _is_name(cell: str) -> bool:
    words = re.findall(r"[^\W\d_]{2,}", cell)
    return (
        _NAME.fullmatch(cell) is not None
        and bool(words)
        and all(word[0].isupper() for word in words)
        and _PUBLIC_WORDS.isdisjoint(map(str.casefold, words))
    )


def _parses(parse: Callable[[str], object], cell: str) -> bool:
    try:
        parse(cell)
    except SonoError:
        return False
    return True
