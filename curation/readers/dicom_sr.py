"""Structured reports of obstetric ultrasound (PS3.16, TID 5000) as gestational age and biometry."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from sono.curation.clinical.dates import parse_date
from sono.curation.clinical.dating import days_from_due, days_from_lmp
from sono.curation.clinical.gestational_age import MAX_GA_DAYS, MIN_GA_DAYS
from sono.curation.core.column_values import RANGES_MM
from sono.curation.core.errors import SonoError
from sono.curation.readers.dicom_header import dicom_errors, text_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Code = tuple[str, str]  # value and coding scheme

OBSTETRIC = ("125000", "DCM")
LENGTHS = {
    ("11820-8", "LN"): "bpd",
    ("11984-2", "LN"): "hc",
    ("11979-2", "LN"): "ac",
    ("11963-6", "LN"): "fl",
    ("11957-8", "LN"): "crl",
    ("33069-6", "LN"): "nt",
}
AGE, COMPOSITE_AGE = ("18185-9", "LN"), ("11888-5", "LN")
DUE_DATE, LAST_PERIOD = ("11778-8", "LN"), ("11955-2", "LN")
FETUS = ("11951-1", "LN")
# In other sections an age is next to the one measurement that it was computed from.
SUMMARIES = frozenset((OBSTETRIC, ("121111", "DCM"), ("125008", "DCM"), ("121118", "DCM")))
SELECTION, DERIVATION = ("121404", "DCM"), ("121401", "DCM")
MEANS = frozenset((("R-00317", "SRT"), ("373098007", "SCT")))
TO_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001}  # UCUM
TO_DAYS = {"d": 1.0, "wk": 7.0}

PLAIN, MEAN, SELECTED = range(3)  # how much a repeated measurement counts
SAME = 0.005  # mm; the same number in cm and in mm


@dataclass(frozen=True)
class _Item:
    """A leaf of the content tree: concept, value type, number (mm or days), text and sections."""

    concept: Code
    number: float
    rank: int
    text: str
    sections: frozenset[Code]


def is_report(dataset: "Dataset") -> bool:
    """Whether the dataset is a structured report of obstetric ultrasound."""
    return _concept(dataset) == OBSTETRIC


def read_report(dataset: "Dataset") -> dict[str, float]:
    """The gestational age (`ga_days`) and the biometry (`bpd_mm` to `nt_mm`) of a report.

    Of repeated measurements the selected one counts, otherwise the mean, otherwise the only one.
    Biometry of several fetuses, unknown units and implausible values are omitted.
    """
    items = list(_items(dataset))
    age = _age(items, _exam_date(dataset))
    values: dict[str, float] = {} if age is None else {"ga_days": age}
    if len({item.text for item in items if item.concept == FETUS}) > 1:
        return values
    for concept, name in LENGTHS.items():
        low, high = RANGES_MM[name]
        value = _preferred_number([item for item in items if item.concept == concept])
        if value is not None and low <= value <= high:
            values[f"{name}_mm"] = round(value, 2)
    return values


def _items(dataset: "Dataset") -> Iterator[_Item]:
    """The leaves of the content tree, in no order.

    What is below a leaf describes that leaf only.
    """
    waiting = [(dataset, frozenset([_concept(dataset)]))]
    while waiting:
        parent, sections = waiting.pop()
        for item in _children(parent):
            concept = _concept(item)
            if text_of(item, "ValueType") == "CONTAINER":
                waiting.append((item, sections | {concept}))
            else:
                yield _Item(concept, _number(item), _rank(item), _text(item), sections)


def _children(item: "Dataset") -> list["Dataset"]:
    try:
        return list(item.ContentSequence)
    except dicom_errors():
        return []


def _concept(item: "Dataset", name: str = "ConceptNameCodeSequence") -> Code:
    try:
        code = item[name].value[0]
        return str(code.CodeValue), str(code.CodingSchemeDesignator)
    except dicom_errors():
        return "", ""


def _number(item: "Dataset") -> float:
    """A length in mm or an age in days; NaN for anything else."""
    try:
        measured = item.MeasuredValueSequence[0]
        unit, scheme = _concept(measured, "MeasurementUnitsCodeSequence")
        factor = (TO_MM | TO_DAYS).get(unit, math.nan) if scheme == "UCUM" else math.nan
        is_age = _concept(item) in (AGE, COMPOSITE_AGE)
        return float(measured.NumericValue) * factor if is_age == (unit in TO_DAYS) else math.nan
    except dicom_errors():
        return math.nan


def _rank(item: "Dataset") -> int:
    rank = PLAIN
    for note in _children(item):
        if _concept(note) == SELECTION:
            rank = SELECTED
        elif _concept(note) == DERIVATION and _concept(note, "ConceptCodeSequence") in MEANS:
            rank = max(rank, MEAN)
    return rank


def _text(item: "Dataset") -> str:
    return text_of(item, "Date") or text_of(item, "TextValue")


def _preferred_number(items: Sequence[_Item]) -> float | None:
    """The number with the highest priority; None if several of them differ."""
    known = [item for item in items if math.isfinite(item.number)]
    top = max((item.rank for item in known), default=PLAIN)
    numbers = [item.number for item in known if item.rank == top]
    return numbers[0] if numbers and max(numbers) - min(numbers) <= SAME else None


def _age(items: Sequence[_Item], exam: date | None) -> int | None:
    """Gestational age in days on the exam day.

    It is the stated age, otherwise that by due date or last period, otherwise that by biometry.
    """
    general = [item for item in items if item.sections <= SUMMARIES]
    stated = _preferred_number([item for item in general if item.concept == AGE])
    composite = _preferred_number([item for item in general if item.concept == COMPOSITE_AGE])
    for age in (stated, _dated(general, exam), composite):
        if age is not None and MIN_GA_DAYS <= age <= MAX_GA_DAYS:
            return round(age)
    return None


def _dated(items: Sequence[_Item], exam: date | None) -> int | None:
    due, last_period = (_only_date(items, concept) for concept in (DUE_DATE, LAST_PERIOD))
    if exam is None or (due is None and last_period is None):
        return None
    # the due date, often corrected by ultrasound, goes before the last period
    days = days_from_due(exam, due) if due is not None else days_from_lmp(exam, last_period or exam)
    return days if MIN_GA_DAYS <= days <= MAX_GA_DAYS else None


def _only_date(items: Sequence[_Item], concept: Code) -> date | None:
    dates = {_date(item.text) for item in items if item.concept == concept}
    return dates.pop() if len(dates) == 1 else None


def _exam_date(dataset: "Dataset") -> date | None:
    return _date(text_of(dataset, "StudyDate") or text_of(dataset, "ContentDate"))


def _date(text: str) -> date | None:
    try:
        return parse_date(text)
    except SonoError:
        return None
