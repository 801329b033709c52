"""Ids that the files of a run show for several people: such an id alone is no identity."""

from collections.abc import Iterable
from itertools import combinations

from sono.curation.placeholders import id_form
from sono.curation.records.evidence import FileFacts
from sono.curation.records.identity import ids_differ, institution_differs, unpadded

MANY = 50  # different headers of one patient id that are compared with each other
_OF_PERSON = ("PatientBirthDate", "IssuerOfPatientID", "InstitutionName")


class People:
    """Which ids of patients and exams the files of a run show for several people."""

    def __init__(self, files: Iterable[FileFacts]) -> None:
        of_patient: dict[str, dict[str, FileFacts]] = {}  # a file of each birth date, issuer and hospital
        of_exam: dict[str, set[str]] = {}
        for facts in files:
            if facts.patient_form:
                said = "/".join(facts.header.get(name, "") for name in _OF_PERSON) + f"/{facts.center}"
                of_patient.setdefault(facts.patient_form, {}).setdefault(said, facts)
                for identity in facts.exam_ids:
                    of_exam.setdefault(id_form(identity), set()).add(unpadded(facts.patient_form))
        self.patients = {
            patient
            for patient, found in of_patient.items()
            if any(persons_differ(one, other) for one, other in combinations(list(found.values())[:MANY], 2))
        }
        self.exams = {exam for exam, patients in of_exam.items() if len(patients) > 1}


def persons_differ(one: FileFacts, other: FileFacts) -> bool:
    """Whether the headers of two files of one patient id are of two people, or of two hospitals that gave the id."""
    births = {one.birth, other.birth} - {None}
    places = [facts.center or facts.header.get("InstitutionName") for facts in (one, other)]
    issuers = [facts.header.get("IssuerOfPatientID") for facts in (one, other)]
    return len(births) > 1 or ids_differ(*issuers) or institution_differs(*places)
