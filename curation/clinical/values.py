"""Convert the cells of a record to the values of the tables.

These are numbers in mm, words of closed vocabularies, dates and known structures.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from difflib import SequenceMatcher
from functools import lru_cache
from math import inf

from sono.curation.clinical.dates import parse_date, short
from sono.curation.clinical.name_variants import MIN_ID_DIGITS, TITLES
from sono.curation.clinical.placeholders import is_answer, is_mothers_birth
from sono.curation.core.column_values import BMI_BANDS, PARITIES, RANGES_MM
from sono.curation.core.errors import SonoError, did_you_mean, near_match
from sono.curation.core.plane_labels import label_form
from sono.curation.core.planes import REGIONS

MAX_TEXT = 200
MIN_LIKENESS = 0.8  # of femor to femur; Heidi is 0.67 like head
LABEL_WORDS = 4  # longer cells are free text, which may name somebody

LATERALITY = {
    "left": "left l lt sinistra links li",
    "right": "right r rt dextra rechts re",
    "both": "both b bilateral lr beidseits beide bds",
}
SEX = {
    "F": "f female woman w weiblich frau femme feminin mujer femenino femminile",
    "M": "m male man maennlich männlich mann homme masculin hombre masculino maschile",
}
PRESENTATION = {
    "cephalic": "cephalic vertex head ceph schädellage schaedellage kopflage sl",
    "breech": "breech podalic beckenendlage steisslage bel",
    "transverse": "transverse shoulder querlage ql",
}

# a primipara has one child, or expects her first, so the word is not understood
PARITY = {
    PARITIES[0]: "nulliparous nullipara nulliparae nulligravida",
    PARITIES[1]: "parous multiparous multipara multiparae mehrgebärend mehrgebaerend",
}
MIN_BMI, MAX_BMI, MAX_PARITY = 12.0, 80.0, 20

_MEASURE = re.compile(r"([+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)\s*(mm|cm)?", re.ASCII | re.IGNORECASE)
# births before, as in 1, P1, G2P1 or P2+1 (and one loss)
_BIRTHS = re.compile(
    r"(?:(?:G\s?\d{1,2}[\s/,]{0,2})?P\s?)?(\d{1,2})(?:\+\d|\.0+)?", re.ASCII | re.IGNORECASE
)
_CODE = re.compile(r"[A-Z]\d{2}(?:\.\d{1,4})?")  # ICD-10
# Of known words alone; inside a quoted value it would have a quotation mark behind it.
_LIKE = re.compile(r"; did you mean '([^']*)'\?$")
_SUGGESTION = re.compile(r"(; did you mean '[^']*'\?|; known: [^']*)?$")
_ANSWER = "names nobody, so it is unknown; write the id in every row"
_ROUNDED = (
    "has lost digits to a spreadsheet and is left out; format the column as text and enter it again"
)
_ROUNDED_ID = re.compile(r"\d(?:[.,]\d+)?E\+\d{2,3}", re.ASCII | re.IGNORECASE)
_EXACT_DIGITS = 15
_LONG_ID = re.compile(rf"[1-9]\d{{{_EXACT_DIGITS},40}}", re.ASCII)
_FLOAT_ID = re.compile(r"(\d+)\.0+", re.ASCII)


class _Kinds(dict[int, str]):
    """The kind of each character by its code, found when it is first asked for."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if re.fullmatch(r"\d", letter):
            self[code] = "9"
        elif re.fullmatch(r"[^\W_]", letter):
            self[code] = "A" if letter.isupper() else "a"
        else:
            self[code] = letter
        return self[code]


_KINDS = _Kinds()
_RUNS = re.compile(r"(A|a)\1+")


def shape(text: str) -> str:
    """The shape of a value without the value: digits become 9, runs of letters A or a.

    `P1042` is A9999.
    """
    plain = _RUNS.sub(r"\1", text.translate(_KINDS))
    return short(plain[:24] + ("..." if len(plain) > 24 else ""))


def shown_name(path: str, names: bool) -> str:
    """A path below the folder of files for a message: its shape (`AAA_99/AA9.aaa`).

    With `names`, it is the path itself with unprintable characters replaced.
    """
    if not names:
        return "/".join(map(shape, path.split("/")))
    return "".join(letter if letter.isprintable() else "?" for letter in path)


def masked(message: str) -> str:
    """A message in which the quoted value is replaced by its shape, so that no name is shown.

    A suggestion is kept.
    """
    end = _SUGGESTION.search(message)
    start = end.start() if end else len(message)
    quoted = re.sub(
        r"'(.*)'", lambda value: f"'{shape(value[1])}'", message[:start], flags=re.DOTALL
    )
    return quoted + message[start:]


def is_short_number(text: str) -> bool:
    """Whether a cell is a number too short for an id or a date, with one letter at most."""
    return len(re.findall(r"\d", text)) < MIN_ID_DIGITS and len(re.findall(r"[^\W\d]", text)) < 2


def is_slip(problem: str, cell: str) -> bool:
    """Whether a cell is a misspelled known word, which `problem` suggests at its end."""
    near = _LIKE.search(problem)
    return (
        near is not None
        and SequenceMatcher(None, cell.lower(), near[1].lower()).ratio() >= MIN_LIKENESS
    )


def may_name_somebody(words: Sequence[str]) -> bool:
    """Whether a cell may contain a name: free text, a title, or several capitalized words."""
    capitals = len(words) > 1 and all(word[:1].isupper() and word[1:].islower() for word in words)
    return (
        len(words) > LABEL_WORDS
        or capitals
        or not TITLES.isdisjoint(word.casefold() for word in words)
    )


def most_common(counts: Counter[str], number: int = 3) -> dict[str, int]:
    """The most frequent shapes and their counts, in a stable order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number])


def text_value(field: str, text: str) -> str:
    """A name in NFC; raises SonoError if it is too long or has control characters."""
    if len(text) > MAX_TEXT:
        raise SonoError(f"{field} '{short(text)}' has {len(text)} characters, more than {MAX_TEXT}")
    if not text.isprintable():
        raise SonoError(f"{field} '{short(text)}' has control characters")
    return unicodedata.normalize("NFC", text)


def id_problem(text: str) -> str:
    """What is wrong with the cell of an id; "" if nothing is.

    A spreadsheet may have turned it into `1.23E+05`, or it may be an answer such as "yes".
    """
    if _ROUNDED_ID.fullmatch(text):
        return _ROUNDED
    return _ANSWER if is_answer(text) else ""


def whole_ids(texts: Sequence[str]) -> list[str] | None:
    """Ids without a final `.0`, if all that are not empty have one.

    A numeric column with gaps turns 4711 into 4711.0.
    """
    found = [_FLOAT_ID.fullmatch(text) for text in texts]
    if not any(found) or not all(
        match or not text for match, text in zip(found, texts, strict=True)
    ):
        return None
    return [match[1] if match else "" for match in found]


def with_rounded_ids(texts: Sequence[str]) -> list[str]:
    """Ids, with those of more than 15 digits as `1.23E+15` if a spreadsheet has rounded them all.

    It keeps 15 digits of a number and writes zeros for the others.
    """
    ends = {text[_EXACT_DIGITS:] for text in texts if _LONG_ID.fullmatch(text)}
    if any(end.strip("0") for end in ends):
        return list(texts)
    return [
        f"{text[0]}.{text[1:3]}E+{len(text) - 1}" if _LONG_ID.fullmatch(text) else text
        for text in texts
    ]


def measure_mm(field: str, text: str, unit: str = "") -> float:
    """A length in mm; a unit in the cell overrides `unit`, which is that of the header.

    Raises SonoError outside RANGES_MM.
    """
    found = _MEASURE.fullmatch(text)
    if found is None:
        raise SonoError(
            f"{field} '{short(text)}' is not a length; write it in mm, for example 47.5"
        )
    value = float(found[1].replace(",", "."))
    if (found[2] or unit).lower() == "cm":
        value = round(value * 10, 9)
    low, high = RANGES_MM[field]
    if not low <= value <= high:
        hint = f"if the column is in cm, name it {field}_cm"
        raise SonoError(f"{field} '{short(text)}' is outside {low:g} to {high:g} mm; {hint}")
    return value


def bare_number(text: str) -> float | None:
    """The finite number of a length without a unit; None for anything else."""
    found = _MEASURE.fullmatch(text)
    number = float(found[1].replace(",", ".")) if found and not found[2] else inf
    return number if 0 < number < inf else None


def choice(field: str, text: str, vocabulary: Mapping[str, str]) -> str:
    """The word of a closed vocabulary that `text` names, directly or by a synonym."""
    for word, synonyms in vocabulary.items():
        if text.casefold() in synonyms.split():
            return word
    raise SonoError(f"unknown {field} '{short(text)}'{did_you_mean(short(text), vocabulary)}")


def laterality(text: str) -> str:
    """left, right or both."""
    return choice("laterality", text, LATERALITY)


def presentation(text: str) -> str:
    """cephalic, breech or transverse."""
    return choice("presentation", text, PRESENTATION)


def bmi_band(text: str) -> str:
    """The band of a body mass index in kg/m2."""
    number = bare_number(text)
    if number is None or not MIN_BMI <= number <= MAX_BMI:
        raise SonoError(
            f"BMI '{short(text)}' is not a number from {MIN_BMI:g} to {MAX_BMI:g}; write it in "
            "kg/m2, for example 24.5"
        )
    return BMI_BANDS[(number >= 25) + (number >= 30)]


def parity(text: str) -> str:
    """nulliparous or parous, of a number of births, as in 1, P1 or G2P1, or a word."""
    births = _BIRTHS.fullmatch(text)
    if births is None:
        return choice("parity", text, PARITY)
    if int(births[1]) > MAX_PARITY:
        raise SonoError(f"parity '{short(text)}' is above {MAX_PARITY}; write earlier births")
    return PARITIES[int(births[1]) > 0]


def sex(text: str) -> str:
    """F or M, as in a DICOM header."""
    return choice("sex", text, SEX)


def birth(exam: date | None, month_first: bool | None, text: str) -> date:
    """A mother's date of birth; raises SonoError if it is impossible on the day `exam`.

    If `exam` is None, any day is accepted.
    """
    day = parse_date(text, month_first)
    if not is_mothers_birth(day, exam):
        raise SonoError(
            f"birth date '{short(text)}' does not give an age of 8 to 70 years at an exam; it is "
            "ignored"
        )
    return day


def region(text: str) -> str:
    """A region of REGIONS."""
    known = {label_form(name): name for name in REGIONS}
    if label_form(text) not in known:
        raise SonoError(f"unknown region '{short(text)}'{did_you_mean(short(text), REGIONS)}")
    return known[label_form(text)]


def terms(field: str, text: str, known: Collection[str]) -> tuple[tuple[str, ...], list[str]]:
    """The known terms in a list separated by `;`, `|` or `,`, and a message for each unknown one.

    An unknown term may be free text.
    """
    spellings = {label_form(term): term for term in known}
    found, problems = [], []
    for part in filter(None, map(str.strip, re.split(r"[;|,]", text))):
        coded = part if field == "finding" and _CODE.fullmatch(part) else None
        term = spellings.get(label_form(part), coded)
        if term is not None:
            found.append(term)
        else:
            near = near_match(short(part), known)
            problems.append(f"unknown {field} '{short(part)}' is left out{near}")
    return tuple(dict.fromkeys(found)), problems


@lru_cache(65536)
def private_forms(text: str) -> tuple[str, ...]:
    """A private value as written and, for an ambiguous date, as it may occur elsewhere."""
    if not text[:1].isdigit():
        return (text,)
    forms = [text]
    for month_first in (False, True):
        try:
            day = parse_date(text, month_first)
        except SonoError:
            continue
        forms += [day.isoformat(), f"{day:%Y%m%d}", f"{day:%d.%m.%Y}"]
    return tuple(dict.fromkeys(forms))
