"""What a file and a record say of each other: ids and dates that agree or contradict, and the match that follows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from sono.curation.records.table import Record, id_form

# Ids that a scanner or a clerk writes where nobody knows the patient.
NOBODY = frozenset({"", "0", "00000", "none", "nan", "unknown", "anonymous", "anon", "test", "n/a", "na"})

AMBIGUOUS, CONFLICT, UNDECIDED = "record_ambiguous", "record_conflict", "exam_undecided"
NO_RECORD, UNDATED = "no_record", "record_undated"
JOIN_CODES = (NO_RECORD, AMBIGUOUS, CONFLICT, UNDECIDED, UNDATED)
CANDIDATES = 5  # that are kept of those which fit equally well

_UID = re.compile(r"(?!(?:19|20)\d\d\.\d\d?\.\d\d?$)\d+(?:\.\d+){2,}", re.ASCII)


@dataclass(frozen=True)
class FileFacts:
    """A file and what its own header says: ids as they are written, the study date in ISO, a digest of its content."""

    path: bytes
    patient: str | None = None
    study: str | None = None
    exam_date: str | None = None
    digest: str | None = None

    @cached_property
    def day(self) -> date | None:
        return date.fromisoformat(self.exam_date) if self.exam_date else None

    @cached_property
    def patient_form(self) -> str | None:
        """The patient's id as it is compared; None where nobody is named."""
        return patient_form(self.patient)

    @property
    def content(self) -> str | bytes:
        """What two copies of one file have in common."""
        return self.digest or self.path


@dataclass(frozen=True)
class Match:
    """What the records say of a file.

    `record` is applied in full. Else `rows` are those that were met: of the file's patient, for what does not depend on
    the exam day (`evidence` is not empty), or those that fit or contradict. `codes` and `why` give the reasons for
    whatever is left out, `others` the files that fit as well. The age is that of the file's own study date.
    """

    file: FileFacts
    record: Record | None = None
    rows: tuple[Record, ...] = ()
    evidence: str = ""
    codes: tuple[str, ...] = ()
    why: str = ""
    others: tuple[bytes, ...] = ()
    ga_days: int | None = None
    ga_source: str | None = None
    ga_conflicts: tuple[str, ...] = ()

    @property
    def patient(self) -> str | None:
        """The patient's id as the file has it, else as the record that is applied has it."""
        if self.file.patient_form:
            return self.file.patient
        return self.record.patient if self.record else None

    @property
    def met(self) -> tuple[Record, ...]:
        """The record that is applied, or the rows of the patient that are applied in part."""
        return (self.record,) if self.record else self.rows if self.evidence else ()

    @property
    def center(self) -> str | None:
        """The center of the record that is applied, or of all rows of the patient."""
        centers = {row.center for row in self.met}
        return centers.pop() if len(centers) == 1 else None


@dataclass(frozen=True)
class Verdict:
    """What a file's header and a record contradict in ("" for nothing), and whether an id or date agrees."""

    contradiction: str = ""
    agrees: bool = False


def compare(facts: FileFacts, record: Record, tolerance_days: int) -> Verdict:
    """Hold patient, study and exam date of a file's header against those of a record; what one lacks says nothing."""
    own, other = facts.patient_form, patient_form(record.patient)
    agrees = own is not None and own == other
    if own and other and unpadded(own) != unpadded(other):
        return Verdict("patient")
    if facts.study and record.study:
        same = id_form(facts.study) == id_form(record.study)
        if not same and _UID.fullmatch(facts.study.strip()) and _UID.fullmatch(record.study.strip()):
            return Verdict("study", agrees)
        agrees |= same
    apart = days_apart(facts, record)
    if apart is not None and apart > tolerance_days:
        return Verdict("date", agrees)
    return Verdict("", agrees or apart is not None)


def patient_form(patient: str | None) -> str | None:
    """A patient's id as it is compared; None where it names nobody."""
    form = id_form(patient or "")
    return None if form in NOBODY else form


def unpadded(identity: str) -> str:
    """An id without leading zeros, which spreadsheets lose: with them it is perhaps the same, so no contradiction."""
    return identity.lstrip("0")


def days_apart(facts: FileFacts, record: Record) -> int | None:
    return None if facts.day is None or record.exam_date is None else abs((facts.day - record.exam_date).days)


def ambiguous(facts: FileFacts, rows: tuple[Record, ...], others: tuple[bytes, ...], why: str) -> Match:
    return Match(facts, None, rows, "", (NO_RECORD, AMBIGUOUS), why, others)


def date_problem(facts: FileFacts, record: Record) -> str:
    return f"the exam date of line {record.line} is {days_apart(facts, record)} days from the file's study date"


def lines_of(rows: Sequence[Record]) -> str:
    shown = ", ".join(str(row.line) for row in rows[:CANDIDATES]) + (", ..." if len(rows) > CANDIDATES else "")
    return f"line {shown}" if len(rows) == 1 else f"lines {shown}"
