"""`sono captions lint` and `preview`: captions of any origin against records, masks and vault."""

import importlib.util
import random
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from studies import fill_vault

from sono.annotation.caption_facts import Facts
from sono.annotation.captioning.lint_report import ERRORS, FIXES, MEANINGS, lint_captions
from sono.annotation.captioning.preview import preview_captions
from sono.annotation.captioning.record_checks import RecordChecks
from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.errors import IssuesError, PrivacyError, SonoError
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows, read_table, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

CHECKS = RecordChecks(PlaneTable(), frozenset(FINDINGS))


def _benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "lint.py"
    spec = importlib.util.spec_from_file_location("benchmark_lint", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()


def test_planted_errors_of_every_kind_are_found_and_no_others() -> None:
    found = BENCHMARK.score(BENCHMARK.plant(760, seed=7))
    assert len(BENCHMARK.KINDS) == 19 and set(found) == {*BENCHMARK.KINDS, ""}
    for kind, (number, recall, precision) in found.items():
        assert number >= 20 and recall >= 0.99 and precision >= 0.99, kind


def test_captions_with_the_facts_of_other_frames_are_found() -> None:
    """The control: what is found depends on the record, not on the text alone."""
    clean = [one for one in BENCHMARK.plant(400, seed=3) if not one.kind]
    facts = [one.facts for one in clean]
    random.Random(0).shuffle(facts)
    judge = BENCHMARK.linter()
    wrong = sum(
        any(code in ERRORS for code in judge.codes(one.text, other, ()))
        for one, other in zip(clean, facts, strict=True)
    )
    assert wrong > 0.85 * len(clean)


@pytest.mark.parametrize(
    ("text", "facts", "codes"),
    [
        ("at 22 weeks and 3 days", Facts(ga_days=157), []),
        ("a 22-week fetus", Facts(ga_days=157), []),
        ("at 22 weeks and 4 days", Facts(ga_days=157), ["wrong_age"]),
        ("at 22+4 weeks", Facts(ga_days=157), ["wrong_age"]),
        ("at 22 weeks", Facts(), ["wrong_age"]),
        *(
            (f"at {age} of gestation", Facts(ga_days=157), ["wrong_age"])
            for age in (
                "22 weeks, 5 days",
                "22 weeks 5 days",
                "22w5d",
                "22 wks 5 d",
                "22+5",
                "23 wk",
                "23 completed weeks",
                "23-week",
                "week 23",
                "22 + 5 weeks",
                "22 Weeks and 5 days",
            )
        ),
        *(
            (f"at {age} of gestation", Facts(ga_days=157), [])
            for age in ("22 weeks, 3 days", "22w3d", "22+3", "22 completed weeks", "22 wks")
        ),
        ("femur length 38.6 mm", Facts(biometry=(("bpd_mm", 54.2), ("fl_mm", 38.6))), []),
        ("FL: 38.6 mm", Facts(biometry=(("bpd_mm", 38.6), ("fl_mm", 54.2))), ["wrong_size"]),
        ("length 39.9 millimeters", Facts(biometry=(("fl_mm", 38.6),)), ["wrong_size"]),
        ("length 4.9 centimetres", Facts(biometry=(("fl_mm", 38.6),)), ["wrong_size"]),
        ("seen bilaterally", Facts(laterality="left"), ["wrong_side"]),
        ("in breech lie", Facts(presentation="cephalic"), ["wrong_presentation"]),
        ("a breech fetus", Facts(), ["wrong_presentation"]),
        ("hydrops is ruled out", Facts(findings=("hydrops",)), ["negation"]),
        ("hydrops isn't seen", Facts(findings=("hydrops",)), ["negation"]),
        ("free of hydrops", Facts(findings=("hydrops",)), ["negation"]),
        ("length 38.6 mm", Facts(biometry=(("fl_mm", 38.64),)), []),
        ("length 3.9 cm", Facts(biometry=(("fl_mm", 38.64),)), []),
        ("length 38.6 cm", Facts(biometry=(("fl_mm", 38.64),)), ["wrong_size"]),
        ("the left ventricle", Facts(), []),
        ("on the left side", Facts(laterality="left"), []),
        ("on the left side", Facts(laterality="right"), ["wrong_side"]),
        ("in breech presentation", Facts(presentation="cephalic"), ["wrong_presentation"]),
        ("the transverse four-chamber plane", Facts("four_chamber_h"), []),
        ("finding: absent nasal bone", Facts(findings=("absent nasal bone",)), []),
        ("finding: hydrops", Facts(), ["wrong_finding"]),
        ("no hydrops", Facts(findings=("hydrops",)), ["negation"]),
        ("the chin", Facts("sideface", structure="forehead"), ["wrong_region"]),
    ],
)
def test_a_text_is_compared_with_its_record(text: str, facts: Facts, codes: list[str]) -> None:
    assert CHECKS.contradictions(text, facts) == codes


@pytest.mark.parametrize(
    ("text", "facts", "masked", "codes"),
    [
        ("showing the femur", Facts("femur"), ("femur",), []),
        ("showing the chin", Facts("sideface"), (), ["unmasked_structure"]),
        ("showing the chin", Facts("sideface", structures=("chin",)), (), []),
        ("showing the chin", Facts("sideface"), ("chin", "forehead"), ["unnamed_mask"]),
        ("facial profile", Facts("sideface"), ("chin",), []),
        # a plane's name may contain that of a structure
        ("showing the Thalami", Facts("transthalamic"), ("thalami",), []),
        (
            "the sagittal kidney plane, showing the kidney and renal pelvis",
            Facts("renal_sagittal"),
            ("kidney", "renal pelvis"),
            [],
        ),
        ("at 30 weeks", Facts("nuchal_translucency", ga_days=210), (), ["unusual_age"]),
        ("at 12 weeks", Facts("nuchal_translucency", ga_days=84), (), []),
    ],
)
def test_masks_and_ages_that_deserve_a_look(
    text: str, facts: Facts, masked: tuple[str, ...], codes: list[str]
) -> None:
    assert CHECKS.remarks(text, facts, masked) == codes


def _study(folder: Path) -> Workspace:
    workspace = Workspace.create(folder / "study")
    rows, masks = [], []
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 15:45] = True
    for number in range(4):
        gray = np.full((40, 60), 90 + number, np.uint8)
        file = frame_file(f"{number:016x}", gray)
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / file).write_bytes(encode_png(gray))
        row = {"image_id": f"{number:016x}", "source_id": f"s{number}", "frame": 0, "center": "A"}
        row |= {"status": "accepted", "height": 40, "width": 60, "file": file, "plane": "femur"}
        rows.append(row | {"ga_days": 150 + number})
        masks.append(mask_row(row, mask, "femur", "manual", state="accepted"))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    workspace.write(MASKS, mask_table(masks))
    fill_vault(workspace)
    build_captions(workspace)
    return workspace


def _change(workspace: Workspace, row: int, **values: object) -> None:
    table = workspace.read(CAPTIONS)
    for name, value in values.items():
        table.at[row, name] = value
    workspace.write(CAPTIONS, table)


def test_a_study_without_faults_is_clean_and_its_captions_are_counted(tmp_path: Path) -> None:
    report = lint_captions(_study(tmp_path))
    assert (report.captions, report.errors, report.remarks) == (8, 0, 0)
    assert [vars(one) for one in report.diversity] == [
        {"plane": "femur", "captions": 4, "distinct": 4, "most_frequent": 0.25}
    ]
    assert sum(report.tokens.values()) == 8
    report.refuse_findings()


def test_a_caption_corrected_by_hand_is_checked_with_its_row_and_a_fix(tmp_path: Path) -> None:
    workspace = _study(tmp_path)
    text = "A fetal ultrasound image of the femur plane at 30 weeks, showing the the femur."
    _change(workspace, 0, text=text, state="corrected", reviewer="KM")
    report = lint_captions(workspace)
    assert report.counts == {"doubled_word": 1, "wrong_age": 1, "stale_tokens": 1}
    assert (report.errors, report.rows[0].text) == (1, text)
    assert report.fixes["wrong_age"] == FIXES["wrong_age"]
    with pytest.raises(IssuesError, match="1 caption has an error"):
        report.refuse_findings()
    console = Console(width=200, record=True, file=StringIO())
    console.print(report)
    shown = console.export_text()
    assert f"frame {0:016x}: '{text}'" in shown and FIXES["doubled_word"] in shown


def test_captions_of_lost_masks_and_repeated_ones_are_found(tmp_path: Path) -> None:
    workspace = _study(tmp_path)
    masks = workspace.masks()
    masks.loc[0, "state"] = "rejected"
    workspace.write(MASKS, masks)
    table = workspace.read(CAPTIONS)
    again = table[table["level"] == "global"].iloc[1:2].assign(template="short-1")
    workspace.write(CAPTIONS, pd.concat([table, again], ignore_index=True))
    report = lint_captions(workspace)
    lost = [row for row in report.rows if "orphan" in row.codes]
    assert [row.mask_id for row in lost] == [masks["mask_id"].iloc[0]]
    assert report.counts == {"orphan": 1, "duplicate": 1}


def test_a_name_of_the_vault_in_a_caption_is_found_and_never_leaves(tmp_path: Path) -> None:
    workspace = _study(tmp_path)
    sources = read_table(workspace.sources_path, SOURCES)
    sources["persons"] = [["Lindqvist"]] * len(sources)
    sources["private"] = [["Lindqvist"]] * len(sources)
    write_table(workspace.sources_path, sources, SOURCES, mode=0o600)
    assert lint_captions(workspace).counts == {}
    page = tmp_path / "captions.html"
    preview_captions(workspace, page=page)
    page.unlink()
    text = "A fetal ultrasound image of the femur plane of Lindqvist, showing the femur."
    _change(workspace, 0, text=text)
    assert lint_captions(workspace).counts["private"] == 1
    with pytest.raises(PrivacyError):
        preview_captions(workspace, page=page)
    assert not page.exists()


def test_a_preview_shows_frame_masks_facts_and_template(tmp_path: Path) -> None:
    workspace = _study(tmp_path)
    page = tmp_path / "captions.html"
    preview = preview_captions(workspace, count=3, page=page)
    assert [frame.image_id for frame in preview.frames] == [f"{n:016x}" for n in range(3)]
    whole, region = preview.frames[0].captions
    assert whole.facts == {"ga": "21 weeks and 3 days", "plane": "femur", "structures": "femur"}
    assert (region.structure, region.codes) == ("femur", ())
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 3
    assert whole.text in html and whole.template in html and "ga = 21 weeks and 3 days" in html
    console = Console(width=200, record=True, file=StringIO())
    console.print(preview)
    text = console.export_text()
    assert f"{page}: 6 of 8 captions, of 3 frames and 1 plane" in text.replace("\n", "")
    assert whole.text not in text
    (tmp_path / "mine.html").write_text("<p>mine")
    with pytest.raises(SonoError, match="not an earlier output"):
        preview_captions(workspace, page=tmp_path / "mine.html")


def test_the_printed_captions_are_bounded_and_all_are_printed_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = _study(tmp_path)
    monkeypatch.setattr("sono.annotation.captioning.preview.MAX_PRINTED", 4)
    printed = {}
    for every in (False, True):
        console = Console(width=200, record=True, file=StringIO())
        console.print(preview_captions(workspace, count=3, every=every))
        printed[every] = console.export_text()
    region = preview_captions(workspace, count=1).frames[0].captions[1]
    assert region.text not in printed[False] and region.text in printed[True]
    assert printed[False].count("and 1 more caption; --all prints all") == 3
    assert all("6 of 8 captions, of 3 frames and 1 plane" in text for text in printed.values())


def test_the_page_names_a_mask_once_for_its_captions_of_all_sets(tmp_path: Path) -> None:
    workspace = _study(tmp_path)
    build_captions(workspace, ["standard", "short"])
    preview_captions(workspace, count=1, page=tmp_path / "captions.html")
    html = (tmp_path / "captions.html").read_text()
    assert html.count("mask of femur") == 1 and "femur, femur plane" in html


def test_every_code_has_a_meaning_and_a_fix() -> None:
    assert set(MEANINGS) == set(FIXES)
