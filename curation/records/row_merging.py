"""Merge rows of a records table about one subject: keep what they agree on, report the rest."""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Protocol

from sono.curation.clinical.placeholders import id_form
from sono.curation.records.identity import same_person
from sono.curation.records.table import Record, path_parts, without

IDS = ("patient", "issuer", "study", "study_number", "series", "instance", "accession")
AGE = ("ga_days", "ga_source", "ga_conflicts")  # the last two follow the first
FIELDS = [
    item.name
    for item in fields(Record)
    if item.compare and item.name not in ("key", "kind", *AGE[1:])
]
FIELDS += ["lmp", "due"]
MEASURES = (
    "lmp",
    "due",
    *(name for name in FIELDS if name.endswith("_mm") and "spacing" not in name),
)


class Notes(Protocol):
    """The records of a table, and where problems of its rows are reported."""

    @property
    def records(self) -> list[Record]:
        """The records, in the order of their rows."""

    @property
    def repeated(self) -> list[int]:
        """Lines that repeat an earlier line."""

    @property
    def conflicting(self) -> list[int]:
        """Lines that contradict an earlier line."""

    def report(self, line: int, problem: str, field: str = "") -> None:
        """Add a problem of a row."""


def merge_rows(reading: Notes) -> Iterable[Record]:
    """One record per subject; where its rows differ, only what they agree on.

    Rows with one key but different patients, studies, exam dates or sizes stay separate: the header
    of a file decides between them.
    """
    kept: list[Record] = []
    places: dict[tuple[str, str], dict[str, list[int]]] = {}  # in `kept`, by key and patient
    for record in reading.records:
        same_key = places.setdefault((record.kind, "/".join(path_parts(record.key))), {})
        place = next(
            (at for at in _possible(same_key, record) if _same_subject(kept[at], record)), None
        )
        if place is not None:
            kept[place] = _united(kept[place], record, reading)
            continue
        if same_key and record.kind == "image":
            _report_other_subject(kept[min(min(at) for at in same_key.values())], record, reading)
        same_key.setdefault(id_form(record.patient or ""), []).append(len(kept))
        kept.append(record)
    return kept


def _possible(same_key: dict[str, list[int]], record: Record) -> list[int]:
    """The places of rows of the patient of `record` or of none; all where it names no patient."""
    patient = id_form(record.patient or "")
    listed = (
        same_key.values() if not patient else (same_key.get(name, []) for name in (patient, ""))
    )
    return sorted(at for places in listed for at in places)


def _united(first: Record, record: Record, reading: Notes) -> Record:
    """The record that two rows about one subject give together."""
    differing = [name for name in FIELDS if getattr(first, name) != getattr(record, name)]
    (reading.conflicting if differing else reading.repeated).append(record.line)
    if not differing:
        return first
    again = f"the {record.kind} of line {first.line} again, with different {', '.join(differing)}"
    reading.report(record.line, f"{again}; these fields are left out")
    return _agreed(first, record, differing)


def _same_subject(first: Record, second: Record) -> bool:
    """Whether two rows with one key are about one subject.

    Of one patient, a row with a date and a row without are two subjects.
    """
    ids = ((getattr(first, name), getattr(second, name)) for name in IDS)
    if any(
        one and other and id_form(one) != id_form(other) for one, other in ids
    ) or not same_person(first, second):
        return False
    if first.kind == "patient":
        same_day = first.exam_date == second.exam_date
        return same_day and (
            first.exam_date is not None or (first.due, first.lmp) == (second.due, second.lmp)
        )
    if first.kind == "image" and _differing_measures(first, second):
        return False
    return None in (first.exam_date, second.exam_date) or first.exam_date == second.exam_date


def _differing_measures(first: Record, second: Record) -> list[str]:
    """The ages and lengths that both rows have with different values.

    One image has one of each.
    """
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in MEASURES}
    pairs["ga_days"] = (first.stated.get("recorded"), second.stated.get("recorded"))
    return [
        name for name, (one, other) in pairs.items() if None not in (one, other) and one != other
    ]


def _report_other_subject(first: Record, record: Record, reading: Notes) -> None:
    facts = (*IDS, "site", "name", "birth", "sex", "exam_date")
    names = [
        *(name for name in facts if getattr(first, name) != getattr(record, name)),
        *_differing_measures(first, record),
    ]
    what = "neither is applied where the file's own header does not decide"
    reading.conflicting.append(record.line)
    reading.report(
        record.line,
        f"the image of line {first.line} again, with different {', '.join(names)}; {what}",
    )


def _agreed(first: Record, second: Record, differing: list[str]) -> Record:
    """The first record without its `differing` fields, with the private strings of both."""
    names = (*differing, *AGE[1:]) if "ga_days" in differing else differing
    private = tuple(dict.fromkeys((*first.private, *second.private)))
    persons = tuple(dict.fromkeys((*first.persons, *second.persons)))
    stated = dict(first.stated.items() & second.stated.items())
    return without(replace(first, private=private, persons=persons, stated=stated), names)
