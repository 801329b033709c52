"""Ids of patients are private in their own form, in pages and in tables.

Numbers that only look like an id are not.
"""

import json
from functools import cache
from pathlib import Path

import pytest
from gate_studies import make_study, person

from sono.curation.clinical.vocabulary import PROSE, VOCABULARY
from sono.curation.core.atomic import write_text
from sono.curation.core.errors import PrivacyError
from sono.curation.privacy.gate import check_privacy, text_search
from sono.curation.privacy.private_strings import PrivateStrings, collect

PATIENTS = ("88-77-66", "12/3456", "A-1234", "55 4433", "77#6655")


@cache
def known(*patients: str) -> PrivateStrings:
    return collect(patients, VOCABULARY, prose=PROSE, patients=patients)


@pytest.mark.parametrize(
    "text",
    [
        "88-77-66",
        "88/77/66",
        "88_77_66",
        "patient 88-77-66 has 12 frames",
        "7 88-77-66 12",
        "raw/88-77-66/0001.png",
        "88-77-66_0001.png",
        "88-77-66-01",
        '{"id":"88-77-66"}',
        "<td>88-77-66</td>",
        "８８-77-66",
        "88.77.66",
        "12/3456",
        "12-3456",
        "[12/3456]",
        "A-1234",
        "seen: A-1234.",
        "55 4433",
        "55-4433",
        "77#6655",
        "77-6655",
    ],
)
@pytest.mark.parametrize("page", [True, False])
def test_an_id_is_found_in_its_own_form_everywhere(text: str, page: bool) -> None:
    private = known(*PATIENTS)
    assert private.found_in(text, page) & private.ids


@pytest.mark.parametrize(
    "text", ["88 77 66", "887766", "12 3456", "123456", "12  3456", "12 - 3456", "A 1234"]
)
def test_numbers_of_a_page_without_signs_between_are_no_short_id(text: str) -> None:
    assert known(*PATIENTS).found_in(text, page=True) == set()
    assert "  " in text or known(*PATIENTS).found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "88, 77, 66",
        "[88,77,66]",
        "88\n77\n66",
        "188-77-66",
        "88-77-661",
        "88 and 77-66",
        "88.77",
        "0.887766",
        "ba-1234",
        "A, 1234",
        "A: 1234",
        "A-12345",
        "12.3456",
        "12, 3456",
        "3456/12",
        "12.3456.7",
        "2124-01-31",
    ],
)
@pytest.mark.parametrize("page", [True, False])
def test_other_numbers_are_no_patients_id(text: str, page: bool) -> None:
    assert known(*PATIENTS, "212401", "12-34", "Patient 17", "00012").found_in(text, page) == set()


@pytest.mark.parametrize(
    "text",
    [
        "10.99887",
        "x=3.99887;",
        "[0.4711223, 12.4711223e-05]",
        "-0.99887",
        "22.4711223 mm",
        "loss 1234.19840321.",
        "lr_10.99887",
        "10.99887mm",
        "(1.4711223)",
    ],
)
@pytest.mark.parametrize("page", [True, False])
def test_the_fraction_of_a_decimal_number_is_no_id(text: str, page: bool) -> None:
    assert collect(["ACC-0099887", "19840321", "4711223"], VOCABULARY).found_in(text, page) == set()


@pytest.mark.parametrize(
    "text",
    [
        "4711223.0",
        "case.4711223",
        "1.2.4711223",
        "12.4711223.png",
        "20240131.4711223",
        "no.4711223",
        "v.4711223",
    ],
)
def test_a_point_hides_no_id(text: str) -> None:
    assert collect(["4711223"], VOCABULARY).found_in(text) == {"4711223"}


@pytest.mark.parametrize(
    "column", [{"raw_patient": "88-77-66"}, {"file_patient": "88-77-66"},
               {"header_facts": json.dumps({"OtherPatientIDs": "X\\88-77-66"})},
               {"header_facts": json.dumps({"OtherIDs": "1\\88-77-66"})},
               {"header_facts": json.dumps({"AccessionNumber": "88-77-66"})}],
)  # fmt: skip
def test_every_known_id_of_a_patient_counts(tmp_path: Path, column: dict[str, str]) -> None:
    study = make_study(tmp_path / "study", **column)
    assert check_privacy(study)
    (study.root / "runs" / "a").mkdir(parents=True)
    for place in ("report.html", "runs/a/run.json", "x.log", "note.md", "note.txt"):
        write_text(study.root / place, "asked about 88-77-66, twice")
        with pytest.raises(PrivacyError, match=place):
            check_privacy(study)
        (study.root / place).unlink()


@pytest.mark.parametrize(
    "facts", [{"StudyID": "STUDY1"}, {"OtherIDs": "Twins2\\1\\EXAM23"}, {"StudyID": "00-000"}]
)
def test_what_is_no_id_is_none(tmp_path: Path, facts: dict[str, str]) -> None:
    study = make_study(tmp_path / "study", raw_patient="000-000", header_facts=json.dumps(facts))
    write_text(study.root / "note.md", "000-000 00-000 study1 twins2 exam23 study_1")
    assert check_privacy(study)


def test_a_note_is_no_page_of_numbers(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", private=["88-77-66"], raw_patient="88-77-66")
    for place in ("report.html", "counts.json", "table.csv"):
        write_text(study.root / place, "887766")
    assert check_privacy(study)
    for place in ("note.txt", "note.md", "note"):
        write_text(study.root / place, "asked about patient 887766")
        with pytest.raises(PrivacyError, match=place):
            check_privacy(study)
        (study.root / place).unlink()


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("frames/21/21cf57576bf98c59-acb12400.png", True),  # digests, and an id by chance
        ("frames/21/21cf57576bf98c59-acb12400.txt", False),
        ("frames/22/21cf57576bf98c59-acb12400.png", False),
        ("notes/21/21cf57576bf98c59-acb12400.png", False),
        ("frames/21/21cf57576bf98c59-acb12400-012400.png", False),
        ("frames/21/012400.png", False),
        (f"packed/embeddings/{'a' * 10}012400/{'b' * 32}.safetensors", True),
        (f"packed/embeddings/{'a' * 16}/{'b' * 26}012400.safetensors", True),
        (f"packed/embeddings/{'a' * 16}/012400.safetensors", False),
    ],
)
def test_digits_of_an_id_in_the_digests_of_a_stored_frame_are_chance(
    tmp_path: Path, name: str, free: bool
) -> None:
    study = make_study(tmp_path / "study", path=b"/raw/012400.png")
    (study.root / name).parent.mkdir(parents=True)
    (study.root / name).write_bytes(b"")
    if free:
        write_text(study.root / "list.json", json.dumps({"file": name}))
        check_privacy(study)
        return
    with pytest.raises(PrivacyError, match="the name of"):
        check_privacy(study)


def test_a_digest_is_searched_as_a_whole(tmp_path: Path) -> None:
    study = make_study(tmp_path, **person("Fadead"), raw_patient="3fa9c2d17be04561")
    search = text_search(study)
    assert search is not None
    place, column = Path("images.parquet"), "column 'image_id'"
    digest, holds_name = "3fa9c2d17be04561", "fadead9e0b2a3f48"
    found = search.found_at(place, column, f"{holds_name}\n{digest}")
    assert digest in found and "fadead" not in found
    assert search.found_at(place, column, "fadead") == {"fadead"}
