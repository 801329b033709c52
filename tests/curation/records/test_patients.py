"""Ids of one patient give one pseudonym; ids that may be one stay in one split."""

import json

import pandas as pd
import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.dataset.exams import orphan_counts
from sono.curation.dataset.split_checks import check_splits, possible_counts
from sono.curation.dataset.splits import SplitConfig, assign_splits
from sono.curation.qc_messages import frame_remarks
from sono.curation.records.join_messages import Joined
from sono.curation.records.namespaces import namespaces
from sono.curation.records.patients import of_hospitals, same_patients


def _sources(*files: tuple[str | None, dict[str, str]], space: str | None = None) -> pd.DataFrame:
    rows = [
        {"namespace": space, "raw_patient": raw, "site": None, "header_facts": json.dumps(facts)}
        for raw, facts in files
    ]
    return pd.DataFrame(rows).astype(object)


def _ids(*raw: str) -> pd.DataFrame:
    return _sources(*((one, {}) for one in raw))


@pytest.mark.parametrize("other", ["W90006", "w90006 ", "Ｗ９０００６"])
def test_spellings_of_one_id_are_one_patient(other: str) -> None:
    patients, groups = same_patients(_ids("w90006", other, "w90007"))
    assert patients[0] == patients[1] != patients[2]
    assert groups == [None] * 3


DOE = {"PatientName": "DOE^JANE", "PatientBirthDate": "19900101"}


@pytest.mark.parametrize(
    ("orphan", "linked"),
    [
        (DOE, True),
        ({**DOE, "PatientName": "Jane Doe"}, True),
        ({**DOE, "PatientName": "DOE^JILL"}, False),
        ({**DOE, "PatientName": "DOE"}, False),
        ({**DOE, "PatientBirthDate": "19910101"}, False),
        ({"PatientName": "DOE^JANE"}, False),
        ({}, False),
    ],
)
def test_a_frame_without_an_id_may_be_of_the_patient_with_its_name_and_birth_date(
    orphan: dict[str, str], linked: bool
) -> None:
    files = [("W1", DOE), ("W2", {}), (None, orphan), ("UNKNOWN", orphan)]
    patients, groups = same_patients(_sources(*files))
    assert patients[0] is not None and patients[2:] == [None, None]
    assert groups[1] is None
    assert (groups[0] == groups[2] == groups[3] is not None) == linked


def test_frames_without_an_id_of_one_name_and_birth_date_may_be_of_one_patient() -> None:
    other = {**DOE, "PatientName": "ROE^MARY"}
    patients, groups = same_patients(_sources((None, DOE), ("W2", {}), (None, DOE), (None, other)))
    assert patients == [None, ("", "w2"), None, None]
    assert groups[0] == groups[2] is not None and groups[3] != groups[0] and groups[1] is None


def test_a_name_that_is_written_for_everybody_links_no_frame_without_an_id() -> None:
    files = [*((f"W{number}", DOE) for number in range(5)), (None, DOE)]
    assert same_patients(_sources(*files))[1] == [None] * 6


def test_a_linked_frame_is_in_the_split_of_its_patient() -> None:
    known = [{"patient_id": f"p{number}", "exam_id": f"e{number}"} for number in range(30)]
    known[7] |= {"patient_group": "g"}
    linked = {"patient_id": None, "patient_group": "g", "exam_id": "e-linked"}
    unknown = {"patient_id": None, "patient_group": "h", "exam_id": None}
    rows = [
        {"source_id": f"s{number}", "frame": 0, "status": "accepted", "image_id": f"i{number}"}
        | {"reasons": []}
        | one
        for number, one in enumerate([*known, linked, unknown])
    ]
    images = from_rows(IMAGES, rows)
    for seed in range(20):
        images["split"] = assign_splits(images, SplitConfig(seed=seed))
        check_splits(images)
        assert images["split"][7] == images["split"][30] and images["split"][31] == "train"
    counts = orphan_counts(images)
    assert counts["name and birth date"] == counts["train only"] == 1 and counts["frames"] == 2
    assert possible_counts(images) == {}
    images.loc[30, "split"] = "train" if images["split"][7] != "train" else "test"
    with pytest.raises(SonoError, match="1 group of patients who may be one"):
        check_splits(images)


def test_an_id_among_the_other_ids_of_a_header_is_the_same_patient() -> None:
    patients, groups = same_patients(
        _sources(("W1", {"OtherPatientIDs": "NONE\\m1"}), ("M1", {}), ("M2", {}))
    )
    assert patients[0] == patients[1] != patients[2]
    assert groups == [None] * 3


@pytest.mark.parametrize(
    "facts",
    [
        ({"PatientBirthDate": "19900101"}, {"PatientBirthDate": "19850505"}),
        ({"PatientName": "DOE^JANE"}, {"PatientName": "ROE^MARY"}),
        ({"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"}),
    ],
)
def test_another_id_whose_facts_differ_is_a_possible_patient(
    facts: tuple[dict[str, str], dict[str, str]],
) -> None:
    patients, groups = same_patients(
        _sources(("W1", {"OtherPatientIDs": "M1", **facts[0]}), ("M1", facts[1]))
    )
    assert patients[0] != patients[1]
    assert groups[0] == groups[1] is not None


def test_another_id_that_several_headers_give_ties_them_and_makes_them_nobody_else() -> None:
    patients, groups = same_patients(
        _sources(*((who, {"OtherPatientIDs": "X99"}) for who in ("W1", "W2")))
    )
    assert patients[0] != patients[1]
    assert groups[0] == groups[1] is not None


def test_a_patient_without_a_hospital_may_be_any_who_has_the_number_in_two() -> None:
    sites = ["North", "South", None, None]
    sources = _sources(*(("77", {}) for _ in sites)).assign(site=sites)
    sources.loc[3, "raw_patient"] = "78"
    spaces = namespaces(sources)
    patients, groups = same_patients(
        sources.assign(namespace=spaces), of_hospitals(sources, spaces)
    )
    assert (
        len(set(patients)) == 4
        and groups[0] == groups[1] == groups[2] is not None
        and groups[3] is None
    )
    row = {"frame": 0, "status": "accepted", "reasons": []}
    names = [f"{space}{form}" for space, form in filter(None, patients)]
    group = [one and "g" for one in groups]
    rows = [
        row | {"source_id": name, "patient_id": name, "patient_group": group[at]}
        for at, name in enumerate(names)
    ]
    images = from_rows(IMAGES, rows)
    for seed in range(4):
        images["split"] = assign_splits(images, SplitConfig(seed=seed))
        assert images["split"].iloc[:3].nunique() == 1
        check_splits(images)
    assert possible_counts(images)["patients"] == 3
    images = images.assign(message=None)
    told = " ".join(frame_remarks(images, images, None, Joined(0, {})))
    assert "3 patients (3 frames) may be fewer" in told and "without a hospital" in told


def test_the_number_of_a_given_center_is_no_patients_without_one() -> None:
    sources = _sources(("77", {}), ("77", {})).assign(site=None)
    sources.loc[0, "namespace"] = "A"
    spaces = namespaces(sources)
    assert same_patients(sources.assign(namespace=spaces), of_hospitals(sources, spaces))[1] == [
        None,
        None,
    ]


def test_ids_that_differ_in_leading_zeros_are_two_who_may_be_one() -> None:
    patients, groups = same_patients(_ids("0012", "12", "13"))
    assert len(set(patients)) == 3
    assert groups[0] == groups[1] is not None
    assert groups[2] is None


def test_ids_that_differ_in_signs_are_two_who_may_be_one() -> None:
    patients, groups = same_patients(_ids("MB-10001", "MB10001", "mb 1 0001", "MB-10002"))
    assert len(set(patients)) == 4
    assert groups[0] == groups[1] == groups[2] is not None
    assert groups[3] is None
    # numbers of two sites
    assert same_patients(_ids("1-12", "11-2"))[1] == [None, None]


def test_nobody_is_no_patient() -> None:
    assert same_patients(_sources(("UNKNOWN", {}), ("0000", {}), (None, {}))) == (
        [None] * 3,
        [None] * 3,
    )


def test_patients_who_may_be_one_stay_in_one_split() -> None:
    rows = [
        {
            "source_id": f"s{n}",
            "image_id": f"i{n}",
            "frame": 0,
            "status": "accepted",
            "patient_id": f"p{n}",
            "patient_group": f"g{n // 2}",
        }
        for n in range(40)
    ]
    images = from_rows(IMAGES, rows)
    images["split"] = assign_splits(images, SplitConfig())
    assert images.groupby("patient_group")["split"].nunique().max() == 1
    assert images["split"].nunique() == 3
    assert possible_counts(images) == {"frames": 40, "patients": 40}
    check_splits(images)
    images["split"] = ["train", "test"] * 20
    with pytest.raises(SonoError, match="20 groups of patients who may be one"):
        check_splits(images)


def test_one_name_and_birth_date_under_two_ids_may_be_one_patient() -> None:
    anna = {"PatientName": "DOE^ANNA", "PatientBirthDate": "19900101"}
    again = anna | {"PatientName": "Anna Doe"}
    other = anna | {"PatientBirthDate": "19900102"}
    short = anna | {"PatientName": "DOE"}
    patients, groups = same_patients(
        _sources(("W1", anna), ("X9", again), ("W2", other), ("W3", short))
    )
    assert len(set(patients)) == 4
    assert groups[0] == groups[1] is not None
    assert groups[2:] == [None, None]


def test_a_name_and_birth_date_of_many_ids_is_nobodys() -> None:
    same = {"PatientName": "FETAL^SCAN", "PatientBirthDate": "19800101"}
    assert same_patients(_sources(*((f"W{number}", same) for number in range(5))))[1] == [None] * 5
