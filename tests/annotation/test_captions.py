import re
from pathlib import Path

import pandas as pd
import pytest
from caption_studies import image, mask, study

from sono.annotation.caption_facts import Facts, caption_values, english_list, ga_in_words
from sono.annotation.caption_writer import CaptionWriter
from sono.annotation.captions import RefusedCaption, build_captions
from sono.annotation.lint import FINDINGS, LintRules
from sono.curation.core.column_values import RANGES_MM
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS
from sono.templates.caption_values import BIOMETRY, TEMPLATE_VALUES
from sono.templates.loader import load_templates

TABLE = PlaneTable()


def own_templates(folder: Path, text: str, region: str = "{{ structure }}") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "global.j2").write_text(text)
    (folder / "region.j2").write_text(region)
    return str(folder)


def writer(name: str = "standard", max_tokens: int = 77) -> CaptionWriter:
    return CaptionWriter(
        load_templates(name),
        LintRules(lambda text: len(text.split()) + 2, TABLE, max_tokens=max_tokens),
    )


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (None, None),
        (154, "22 weeks"),
        (155, "22 weeks and 1 day"),
        (157, "22 weeks and 3 days"),
        (7, "1 week"),
        (8, "1 week and 1 day"),
    ],
)
def test_ages_in_words(days: int | None, words: str | None) -> None:
    assert ga_in_words(days) == words


def test_english_lists() -> None:
    assert [english_list(words) for words in ((), ("a",), ("a", "b"), ("a", "b", "c"))] == [
        None,
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.parametrize(
    ("facts", "tier"),
    [
        (Facts("femur", ga_days=150, structures=("femur",)), "full"),
        (Facts("femur", ga_days=150), "partial"),
        (Facts("femur", structures=("femur",)), "partial"),
        (Facts("femur"), "label"),
        (Facts("other", ga_days=150), "label"),
        (Facts(), "label"),
    ],
)
def test_the_tier_says_how_much_the_text_holds(facts: Facts, tier: str) -> None:
    assert writer().write(facts).tier == tier
    assert caption_values(facts, TABLE)["tier"] == tier


def test_the_tier_is_of_the_text_not_of_the_record() -> None:
    caption = writer("short").write(Facts("femur", ga_days=150, structures=("femur",)))
    assert (caption.text, caption.tier, caption.fields) == (
        "fetal ultrasound, femur plane",
        "label",
        ("plane",),
    )


def test_fields_are_those_that_the_text_uses() -> None:
    caption = writer().write(Facts("early_pregnancy_head", "head", 80, ("fetal head",)))
    assert caption.fields == ("ga", "plane", "structures")


@pytest.mark.parametrize("plane", ["other", None])
def test_a_frame_of_no_plane_is_never_captioned_as_one(plane: str | None) -> None:
    assert writer().write(Facts(plane, "head")).text == "A fetal ultrasound image of the head."
    assert writer().write(Facts(plane)).text == "A fetal ultrasound image."


def test_a_plane_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(SonoError, match=r"plane 'femor'.*did you mean 'femur'"):
        writer().write(Facts("femor"))


def test_an_overlong_caption_drops_structures_from_the_end() -> None:
    chambers = TABLE.by_id["four_chamber"].structures
    full, short = writer().write(Facts("four_chamber", structures=chambers)), writer(max_tokens=19)
    caption = short.write(Facts("four_chamber", structures=chambers))
    assert not full.shortened and full.text.endswith(
        "interventricular septum and descending aorta."
    )
    assert caption.shortened and caption.findings == ()
    assert caption.text.endswith("showing the left ventricle, right ventricle and left atrium.")


@pytest.mark.parametrize(
    ("plane", "told"),
    [
        ("femur", "of the femur plane; finding: short femur; study finding: growth restriction."),
        (
            "transventricular",
            "plane; finding: choroid plexus cyst; study finding: growth restriction.",
        ),
        ("gallbladder", "of the gallbladder plane; study finding: growth restriction."),
        (None, "image; study finding: short femur, choroid plexus cyst and growth restriction."),
    ],
)
def test_a_finding_is_named_only_where_it_can_be_seen(plane: str | None, told: str) -> None:
    caption = writer().write(
        Facts(plane, findings=("short_femur", "choroid plexus cyst", "growth restriction"))
    )
    assert caption.text.endswith(told)
    assert caption.findings == ()


def test_a_study_places_its_own_findings(tmp_path: Path) -> None:
    rows = [
        image(plane, plane=plane, findings=["situs inversus"])
        for plane in ("four_chamber", "femur")
    ]
    workspace = study(tmp_path, rows, [])
    build_captions(workspace)
    assert all(workspace.captions()["text"].str.endswith("; study finding: situs inversus."))
    settings = workspace.config_path.read_text()
    workspace.config_path.write_text(
        settings + '[captions.finding_places]\n"situs inversus" = ["heart", "stomach"]\n'
    )
    build_captions(workspace)
    table = workspace.captions().set_index("image_id")["text"]
    assert table["four_chamber"].endswith("plane; finding: situs inversus.")
    assert "situs" not in table["femur"]
    workspace.config_path.write_text(
        settings + '[captions.finding_places]\n"situs inversus" = ["stomac"]\n'
    )
    with pytest.raises(SonoError, match="unknown place 'stomac'; did you mean 'stomach'"):
        build_captions(workspace)


def test_equal_facts_are_rendered_once_and_unused_ones_do_not_count() -> None:
    weekly = writer("sonoclip")
    assert weekly.write(Facts("femur", ga_days=154)) is weekly.write(Facts("femur", ga_days=160))
    daily = writer()
    assert (
        daily.write(Facts("femur", ga_days=154)).text
        != daily.write(Facts("femur", ga_days=160)).text
    )


def test_one_global_caption_a_frame_and_one_region_caption_a_usable_mask(tmp_path: Path) -> None:
    images = [
        image("a", plane="four_chamber", ga_days=157, structures=["right atrium"]),
        image("b", plane="femur", structures=["femur"]),
        image("c", plane="femur", status="rejected", reasons=["blurred"]),
    ]
    masks = [
        mask("a", "left atrium"), mask("a", "left ventricle", "proposed"),
        mask("a", "right atrium", "rejected"),
        mask("c", "femur"),
    ]  # fmt: skip
    workspace = study(tmp_path, images, masks)
    summary = build_captions(workspace)
    table = workspace.captions()
    assert list(zip(table["image_id"], table["level"], strict=True)) == [
        ("a", "global"), ("a", "region"), ("a", "region"), ("b", "global"),
    ]  # fmt: skip
    assert table["text"].iloc[0].endswith("showing the left ventricle and left atrium.")
    assert table["text"].iloc[3].endswith("showing the femur.")
    assert summary.counts["global"] == {"full": 1, "partial": 1, "label": 0}
    assert summary.refused == 0


def test_a_caption_with_a_finding_is_refused_and_counted(tmp_path: Path) -> None:
    workspace = study(
        tmp_path, [image("a", plane="femur"), image("b", plane="femur")], [mask("b", "cerebellum")]
    )
    summary = build_captions(workspace, "sonoclip")
    assert workspace.captions()["image_id"].tolist() == ["a"]
    assert (summary.refused, summary.findings) == (2, {"wrong_structure": 2})
    mask_id = workspace.masks()["mask_id"].iloc[0]
    assert "sonoclip/global.j2:3: wrong_structure, a structure of another" in summary.examples[0]
    assert "cerebellum" in summary.examples[0]
    assert summary.examples[0].endswith(f"' of frame b, frame b mask {mask_id}")
    assert summary.finding_means == {"wrong_structure": FINDINGS["wrong_structure"]}
    assert summary.refused_captions == (
        RefusedCaption("b", None, ("wrong_structure",)),
        RefusedCaption("b", mask_id, ("wrong_structure",)),
    )


def test_many_refused_captions_are_named_by_the_first_and_all_in_the_list(tmp_path: Path) -> None:
    frames = [image(name, plane="femur") for name in "abcdefg"]
    workspace = study(tmp_path, frames, [mask(name, "cerebellum") for name in "abcdef"])
    summary = build_captions(workspace, "sonoclip")
    assert summary.refused == 12 and len(summary.refused_captions) == 12
    assert " of frame a, frame a mask " in summary.examples[0]
    assert summary.examples[0].endswith(" and 7 more")
    assert "--json" in str(summary.table()["refused_captions"])


def test_a_template_that_names_the_center_is_caught(tmp_path: Path) -> None:
    own = own_templates(tmp_path / "mine", "{{ plane }} plane at St. Anna")
    with pytest.raises(
        SonoError, match=r"every global caption was refused \(banned 1\), so nothing was written"
    ):
        build_captions(study(tmp_path, [image("a", plane="femur")], []), own)


@pytest.mark.parametrize(
    ("file", "text", "finding"),
    [
        ("global.j2", "None", "global caption was refused (residue 2)"),
        (
            "global.j2",
            "{% if weeks and not weeks %}x{% endif %}",
            "global caption was refused (empty 2)",
        ),
        ("global.j2", "frame 2024-03-01 of {{ plane }}", "(identifier 2)"),
        (
            "region.j2",
            "{{ structure }} and the cerebellum",
            "region caption was refused (wrong_structure 1)",
        ),
    ],
)
def test_good_captions_are_not_replaced_by_none(
    tmp_path: Path, file: str, text: str, finding: str
) -> None:
    workspace = study(
        tmp_path, [image("a", plane="femur"), image("b", plane="femur")], [mask("a", "femur")]
    )
    build_captions(workspace)
    before = workspace.path(CAPTIONS).read_bytes()
    own = tmp_path / "mine"
    own.mkdir()
    (own / "global.j2").write_text("{{ plane }}")
    (own / "region.j2").write_text("{{ structure }}")
    (own / file).write_text(text)
    with pytest.raises(SonoError, match=re.escape(finding)) as refused:
        build_captions(workspace, str(own))
    assert "captions.parquet stays as it is" in str(refused.value)
    assert workspace.path(CAPTIONS).read_bytes() == before


def test_no_caption_holds_an_id_a_center_or_a_machine(tmp_path: Path) -> None:
    hidden = {
        "patient_id": "p81f3a",
        "study_id": "s77",
        "machine": "Voluson E10",
        "message": "note",
    }
    workspace = study(
        tmp_path, [image("a1b2c3", plane="femur", ga_days=150, **hidden)], [mask("a1b2c3", "femur")]
    )
    for name in ("standard", "sonoclip", "short"):
        build_captions(workspace, name)
        text = " ".join(workspace.captions()["text"])
        assert not any(str(value) in text for value in (*hidden.values(), "St. Anna", "a1b2c3"))


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    workspace = study(
        tmp_path, [image(name, plane="femur") for name in "cab"], [mask("a", "femur")]
    )
    build_captions(workspace)
    first = (workspace.root / "captions.parquet").read_bytes()
    build_captions(workspace)
    assert (workspace.root / "captions.parquet").read_bytes() == first
    assert isinstance(workspace.captions(), pd.DataFrame)


def test_captions_do_not_depend_on_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}" for number in range(9)]
    images = [image(name, plane="femur", ga_days=140 + int(name)) for name in names[::-1]]
    images += [
        image(names[3], plane="femur", source_id="twin"),
        image("99", plane="femur", status="rejected"),
    ]
    masks = [mask(name, "femur") for name in ("05", "00", "08", "02")]
    workspace = study(tmp_path, images, masks)
    tables = []
    for batch in (1 << 16, 4, 1):
        monkeypatch.setattr("sono.annotation.captions.BATCH", batch)
        build_captions(workspace)
        tables.append(workspace.captions())
    assert tables[0]["image_id"].value_counts().to_dict() == {
        name: 1 + (name in ("05", "00", "08", "02")) for name in names
    }
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other)


def test_templates_get_the_values_of_the_documented_examples() -> None:
    facts = Facts(
        plane="transventricular",
        ga_days=157,
        structures=("fetal head", "lateral ventricle"),
        structure="lateral ventricle",
        laterality="left",
        presentation="cephalic",
        findings=("choroid plexus cyst", "growth restriction"),
        biometry=tuple((name, TEMPLATE_VALUES[name].example) for name in BIOMETRY),
    )
    values = caption_values(facts, TABLE)
    assert values == {name: value.example for name, value in TEMPLATE_VALUES.items()}
    assert list(caption_values(Facts(), TABLE)) == list(values)
    assert set(BIOMETRY) == {f"{name}_mm" for name in RANGES_MM if "spacing" not in name}


def test_a_size_of_the_record_is_written_and_counted_as_used(tmp_path: Path) -> None:
    rows = [
        image("a", plane="femur", fl_mm=38.64, hc_mm=201.0, findings=[]),
        image("b", plane="femur"),
    ]
    workspace = study(tmp_path, rows, [])
    text = "{{ plane }}{% if fl_mm %}, length {{ fl_mm | round(1) }} mm{% endif %}"
    build_captions(workspace, own_templates(tmp_path / "mine", text))
    table = workspace.captions().set_index("image_id")
    assert table["text"].to_dict() == {"a": "femur, length 38.6 mm", "b": "femur"}
    assert list(table["fields"]["a"]) == ["fl_mm", "plane"]
    assert list(table["fields"]["b"]) == ["plane"]


def test_a_size_is_used_where_the_number_is_complete(tmp_path: Path) -> None:
    own = own_templates(tmp_path / "mine", "head 12.05 {% if weeks %}{{ nt_mm }}{% endif %}")
    facts = Facts(ga_days=None, biometry=(("nt_mm", 2.05),))
    assert writer(own).write(facts).fields == ()


def test_a_refused_caption_names_the_rule_the_file_and_the_line(tmp_path: Path) -> None:
    workspace = study(
        tmp_path, [image("a", plane="femur", ga_days=154), image("b", plane="femur")], []
    )
    text = "{{ plane }}\n{%- if weeks %},\nseen\nat {{ weeks }} week{% endif %}\n\nwell"
    own = own_templates(tmp_path / "mine", text)
    summary = build_captions(workspace, own)
    assert summary.examples == (
        f"{own}/global.j2:4: ga_grammar, {FINDINGS['ga_grammar']}: 'femur, seen at 22 week well' "
        "of frame a",
    )
    own_templates(tmp_path / "mine", "{{ plane }}\n\n{{ hc_mm }} mm\n\nof {{ plane }}")
    with pytest.raises(SonoError, match=r"mine/global\.j2:3: residue, .*'femur None mm of femur"):
        build_captions(workspace, own)
