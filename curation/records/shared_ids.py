"""Ids that files show for several people or exams, and rows that decide whose id it is."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from sono.curation.clinical.placeholders import id_form, known_id
from sono.curation.records.evidence import FileFacts, studies_differ
from sono.curation.records.identity import (
    centers_differ,
    ids_differ,
    institution_differs,
    names_differ,
    same_id,
    sexes_differ,
)
from sono.curation.records.table import Record

MANY = 50  # an id with more different headers than these identifies nobody
OF_PERSON = (
    "PatientBirthDate",
    "IssuerOfPatientID",
    "InstitutionName",
    "PatientName",
    "PatientSex",
)

Check = Callable[[FileFacts, FileFacts], bool]


def _patients_differ(one: FileFacts, other: FileFacts) -> bool:
    return bool(one.patient_ids and other.patient_ids) and one.patient_ids.isdisjoint(
        other.patient_ids
    )


def _issuers_differ(one: FileFacts, other: FileFacts) -> bool:
    return ids_differ(one.header.get("IssuerOfPatientID"), other.header.get("IssuerOfPatientID"))


def _births_differ(one: FileFacts, other: FileFacts) -> bool:
    return len({one.birth, other.birth} - {None}) > 1


def _names_differ(one: FileFacts, other: FileFacts) -> bool:
    return names_differ(one.header.get("PatientName"), other.header.get("PatientName"))


def _sexes_differ(one: FileFacts, other: FileFacts) -> bool:
    return sexes_differ(one.header.get("PatientSex"), other.header.get("PatientSex"))


def _places_differ(one: FileFacts, other: FileFacts) -> bool:
    if one.center and other.center:
        return centers_differ(one.center, other.center)
    places = (facts.center or facts.header.get("InstitutionName") for facts in (one, other))
    return institution_differs(*places)


def _days_differ(one: FileFacts, other: FileFacts) -> bool:
    return len({one.day, other.day} - {None}) > 1


# Differences of two headers with one id that make them two people (or hospitals), or two exams.
PERSON: tuple[Check, ...] = (
    _patients_differ, _issuers_differ, _births_differ, _names_differ, _sexes_differ, _places_differ,
)  # fmt: skip
EXAM: tuple[Check, ...] = (
    *PERSON,
    lambda one, other: studies_differ(one.study, other.study),
    _days_differ,
)


def person_facts(facts: FileFacts) -> tuple[str | None, ...]:
    """The facts of person and hospital in a header; equal facts count as one header."""
    return (*(facts.header.get(name) for name in OF_PERSON), facts.center)


def differ(one: FileFacts, other: FileFacts) -> bool:
    """Whether two headers cannot belong to one person, hospital and exam."""
    return any(check(one, other) for check in EXAM)


def namesakes(one: FileFacts, other: FileFacts) -> bool:
    """Whether two files with one patient number are of two people in two hospitals.

    Hospitals of a records table (`center`) assign their own numbers. Two different InstitutionNames
    may come from a visit elsewhere, so name, birth date, sex or issuer must differ, too.
    """
    if not _places_differ(one, other):
        return False
    return bool(one.center and other.center) or any(
        check(one, other) for check in PERSON if check != _places_differ
    )


class People:
    """The different headers of the files with each patient id and each exam id."""

    def __init__(self, files: Iterable[FileFacts]) -> None:
        self._of_patient: dict[str, dict[object, FileFacts]] = {}
        self._of_exam: dict[str, dict[object, FileFacts]] = {}
        self._of_study_id: dict[str, dict[object, FileFacts]] = {}
        for facts in files:
            person = person_facts(facts)
            exam = (*person, facts.patient_ids, facts.study, facts.day)
            if facts.patient_form:
                self._of_patient.setdefault(facts.patient_form, {}).setdefault(person, facts)
            for identity in facts.exam_ids:
                self._of_exam.setdefault(id_form(identity), {}).setdefault(exam, facts)
            if number := facts.header.get("StudyID"):
                self._of_study_id.setdefault(id_form(number), {}).setdefault(exam, facts)

    def person_decided(self, facts: FileFacts, record: Record, others: Sequence[Record]) -> bool:
        """Whether a row with a patient's id describes the person of a file.

        `others` are rows of other people with the id.
        """
        namesakes = self._of_patient.get(facts.patient_form or known_id(record.patient) or "", {})
        return _decides(facts, record, [*namesakes.values()], others, PERSON)

    def exam_decided(self, facts: FileFacts, record: Record, others: Sequence[Record]) -> bool:
        """Whether a row with an exam id describes the exam of a file.

        `others` are rows of other people with the id. A study number that the table does not call
        an accession number may also be the StudyID of another exam.
        """
        found = {
            id(one): one
            for name in facts.exam_ids
            for one in self._of_exam.get(id_form(name), {}).values()
        }
        number = known_id(record.study)
        if number and not same_id(record.accession, facts.accession):
            found |= {id(one): one for one in self._of_study_id.get(number, {}).values()}
        return _decides(facts, record, [*found.values()], others, EXAM)


def _decides(
    facts: FileFacts,
    record: Record,
    files: Sequence[FileFacts],
    others: Sequence[Record],
    checks: Sequence[Check],
) -> bool:
    """Whether `record` and `facts` together rule out all other people or exams with the id.

    Another file or row is ruled out if it differs from both in a fact on which the two agree.
    """

    own = _facts_of(record, facts)
    shared = [check for check in checks if not check(facts, own)]

    def is_left(one: FileFacts) -> bool:
        return not any(check(facts, one) and check(own, one) for check in shared)

    left = [one for one in files if is_left(one)]
    if len(left) > MANY or any(is_left(_facts_of(other)) for other in others):
        return False
    return not any(check(one, other) for one, other in combinations(left, 2) for check in checks)


def _facts_of(record: Record, of_file: FileFacts | None = None) -> FileFacts:
    """The facts of a row in the form of a header.

    For `of_file`, a patient's id that differs in leading zeros is omitted.
    """
    same = of_file is None or same_id(of_file.patient, record.patient)
    header = {
        "PatientBirthDate": record.birth.isoformat() if record.birth else None,
        "IssuerOfPatientID": record.issuer,
        "PatientName": record.name,
        "PatientSex": record.sex,
    }
    day = record.exam_date.isoformat() if record.exam_date else None
    known_facts = {keyword: text for keyword, text in header.items() if text}
    return FileFacts(
        b"", record.patient if same else None, record.study, day, None, known_facts, record.site
    )
