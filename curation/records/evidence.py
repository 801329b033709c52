"""Compare the facts of a file (ids, dates and others) with those of a record."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from sono.curation.clinical.placeholders import is_exam_day, is_mothers_birth, known_id
from sono.curation.records.identity import (
    birth_of,
    centers_differ,
    ids_differ,
    institution_differs,
    names_differ,
    same_id,
    sexes_differ,
    unpadded,
)
from sono.curation.records.table import Record

AMBIGUOUS, CONFLICT, UNDECIDED, ONE_IMAGE, NO_RECORD = (
    "record_ambiguous",
    "record_conflict",
    "exam_undecided",
    "image_undecided",
    "no_record",
)
# The record is applied although its spacing or machine differs from the header's.
DIFFERS = "record_differs"
JOIN_CODES = (NO_RECORD, AMBIGUOUS, CONFLICT, UNDECIDED, ONE_IMAGE)
CANDIDATES = 5  # a match lists at most this many rows or files

_UID = re.compile(r"(?!(?:19|20)\d\d\.\d\d?\.\d\d?$)\d+(?:\.\d+){2,}", re.ASCII)


@dataclass(frozen=True)
class FileFacts:
    """The facts of a file: ids as written in its header, study date (ISO), digest of its content.

    `header` contains the other facts of the header by DICOM keyword; a backslash separates several
    OtherPatientIDs. `center` is the center that the user gave. `matched_before` means that a row
    has matched the file in an earlier run. `root` is the folder given to `sono qc`. `folder_rows`
    are rows whose ids its folders may be, where nothing decides between them.
    """

    path: bytes
    patient: str | None = None
    study: str | None = None
    exam_date: str | None = None
    digest: str | None = None
    header: Mapping[str, str] = field(default_factory=dict)
    center: str | None = None
    matched_before: bool = False
    root: bytes = b""
    folder_rows: tuple[Record, ...] = ()

    @cached_property
    def day(self) -> date | None:
        """The study date; None where it is missing or no possible exam date."""
        day = date.fromisoformat(self.exam_date) if self.exam_date else None
        return day if day and is_exam_day(day) else None

    @cached_property
    def clock_days(self) -> int:
        """Days between the study date and the acquisition date; 0 where one is missing."""
        acquired = self.header.get("AcquisitionDate")
        return abs((date.fromisoformat(acquired) - self.day).days) if acquired and self.day else 0

    @cached_property
    def patient_form(self) -> str | None:
        """The patient's id for comparison; None where the patient is unknown."""
        return known_id(self.patient)

    @cached_property
    def patient_ids(self) -> frozenset[str]:
        """All ids of the patient without leading zeros, including OtherPatientIDs."""
        others = self.header.get("OtherPatientIDs", "").split("\\")
        return frozenset(
            unpadded(form) for form in (self.patient_form, *map(known_id, others)) if form
        )

    @property
    def accession(self) -> str | None:
        """The AccessionNumber of the header."""
        return self.header.get("AccessionNumber")

    @property
    def exam_ids(self) -> tuple[str, ...]:
        """The ids by which a row may name the exam: study id and accession number."""
        return tuple(
            identity for identity in (self.study, self.accession) if identity and known_id(identity)
        )

    @property
    def birth(self) -> date | None:
        """The birth date of the header; None where it is missing or not possible."""
        return birth_of(self.header.get("PatientBirthDate"), self.day)

    @property
    def content(self) -> str | bytes:
        """The digest of the file, else its path; equal for copies of one file."""
        return self.digest or self.path


@dataclass(frozen=True)
class Match:
    """The match of a file with the records.

    `record` is applied completely. If it is None and `evidence` is not empty, `rows` are the rows
    of the file's patient, and only their facts that do not depend on the exam day are applied. If
    `evidence` is empty too, `rows` are the candidates, and nothing is applied. `codes` and `why`
    give the reasons for what is left out; `others` are the files that fit equally well, and
    `owners` are rows of other patients whom the path of the file shows. `parts` are a refused match
    by name and the match by ids, where this match unites both. The age is that on the file's own
    study date.
    """

    file: FileFacts
    record: Record | None = None
    rows: tuple[Record, ...] = ()
    evidence: str = ""
    codes: tuple[str, ...] = ()
    why: str = ""
    others: tuple[bytes, ...] = ()
    owners: tuple[Record, ...] = ()
    parts: tuple["Match", ...] = ()
    named: tuple[Record, ...] = ()  # all rows that fit by name or id, whether applied or not
    ga_days: int | None = None
    ga_source: str | None = None
    ga_conflicts: tuple[str, ...] = ()

    @property
    def patient(self) -> str | None:
        """The patient's id of the file, else of the applied record."""
        if self.file.patient_form:
            return self.file.patient
        return self.record.patient if self.record else None

    @property
    def applied_rows(self) -> tuple[Record, ...]:
        """The applied record, or the rows of the patient that are applied in part."""
        return (self.record,) if self.record else self.rows if self.evidence else ()

    @property
    def center(self) -> str | None:
        """The center of the applied record, or the common center of all rows of the patient."""
        centers = {row.center for row in self.applied_rows}
        return centers.pop() if len(centers) == 1 else None


@dataclass(frozen=True)
class Verdict:
    """The first fact in which a file and a record differ, and whether an id or date agrees.

    `contradiction` is "" if no fact differs.
    """

    contradiction: str = ""
    agrees: bool = False

    @property
    def of_person(self) -> bool:
        """Whether the record is of another person, so that none of its facts applies."""
        return self.contradiction in _PERSON

    @property
    def same_exam(self) -> bool:
        """Whether nothing except the date contradicts the record."""
        return self.contradiction in ("", DATE)


def compare(facts: FileFacts, record: Record, tolerance_days: int) -> Verdict:
    """Compare person, center, exam, image and date of a file with those of a record.

    A fact that only one of them has is not a contradiction.
    """
    agrees = (
        same_id(facts.patient, record.patient)
        or any(
            same_id(own, other)
            for own in facts.exam_ids
            for other in (record.study, record.accession)
        )
        or same_id(facts.header.get("SOPInstanceUID"), record.instance)
    )
    contradiction = next((name for name, differ in _CHECKS.items() if differ(facts, record)), "")
    if contradiction:
        return Verdict(contradiction, agrees)
    apart = days_apart(facts, record)
    if apart is not None and apart > tolerance_days:
        return Verdict(DATE, agrees)
    return Verdict("", agrees or apart is not None)


def _patients_differ(facts: FileFacts, record: Record) -> bool:
    other = known_id(record.patient)
    return bool(other and facts.patient_ids) and unpadded(other or "") not in facts.patient_ids


def _births_differ(facts: FileFacts, record: Record) -> bool:
    """Whether two possible birth dates of a mother, given the exam date, differ."""
    exam = facts.day or record.exam_date
    known = {day for day in (facts.birth, record.birth) if day and is_mothers_birth(day, exam)}
    return None not in (facts.birth, record.birth) and len(known) > 1


def studies_differ(one: str | None, other: str | None) -> bool:
    """Whether both ids are study UIDs and differ; an exam number is not compared with a UID."""
    first, second = (one or "").strip(), (other or "").strip()
    return bool(_UID.fullmatch(first) and _UID.fullmatch(second)) and first != second


def _study_numbers_differ(facts: FileFacts, record: Record) -> bool:
    """Whether an exam number of the record differs from the header's StudyID.

    A number that equals the study UID or the accession number of the file is not compared.
    """
    own = facts.header.get("StudyID")
    numbers = [
        text
        for text in (record.study, record.study_number)
        if text and not _UID.fullmatch(text.strip())
    ]
    others = [
        number for number in numbers if not any(same_id(number, one) for one in facts.exam_ids)
    ]
    return any(ids_differ(own, number) for number in others)


def _centers_differ(facts: FileFacts, record: Record) -> bool:
    institution = facts.header.get("InstitutionName")
    return centers_differ(facts.center, record.site) or institution_differs(
        institution, record.site
    )


def _header_differs(keyword: str, name: str) -> Callable[[FileFacts, Record], bool]:
    """A check that compares the header's id `keyword` with the field `name` of a record."""
    return lambda facts, record: ids_differ(facts.header.get(keyword), getattr(record, name))


DATE = "date"
HEADER_CENTER = "another center than the file's header"  # in messages
# The checks by the fact that they compare, the most serious first: person, exam, image.
_PERSON: dict[str, Callable[[FileFacts, Record], bool]] = {
    "center": _centers_differ,
    "patient": _patients_differ,
    "issuer of the patient id": _header_differs("IssuerOfPatientID", "issuer"),
    "birth date": _births_differ,
    "patient name": lambda facts, record: names_differ(
        facts.header.get("PatientName"), record.name
    ),
    "patient sex": lambda facts, record: sexes_differ(facts.header.get("PatientSex"), record.sex),
}
_CHECKS = _PERSON | {
    "accession number": lambda facts, record: ids_differ(facts.accession, record.accession),
    "study": lambda facts, record: studies_differ(facts.study, record.study),
    "study id": _study_numbers_differ,
    "series": _header_differs("SeriesInstanceUID", "series"),
    "instance": _header_differs("SOPInstanceUID", "instance"),
}


def contradiction_of(facts: FileFacts, record: Record, contradiction: str) -> str:
    """A message that names the fact in which a record contradicts a file, without the values."""
    if contradiction == DATE:
        return date_problem(facts, record)
    by_user = contradiction == "center" and centers_differ(facts.center, record.site)
    origin = "--center" if by_user else "the file's header"
    return f"line {record.line} has another {contradiction} than {origin}"


def days_apart(facts: FileFacts, record: Record) -> int | None:
    """Days between the file's study date and the record's exam date; None if one is missing."""
    return (
        None
        if facts.day is None or record.exam_date is None
        else abs((facts.day - record.exam_date).days)
    )


def ambiguous(
    facts: FileFacts, rows: tuple[Record, ...], others: tuple[bytes, ...], why: str
) -> Match:
    """A match without a record, because several `rows` or `others` (files) fit equally well."""
    return Match(facts, None, rows, "", (NO_RECORD, AMBIGUOUS), why, others)


def date_problem(facts: FileFacts, record: Record) -> str:
    """A message on the days between the record's exam date and the file's study date."""
    return (
        f"the exam date of line {record.line} is {days_apart(facts, record)} days from the "
        f"file's study date"
    )


def unread_date(record: Record) -> str:
    """A message on an exam date that is not understood."""
    return (
        f"the exam date of line {record.line} is not understood, so the values of its exam day are "
        "not used"
    )


def lines_of(rows: Sequence[Record]) -> str:
    """The line numbers of the first `rows`, for a message."""
    shown = ", ".join(str(row.line) for row in rows[:CANDIDATES]) + (
        ", ..." if len(rows) > CANDIDATES else ""
    )
    return f"line {shown}" if len(rows) == 1 else f"lines {shown}"
