"""The hospital that assigned a patient's number."""

import json

import pandas as pd
import pytest

from sono.curation.records.namespaces import namespaces

JANE, MARY = {"PatientName": "DOE^JANE"}, {"PatientName": "ROE^MARY"}


def _spaces(*rows: tuple[str | None, str | None, dict[str, str]], patient: str = "77") -> list[str]:
    """The namespaces of rows of (--center, hospital of the table, header)."""
    cells = [(space, patient, site, json.dumps(header)) for space, site, header in rows]
    return namespaces(
        pd.DataFrame(cells, columns=["namespace", "raw_patient", "site", "header_facts"])
    ).tolist()


@pytest.mark.parametrize(
    ("rows", "spaces"),
    [
        ([(None, "North", {}), (None, "South", {}), (None, None, {})], ["North", "South", ""]),
        ([(None, "North", {}), (None, "North Hospital", {})], ["", ""]),
        ([(None, "North", {}), (None, None, {})], ["", ""]),
        ([("A", "North", {}), (None, "South", {})], ["A", ""]),
        ([("A", "North", {}), ("A", "South", {})], ["A", "A"]),
        (
            [
                (None, None, {"InstitutionName": name, **who})
                for name, who in (("North Clinic", JANE), ("South", MARY))
            ],
            ["North Clinic", "South"],
        ),
        (
            [
                (None, None, {"InstitutionName": name, **who})
                for name, who in (("North Clinic", JANE), ("South", JANE))
            ],
            ["", ""],
        ),
    ],
)
def test_a_number_is_apart_by_hospital_where_two_have_it(
    rows: list[tuple[str | None, str | None, dict[str, str]]], spaces: list[str]
) -> None:
    assert _spaces(*rows) == spaces
