"""The table of labels: languages, sources, and labels that are never read as a plane."""

import re
from pathlib import Path

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.plane_labels import LABELS, label_form, read_labels
from sono.curation.core.planes import OTHER, PLANES, PlaneTable

TABLE = PlaneTable()
# The 50 codes of hexiao0275/DeepFetal.
# fmt: off
CODES = (
    "3VT_zhao", "4CH_zhao", "AC_zhao", "CNS_zhao", "CRL_zhao", "NT_zhao", "QDFB_zhao", "SXZ_zhao",
    "SSZ_zhao", "3DFace", "3VV", "4CH", "4CH-H", "4CH-lightsplot", "AAV", "ABS", "AC", "Bladder",
    "BPD", "CRL", "CTAR", "Cereb", "Chest-H", "Chest-C", "DDA", "Eye", "FL", "Foot", "Forearm",
    "Four", "Gallbladder", "HL", "HardPalate", "Kidney", "KidneyVessel", "LVOT", "Leg", "Lip",
    "neg", "NT", "PAB", "Palate", "Palm", "RVOT", "SideFace", "SIVCV", "Spine", "SVSK", "Three",
    "VaVp",
)
# fmt: on


def test_every_label_names_a_plane_or_one_outside_and_has_a_source() -> None:
    known = {plane.id for plane in PLANES}
    for label in LABELS.by_form.values():
        assert (label.plane in known) != bool(label.outside), label
        assert label.language and label.source, label
    assert {"English", "Spanish", "French", "German", "Portuguese", "Chinese"} == {
        label.language for label in LABELS.by_form.values()
    }


def test_all_24_planes_have_a_chinese_label() -> None:
    own = {one.plane for one in LABELS.by_form.values() if one.language == "Chinese"} - {""}
    assert own == {plane.id for plane in PLANES}


@pytest.mark.parametrize("code", CODES)
def test_each_code_of_the_published_list_is_known_or_asked_about(code: str) -> None:
    form = label_form(code)
    assert TABLE.get(code) or TABLE.proposal(code) or form in LABELS.ambiguous, code


@pytest.mark.parametrize(
    ("label", "outside"),
    [
        ("Uterine artery", "uterine artery"), ("3VV", "three-vessel"), ("fetal spine", "spine"),
        ("Maternal cervix", "cervix"), ("Lips view", "lips"),
    ],
)  # fmt: skip
def test_a_known_plane_outside_the_24_is_none_of_them_and_named(label: str, outside: str) -> None:
    assert (TABLE.find(label), TABLE.outside(label)) == (OTHER, outside)


def test_a_label_of_a_plane_is_not_outside() -> None:
    assert TABLE.outside("femur") is None
    assert TABLE.outside("Other") is None
    assert TABLE.outside("femor") is None


@pytest.mark.parametrize(
    ("label", "proposed"),
    [
        ("Vierkammerblick", "proposed: four_chamber (German, not reviewed)"),
        ("四腔心切面（横）", "proposed: four_chamber_h (Chinese, not reviewed)"),
        ("clarté nucale", "proposed: nuchal_translucency (French, not reviewed)"),
        ("CTAR", "proposed: other (four-chamber, cardiothoracic ratio, not reviewed)"),
        ("Kidney", "it may mean: sagittal kidney or both kidneys"),
        ("BPD", "it may mean: transthalamic or transventricular"),
    ],
)
def test_a_label_that_nobody_reviewed_or_with_two_meanings_is_never_read(
    label: str, proposed: str
) -> None:
    assert TABLE.get(label) is None
    with pytest.raises(SonoError, match=re.escape(proposed)):
        TABLE.find(label)


def test_only_reviewed_labels_are_read() -> None:
    for label in LABELS.by_form.values():
        found = TABLE.get(label.text)
        assert found == ((label.plane or OTHER) if label.reviewed else None) or (
            not label.reviewed and TABLE.by_id.get(found or "") is not None
        ), label
        if not label.reviewed and found is not None:  # a name of the plane in other words
            assert found == label.plane


def test_a_study_decides_on_labels_that_the_table_knows() -> None:
    labels = {"Vierkammerblick": "four_chamber", "spine": "femur", "Kidney": "both_kidneys"}
    own = TABLE.with_labels(labels, Path("sono.toml"))
    assert {label: own.find(label) for label in labels} == labels
    assert own.outside("spine") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[a]\nlanguage = "German"\nsource = "x"\nreviewed = true\n'
            'planes.leg = ["Bein"]\nplanes.femur = ["BEIN"]\n',
            "the label 'BEIN' means 'femur', and also 'leg'",
        ),
        (
            '[a]\nlanguage = "German"\nsource = "x"\nreviewed = false\n'
            'planes.leg = ["Bein"]\n[ambiguous]\n"bein" = ["leg", "femur"]\n',
            "the label 'Bein' means 'leg', and also 'leg, femur'",
        ),
    ],
)
def test_a_label_with_two_meanings_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "labels.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SonoError, match=re.escape(message)):
        read_labels(file)


def test_the_transverse_four_chamber_has_its_former_name_as_a_label() -> None:
    assert TABLE.by_id["four_chamber_h"].name == "transverse four-chamber"
    assert TABLE.find("horizontal four-chamber") == "four_chamber_h"


def test_planes_have_weeks_and_sides_that_make_sense() -> None:
    for plane in PLANES:
        assert plane.weeks and 4 <= plane.weeks[0] < plane.weeks[1] <= 42, plane.id
        assert plane.sides in ("", "one", "both")
        assert not plane.guideline or re.fullmatch(r"ISUOG .*, 20\d\d", plane.guideline)
    assert {plane.id for plane in PLANES if plane.sides == "both"} == {"eye", "both_kidneys"}
