"""Spellings of one center are one center.

This holds for the ids of patients, for the tables, and for held-out centers.
"""

import json
from pathlib import Path

import pandas as pd
import pytest
from phantom_frames import write_frames

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, Row, from_rows
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import training_rows
from sono.curation.qc import QcOptions, run_qc
from sono.curation.records.centers import (
    center_remarks,
    centers_called,
    like_centers,
    unify_centers,
)
from sono.curation.records.namespaces import namespaces
from sono.curation.records.patients import same_patients

JANE = {"PatientName": "DOE^JANE", "PatientBirthDate": "19900102"}


def _rows(*centers: str | None, given: bool = False) -> list[Row]:
    return [{"center": center, "namespace": center if given else None} for center in centers]


def _images(*centers: str | None) -> pd.DataFrame:
    rows = [
        {
            "source_id": f"s{number}",
            "image_id": f"i{number}",
            "frame": 0,
            "status": "accepted",
            "center": center,
        }
        for number, center in enumerate(centers)
    ]
    return from_rows(IMAGES, rows)


@pytest.mark.parametrize("other", ["north", " NORTH ", "Ｎｏｒｔｈ", "Nörth"])
def test_the_spelling_that_came_first_is_kept(other: str) -> None:
    before, rows = _rows("North", given=True), _rows(other, other, given=True)
    assert unify_centers(before, rows) == {other: "North"}
    assert {row["namespace"] for row in rows} == {row["center"] for row in rows} == {"North"}


def test_a_center_that_was_given_keeps_its_spelling_and_a_table_its_most_frequent() -> None:
    before, rows = (
        _rows("NORTH", "South"),
        [*_rows("north", given=True), *_rows("SOUTH", "SOUTH", "EAST", "East", "East")],
    )
    assert unify_centers(before, rows) == {"NORTH": "north", "SOUTH": "South", "EAST": "East"}
    assert [row["center"] for row in (*before, *rows)] == [
        "north",
        "South",
        "north",
        "South",
        "South",
        *["East"] * 3,
    ]


def test_other_names_and_words_are_not_replaced() -> None:
    assert unify_centers([], _rows("North", "North Hospital", "A+", "A-", None, "北", "南")) == {}


def test_qc_says_what_was_taken_as_one_and_what_may_be() -> None:
    one, may_be = center_remarks({"NORTH": "North"}, ["North", "North Hospital", "South"])
    assert "'NORTH' as 'North'" in one
    assert "'North' and 'North Hospital'" in may_be and "South" not in may_be
    assert center_remarks({}, ["North", "South"]) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("North", ["North"]),
        ("NORTH", ["North"]),
        ("north hospital", ["North"]),
        ("East", []),
        ("A", ["A Clinic", "A Hospital"]),
        ("a clinic", ["A Clinic"]),
    ],
)
def test_a_center_is_found_by_each_of_its_spellings(name: str, found: list[str]) -> None:
    assert centers_called(name, ["North", "South", "A Clinic", "A Hospital"]) == found


def test_a_center_held_out_takes_along_what_may_be_the_same() -> None:
    images = _images("North", "NORTH", "north hospital", "North East", "South", None)
    for name in ("North", "nörth", "North"):
        assert training_rows(images, [name])["center"].tolist() == ["South"]
    assert like_centers(["South"], ["North", "SOUTH"]) == ["SOUTH"]
    with pytest.raises(SonoError, match="unknown center 'West'"):
        training_rows(images, ["West"])


def _patients(
    *files: tuple[str | None, str, dict[str, str]], site: str | None = None
) -> list[bool]:
    """Whether the files of (--center, number, header) share a group with the first of them."""
    cells = [
        (space, raw, site if space is None else None, json.dumps(header))
        for space, raw, header in files
    ]
    sources = pd.DataFrame(cells, columns=["namespace", "raw_patient", "site", "header_facts"])
    patients, groups = same_patients(sources.assign(namespace=namespaces(sources)))
    assert len(set(patients)) == len(files)
    return [group is not None and group == groups[0] for group in groups]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (JANE, JANE),
        ({"PatientName": "DOE^JANE"}, {"PatientName": "Doe^Jane^^Dr"}),
        (
            {"PatientBirthDate": "19900102", "PatientName": "DOE^JANE"},
            {"PatientBirthDate": "19900102"},
        ),
        ({"InstitutionName": "St. Mary"}, {"InstitutionName": "ST MARY HOSPITAL"}),
        ({"InstitutionName": "North Hospital"}, {}),
    ],
)
def test_one_number_of_two_centers_may_be_one_patient_by_name_birth_date_or_hospital(
    one: dict[str, str], other: dict[str, str]
) -> None:
    born_later = other | {"PatientBirthDate": "19910203"}
    assert _patients((None, "W1", one), ("North", "w1", other), ("North", "W2", born_later)) == [
        True,
        True,
        False,
    ]


def test_a_number_of_two_given_centers_may_be_one_patient_where_their_names_may_be_one() -> None:
    assert _patients(("North", "W1", {}), ("North Hospital", "W1", {}), ("South", "W1", {})) == [
        True,
        True,
        False,
    ]


def test_the_hospital_of_the_table_may_be_the_given_center() -> None:
    assert _patients((None, "W1", {}), ("North", "W1", {}), site="NORTH") == [True, True]


@pytest.mark.parametrize("other", [{}, {"PatientName": "ROE^MARY", "PatientBirthDate": "19910304"}])
def test_a_number_alone_says_nothing_across_centers(other: dict[str, str]) -> None:
    assert _patients(("A", "W1", JANE), ("B", "W1", other)) == [False, False]


def test_a_hospital_of_rows_is_the_given_center_of_its_spelling() -> None:
    cells = [("north", "77", None, "{}"), (None, "77", "North", "{}"), (None, "77", "South", "{}")]
    sources = pd.DataFrame(cells, columns=["namespace", "raw_patient", "site", "header_facts"])
    assert namespaces(sources).tolist() == ["north", "north", "South"]


def _grade(study: Workspace, folder: str, center: str | None) -> list[str]:
    parent = study.root.parent
    records = parent / f"{folder}.csv"
    options = QcOptions(parent / folder, records if records.exists() else None, center)
    return [
        remark for remark in run_qc(study, options, Engine(jobs=1)).remarks if "center" in remark
    ]


@pytest.mark.parametrize(("first", "second"), [("North", "NORTH"), (None, "north")])
def test_one_patient_of_two_runs_with_one_center_is_one_patient(
    tmp_path: Path, first: str | None, second: str
) -> None:
    """The second folder has the center of the first, spelled differently."""
    for seed, folder in enumerate(("one", "two")):
        write_frames(tmp_path / folder, range(seed, seed + 1))
    (tmp_path / "one.csv").write_text("file,patient,center\nIM_0.png,W1,North")
    (tmp_path / "two.csv").write_text("file,patient\nIM_1.png,W1")
    study = Workspace.create(tmp_path / "study")
    assert _grade(study, "one", first) == []
    before = study.accepted_images()["patient_id"].tolist()
    said = _grade(study, "two", second)
    images = study.accepted_images()
    assert any(f"'{second}' as 'North'" in remark for remark in said)
    assert images["center"].tolist() == ["North", "North"] and set(before) <= set(
        images["patient_id"]
    )
    assert images["patient_id" if first else "patient_group"].nunique() == 1
    assert images["split"].nunique() == 1
    # what was stored has one
    assert not any("spellings" in remark for remark in _grade(study, "one", None))
    assert study.accepted_images()["center"].tolist() == ["North", "North"]
