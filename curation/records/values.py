"""The cells of a record as values of the tables: numbers in mm, closed vocabularies, dates, known structures."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache

from sono.curation.errors import SonoError, did_you_mean
from sono.curation.planes import REGIONS
from sono.curation.records.ages import ga_from_dates, parse_date, parse_ga

MAX_TEXT = 200

# Plausible values in mm, from the first trimester to term with disease.
RANGES_MM = {
    "bpd": (5.0, 130.0),
    "hc": (20.0, 450.0),
    "ac": (20.0, 480.0),
    "fl": (2.0, 95.0),
    "crl": (2.0, 120.0),
    "nt": (0.3, 20.0),
    "spacing": (0.005, 2.0),
    "row_spacing": (0.005, 2.0),
    "col_spacing": (0.005, 2.0),
}

LATERALITY = {"left": "left l lt sinistra", "right": "right r rt dextra", "both": "both b bilateral lr"}
PRESENTATION = {
    "cephalic": "cephalic vertex head ceph",
    "breech": "breech podalic",
    "transverse": "transverse shoulder",
}

# Findings that a caption may name: the attributes of Ultrasound-CLIP (arXiv 2604.01749) and fetal findings of the
# ISUOG guidelines. A study adds its own under `findings` in [records].
FINDINGS = (
    "nodule", "cyst", "mass", "fluid collection", "normal appearance", "round", "oval", "lobulated", "tubular",
    "nodular", "flattened", "irregular", "well-defined", "ill-defined", "anechoic", "hypoechoic", "isoechoic",
    "hyperechoic", "cystic components", "calcifications", "septations", "solid components", "enhancement", "shadowing",
    "ventriculomegaly", "hydrocephalus", "choroid plexus cyst", "enlarged cisterna magna", "cleft lip",
    "absent nasal bone", "increased nuchal translucency", "cystic hygroma", "ventricular septal defect",
    "echogenic intracardiac focus", "pericardial effusion", "pleural effusion", "ascites", "hydrops", "omphalocele",
    "gastroschisis", "diaphragmatic hernia", "double bubble", "echogenic bowel", "hydronephrosis", "pyelectasis",
    "multicystic kidney", "renal agenesis", "megacystis", "single umbilical artery", "spina bifida", "clubfoot",
    "short femur", "skeletal dysplasia", "oligohydramnios", "polyhydramnios", "growth restriction", "macrosomia",
)  # fmt: skip

_MEASURE = re.compile(r"([+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)\s*(mm|cm)?", re.ASCII | re.IGNORECASE)
_CODE = re.compile(r"[A-Z]\d{2}(?:\.\d{1,4})?")  # ICD-10
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?", re.ASCII)


def short(value: str) -> str:
    """A value as it may stand in a message: of one printable line."""
    line = "".join(letter if letter.isprintable() else " " for letter in value[:40])
    return line + "..." if len(value) > 40 else line


def text_value(text: str) -> str:
    """A name in NFC; SonoError where it is overlong or holds control characters."""
    if len(text) > MAX_TEXT:
        raise SonoError(f"'{short(text)}' has {len(text)} characters, more than {MAX_TEXT}")
    if not text.isprintable():
        raise SonoError(f"'{short(text)}' holds control characters")
    return unicodedata.normalize("NFC", text)


def measure_mm(field: str, text: str, unit: str = "") -> float:
    """A length in mm; `unit` is the header's, and one in the cell goes before it. SonoError outside RANGES_MM."""
    found = _MEASURE.fullmatch(text)
    if found is None:
        raise SonoError(f"{field} '{short(text)}' is not a length; write it in mm, as 47.5")
    value = float(found[1].replace(",", "."))
    if (found[2] or unit).lower() == "cm":
        value = round(value * 10, 9)
    low, high = RANGES_MM[field]
    if not low <= value <= high:
        hint = f"if the column is in cm, name it {field}_cm"
        raise SonoError(f"{field} {value:g} mm is outside {low:g} to {high:g} mm; {hint}")
    return value


def choice(field: str, text: str, vocabulary: Mapping[str, str]) -> str:
    """The word of a closed vocabulary that `text` or a synonym of it stands for."""
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


def region(text: str) -> str:
    """A region of REGIONS."""
    known = {_plain(name): name for name in REGIONS}
    if _plain(text) not in known:
        raise SonoError(f"unknown region '{short(text)}'{did_you_mean(short(text), REGIONS)}")
    return known[_plain(text)]


def terms(field: str, text: str, known: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    """The known terms in a list cut by `;`, `|` or `,`, and a message for each unknown one (which may be free text)."""
    spellings = {_plain(term): term for term in known}
    found, problems = [], []
    for part in filter(None, map(str.strip, re.split(r"[;|,]", text))):
        coded = part if field == "finding" and _CODE.fullmatch(part) else None
        term = spellings.get(_plain(part), coded)
        if term is not None:
            found.append(term)
        else:
            problems.append(f"unknown {field} '{short(part)}' is left out")
    return tuple(dict.fromkeys(found)), problems


def gestational_age(cells: Mapping[str, str], units: Mapping[str, str]) -> int | None:
    """Days, from the columns of gestational age or else from the dates; None where the row gives neither."""
    written = _written_age(cells, units)
    if written:
        return parse_ga(written)
    exam = parse_date(cells["exam_date"]) if "exam_date" in cells else None
    lmp, due = (parse_date(cells[field]) if field in cells else None for field in ("lmp", "due"))
    if exam is None or (lmp is None and due is None):
        return None
    return ga_from_dates(exam, lmp, due)


@lru_cache(65536)
def private_forms(text: str) -> tuple[str, ...]:
    """A private value as it stands in the table and, for a date, as it may stand elsewhere."""
    if not text[:1].isdigit():
        return (text,)
    try:
        day: date = parse_date(text)
    except SonoError:
        return (text,)
    return tuple(dict.fromkeys((text, day.isoformat(), f"{day:%Y%m%d}", f"{day:%d.%m.%Y}")))


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


def _plain(term: str) -> str:
    return " ".join(term.casefold().replace("_", " ").split())
