"""The plane table and what users add to it."""

import json
import os
from pathlib import Path

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.planes import OTHER, PLANES, REGIONS, PlaneTable
from sono.curation.core.workspace import Workspace

LABELS = {
    "Fetal abdomen": "abdominal_circumference", "Fetal femur": "femur",
    "Fetal thorax": "four_chamber", "Trans-thalamic": "transthalamic",
    "Trans-ventricular": "transventricular", "Trans-cerebellum": "transcerebellar",
    "Other": OTHER, "Maternal cervix": OTHER,  # FETAL_PLANES_DB
    # FetalP6
    "AC": "abdominal_circumference", "Cereb": "transcerebellar",
    "Earlyhead": "early_pregnancy_head", "Foream": "forearm", "3VT": "three_vessel_trachea",
    "Four-chamber-H": "four_chamber_h", "NT": "nuchal_translucency", "four_chamber": "four_chamber",
    "FEMUR VIEW": "femur", "fetal femur plane": "femur", "Fe\u0301mur": "femur",
}  # fmt: skip


def _load(tmp_path: Path, text: str) -> PlaneTable:
    file = tmp_path / "planes.toml"
    file.write_text(text, encoding="utf-8")
    return PlaneTable.load(file)


def test_there_are_24_planes_with_a_region_and_structures() -> None:
    assert len({plane.id for plane in PLANES}) == len({plane.name for plane in PLANES}) == 24
    assert all(plane.region in REGIONS and plane.structures for plane in PLANES)


def test_the_regions_hold_as_many_planes_as_the_figure_colors_but_for_the_crown_rump_length() -> (
    None
):
    counts = {region: sum(plane.region == region for plane in PLANES) for region in REGIONS}
    assert counts == {
        "head": 5,
        "face": 2,
        "heart": 7,
        "abdomen": 5,
        "upper limb": 2,
        "lower limb": 2,
        "whole fetus": 1,
    }


@pytest.mark.parametrize(("label", "plane"), LABELS.items())
def test_labels_of_known_data_sets_are_understood(label: str, plane: str) -> None:
    assert PlaneTable().find(label) == plane


def test_no_label_names_two_planes() -> None:
    table = PlaneTable()
    assert all(table.find(label) == plane for label, plane in table.spellings)


def test_an_unknown_label_suggests_the_nearest() -> None:
    with pytest.raises(SonoError, match=r"^unknown plane 'femor'; did you mean 'femur'\?$"):
        PlaneTable().find("femor")


@pytest.mark.parametrize(
    "label", ["", "---", "fetal view", "Fetal brain", "x" * 10**6, "\x1b[31mred"]
)
def test_a_label_that_says_nothing_is_unknown_in_one_short_line(label: str) -> None:
    with pytest.raises(SonoError, match="unknown plane") as caught:
        PlaneTable().find(label)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "label",
    ["femur?", "femur (?)", "- femur", "femur -", "femur: -", "femur +/-", "!femur", "±femur"],
)
def test_a_label_with_a_sign_of_doubt_or_denial_is_unknown(label: str) -> None:
    with pytest.raises(SonoError, match="unknown plane"):
        PlaneTable().find(label)


def test_a_study_adds_planes_aliases_and_labels_of_none(tmp_path: Path) -> None:
    table = _load(
        tmp_path,
        '[femur]\naliases = ["cuisse", "大腿骨"]\nstructures = ["knee"]\n'
        '[foot]\nregion = "lower limb"\nstructures = ["sole"]\n[other]\naliases = ["Sonstiges"]',
    )
    assert [table.find(label) for label in ("Cuisse", "大腿骨", "foot", "sonstiges")] == [
        "femur",
        "femur",
        "foot",
        OTHER,
    ]
    assert table.by_id["femur"].structures == ("femur", "knee")
    assert {"knee", "sole"} <= set(table.structures)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[femur", "not valid TOML"),
        ('[femur]\ncolor = "red"', r"\[femur\] color: extra"),
        ('[foot]\nregion = "limb"', "unknown region 'limb'"),
        ("[foot]", "unknown region ''"),
        ('["My Plane"]\nregion = "head"', "is not a plane id"),
        ('[femur]\naliases = ["Leg"]', r"the label 'leg' names both \[femur\] and \[leg\]"),
        ('[femur]\naliases = ["--"]', "has no letter or digit"),
        ("femur = 3", r"\[femur\]"),
        ('[foot]\nregion = "lower limb"\noutline = "femor"', "'femor' cannot be outlined; did you"),
    ],
)
def test_a_wrong_planes_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SonoError, match=message):
        _load(tmp_path, text)


@pytest.mark.parametrize(
    "name", ["", " ", "two\nlines", "tab\tbed", "zero\u200bwidth", " padded ", "x" * 61]
)
@pytest.mark.parametrize("key", ["structures", "aliases", "name"])
def test_a_name_is_one_printed_line(tmp_path: Path, key: str, name: str) -> None:
    value = json.dumps(name) if key == "name" else json.dumps(["femur", name])
    (tmp_path / "planes.toml").write_text(f"[femur]\n{key} = {value}\n")
    with pytest.raises(
        SonoError, match=rf"planes\.toml: \[femur\] {key}: .* is not one line"
    ) as refused:
        PlaneTable.load(tmp_path / "planes.toml")
    assert len(str(refused.value).splitlines()) == 1


def test_a_planes_file_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "planes.toml")
    with pytest.raises(SonoError, match=r"planes\.toml: a pipe"):
        PlaneTable.load(tmp_path / "planes.toml")
    with pytest.raises(SonoError, match=r"none\.toml: not a readable planes file"):
        PlaneTable.load(tmp_path / "none.toml")


def test_the_outline_of_a_plane_is_one_of_its_structures(tmp_path: Path) -> None:
    table = _load(tmp_path, '[foot]\nregion = "lower limb"\noutline = "tibia"\n')
    assert table.by_id["foot"].structures == ("tibia",)
    assert table.outlines == PlaneTable().outlines | {"foot": "tibia"}
    assert all(plane.outline in ("", *plane.structures) for plane in table.planes)
    assert len(PlaneTable().outlines) == 9


@pytest.mark.parametrize("label", ["Fetal brain", "Standard view"])
def test_filler_words_suggest_no_plane(label: str) -> None:
    with pytest.raises(SonoError, match="unknown plane") as caught:
        PlaneTable().find(label)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(SonoError, match="did you mean 'femur'"):
        PlaneTable().find("Fetal femor")


def test_labels_of_the_settings_name_planes() -> None:
    labels = {"Kopf quer": "transthalamic", "sonstige": "other"}
    table = PlaneTable().with_labels(labels, Path("sono.toml"))
    assert [table.find(label) for label in ("KOPF-QUER", "Sonstige", "femur")] == [
        "transthalamic",
        "other",
        "femur",
    ]
    with pytest.raises(SonoError, match=r"\[study.planes\] 'Bein' .*'legs'; did you mean 'leg'"):
        PlaneTable().with_labels({"Bein": "legs"}, Path("sono.toml"))
    with pytest.raises(SonoError, match="names both"):
        PlaneTable().with_labels({"femur": "leg"}, Path("sono.toml"))


def test_a_workspace_reads_labels_from_its_settings(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    text = study.config_path.read_text() + '\n[study.planes]\n"Kopf quer" = "transthalamic"\n'
    study.config_path.write_text(text)
    assert study.planes().find("kopf quer") == "transthalamic"
