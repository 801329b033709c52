"""The qc stage on a small phantom export.

It finds what was planted, a second run gives the same tables, and a killed run resumes.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from sono.curation import qc as qc_module
from sono.curation.core.engine import Engine
from sono.curation.core.errors import IssuesError, SonoError, typed_name
from sono.curation.core.frame_files import read_stored
from sono.curation.core.tables import read_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.split_checks import check_splits
from sono.curation.dataset.split_stage import split_workspace
from sono.curation.imaging.analysis import AnalysisTask, analyze
from sono.curation.imaging.quality import QualityConfig
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.quarantine import release
from sono.training.model.checkpoints import run_folder

ALONE = Engine(jobs=1, batch_size=8)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("qc") / "export"
    make_phantom(out, patients=4, frames_per_patient=3, seed=2)
    return out


@pytest.fixture(scope="module")
def graded(export: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, QcSummary]:
    study = Workspace.create(tmp_path_factory.mktemp("graded") / "study")
    return study, run_qc(study, options_for(export), ALONE)


def options_for(export: Path) -> QcOptions:
    return QcOptions(export / "raw", export / "records.csv", center_from="Hospital")


def outcome(study: Workspace, export: Path) -> dict[str, tuple[str, set[str]]]:
    """Status and codes of the first frame, by path relative to the export."""
    images = study.images()
    sources = read_table(study.sources_path, SOURCES)
    paths = [os.path.relpath(os.fsdecode(path), export) for path in sources["path"]]
    merged = (
        sources[["source_id", "frame"]].assign(path=paths).merge(images, on=["source_id", "frame"])
    )
    first = merged[merged["frame"] == 0]
    return {
        path: (status, set(codes))
        for path, status, codes in zip(
            first["path"], first["status"], first["reasons"], strict=True
        )
    }


def copy_key(source: Workspace, target: Workspace) -> None:
    shutil.copy(source.key_path, target.key_path)
    shutil.copy(source.config_path, target.config_path)  # it holds the check of the key


def table_bytes(study: Workspace) -> tuple[bytes, dict[str, bytes]]:
    frames = {
        str(path.relative_to(study.root)): path.read_bytes() for path in study.frames.rglob("*.png")
    }
    return (study.root / "images.parquet").read_bytes(), frames


def test_every_file_has_a_row(graded: tuple[Workspace, QcSummary], export: Path) -> None:
    study, summary = graded
    files = {
        os.path.relpath(path, export) for path in (export / "raw").rglob("*") if path.is_file()
    }
    assert set(outcome(study, export)) == files
    assert summary.files == len(files)
    assert sum(summary.statuses.values()) == summary.frames == len(study.images())


@pytest.mark.parametrize(
    "kind",
    [
        "exact duplicate",
        "re-encoded",
        "duplicate of two patients",
        "broken",
        "black",
        "overexposed",
    ],
)
def test_what_was_planted_is_reported(
    graded: tuple[Workspace, QcSummary], export: Path, kind: str
) -> None:
    found = outcome(graded[0], export)
    truth = json.loads((export / "truth.json").read_text())
    planted = {
        path: truth["files"][path]["expected"]
        for path, what in truth["special"].items()
        if kind in what
    }
    assert planted
    for path, expected in planted.items():
        status, codes = found[path]
        assert status in expected["statuses"], path
        assert status == "accepted" or codes & set(expected["codes"]), path


def test_records_reach_their_frames(graded: tuple[Workspace, QcSummary], export: Path) -> None:
    images = graded[0].images()
    truth = json.loads((export / "truth.json").read_text())["files"]
    sources = read_table(graded[0].sources_path, SOURCES)
    merged = sources[["source_id", "frame", "path"]].merge(images, on=["source_id", "frame"])
    checked = 0
    for row in merged.itertuples():
        facts = truth[os.path.relpath(os.fsdecode(row.path), export)]
        if facts["recorded"] and row.status == "accepted" and not facts["planted"]:
            assert (row.plane, row.ga_days, row.center) == (
                facts["plane"],
                facts["ga_days"],
                facts["center"],
            )
            checked += 1
    assert checked >= 8


def test_frames_are_stored_cropped_and_clean(graded: tuple[Workspace, QcSummary]) -> None:
    study = graded[0]
    for row in study.accepted_images().itertuples():
        content = (study.root / row.file).read_bytes()
        gray = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert gray.shape == (row.height, row.width)
        assert (row.crop_y1 - row.crop_y0, row.crop_x1 - row.crop_x0) == gray.shape
        assert not {b"tEXt", b"eXIf", b"iTXt", b"zTXt"} & {
            content[i : i + 4] for i in range(len(content) - 4)
        }


def test_nothing_private_is_in_the_workspace(
    graded: tuple[Workspace, QcSummary], export: Path
) -> None:
    study, summary = graded
    values = json.loads((export / "truth.json").read_text())["private_values"]
    text = pd.read_parquet(study.root / "images.parquet").to_csv() + "".join(
        str(p) for p in study.root.rglob("*")
    )
    relative = text.replace(str(study.root), "")
    assert [value for value in values if len(value) > 4 and value in relative] == []
    assert summary.private_strings > 50


def test_quarantined_frames_stand_in_the_vault_only(graded: tuple[Workspace, QcSummary]) -> None:
    study = graded[0]
    images = study.images()
    held = images[images["status"] == "quarantined"]
    assert len(held)
    for image_id in held["image_id"]:
        assert list(study.quarantine.glob(f"{image_id[:2]}/{image_id}-*.png"))
        assert not list(study.frames.glob(f"{image_id[:2]}/{image_id}-*.png"))


def test_a_second_run_measures_nothing_and_changes_nothing(
    graded: tuple[Workspace, QcSummary], export: Path
) -> None:
    study, _ = graded
    before = table_bytes(study)
    again = run_qc(study, options_for(export), ALONE)
    assert again.measured == 0
    assert table_bytes(study) == before


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_like_a_clean_one(
    graded: tuple[Workspace, QcSummary],
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = Workspace.create(tmp_path / "study")
    copy_key(graded[0], study)

    def two_batches(*arguments: object) -> Iterator[object]:
        for number, batch in enumerate(original(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    original = qc_module.run_batches
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(qc_module, "run_batches", two_batches)
        run_qc(study, options_for(export), ALONE)
    summary = run_qc(study, options_for(export), ALONE)
    assert 0 < summary.measured <= summary.files - 16
    assert table_bytes(study) == table_bytes(graded[0])


@pytest.mark.filterwarnings("ignore")
def test_two_workers_give_the_same_bytes_as_one(
    graded: tuple[Workspace, QcSummary], export: Path, tmp_path: Path
) -> None:
    study = Workspace.create(tmp_path / "study")
    copy_key(graded[0], study)
    run_qc(study, options_for(export), Engine(jobs=2, batch_size=5))
    assert table_bytes(study) == table_bytes(graded[0])


def test_a_changed_file_is_measured_again(export: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pictures = (
        sorted(path for path in (export / "raw").rglob("*_001.png"))[:1]
        or sorted((export / "raw").rglob("*.png"))[:1]
    )
    shutil.copy(pictures[0], raw / "a.png")
    shutil.copy(pictures[0], raw / "b.png")
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(raw), ALONE)
    (raw / "b.png").write_bytes(b"")
    summary = run_qc(study, QcOptions(raw), ALONE)
    assert summary.measured == 1
    assert summary.reasons.get("empty_file") == 1


def test_without_records_the_summary_says_what_that_costs(export: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(next((export / "raw").rglob("*_002.jpg")), raw / "frame.jpg")
    remarks = " ".join(run_qc(study, QcOptions(raw), ALONE).remarks)
    assert (
        "1 frame has no patient id; in the splits, 1 stays with its file; give --records" in remarks
    )
    assert "no plane labels" in remarks
    assert "no center" in remarks


@pytest.mark.parametrize(
    ("table", "advice"),
    [
        ("image,Name der Klinik\nframe.jpg,Nord\nx.jpg,Nord\n", "--center-from 'Name der Klinik'"),
        ("image,center\nother.jpg,Nord\n", "no record with a center was applied"),
        ("image,x\nframe.jpg,Nord\n", "be used; give --center"),
    ],
)
def test_without_a_center_the_column_of_centers_is_suggested(
    export: Path, tmp_path: Path, table: str, advice: str
) -> None:
    study = Workspace.create(tmp_path / "study")
    (tmp_path / "raw").mkdir()
    shutil.copy(next((export / "raw").rglob("*_002.jpg")), tmp_path / "raw/frame.jpg")
    (tmp_path / "records.csv").write_text(table)
    options = QcOptions(tmp_path / "raw", tmp_path / "records.csv")
    (remark,) = [text for text in run_qc(study, options, ALONE).remarks if "no center" in text]
    assert advice in remark


def test_strict_turns_findings_into_an_error(graded: tuple[Workspace, QcSummary]) -> None:
    with pytest.raises(IssuesError, match="were not accepted"):
        graded[1].refuse_findings()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"raw": Path("missing")}, "missing"),
        ({"center": "A"}, "--center and --center-from"),
        ({"records": None}, "give --records"),
        ({"center_from": "Hospitl"}, "Hospital"),
        ({"records": Path("none.csv")}, r"none\.csv"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    export: Path, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    study = Workspace.create(tmp_path / "study")
    values = {
        "raw": export / "raw",
        "records": export / "records.csv",
        "center_from": "Hospital",
        "center": None,
    }
    with pytest.raises(SonoError, match=problem):
        run_qc(study, QcOptions(**(values | change)), ALONE)
    assert not (study.root / "images.parquet").exists()


@pytest.mark.parametrize(
    ("typed", "problem"),
    [(" ", "empty"), ("a\nb", "line break"), ("\ud800", "printed"), ("x" * 65, "65 characters")],
)
def test_a_typed_name_is_one_short_printable_line(tmp_path: Path, typed: str, problem: str) -> None:
    study = Workspace.create(tmp_path / "study")
    with pytest.raises(SonoError, match=f"--center.*{problem}"):
        run_qc(study, QcOptions(tmp_path, center=typed), ALONE)
    with pytest.raises(SonoError, match=f"--reviewer.*{problem}"):
        release(study, ["a"], typed)
    with pytest.raises(SonoError, match=f"--name.*{problem}"):
        run_folder(study.runs, typed)
    if typed.isascii():
        with pytest.raises(SonoError, match=f"study.*{problem}"):
            Workspace.create(tmp_path / typed)
    assert (
        typed_name("--center", "x" * 64)
        and typed_name("--center", " Praxis Lindqvist ") == "Praxis Lindqvist"
    )


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(SonoError, match="raw"):
        run_qc(Workspace.create(tmp_path / "study"), QcOptions(tmp_path / "raw"), ALONE)


def test_a_damaged_stored_frame_is_made_again(export: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    run_qc(study, options_for(export), ALONE)
    clean = table_bytes(study)
    stored = sorted(study.frames.rglob("*.png"))
    os.truncate(stored[0], 100)
    shutil.copy(study.quarantine.parent / "key", stored[1])
    assert 2 <= run_qc(study, options_for(export), ALONE).measured < len(stored)
    assert table_bytes(study) == clean


def test_a_split_that_stands_is_kept_and_new_patients_join(export: Path, tmp_path: Path) -> None:
    study, raw = Workspace.create(tmp_path / "study"), tmp_path / "raw"
    shutil.copytree(export / "raw" / "A", raw / "A")
    options = replace(options_for(export), raw=raw)
    run_qc(study, options, ALONE)
    split_workspace(study, None, 0, seed=7)
    before = split_by_patient(study)
    shutil.copytree(export / "raw" / "B", raw / "B")
    summary = run_qc(study, options, ALONE)
    after = split_by_patient(study)
    assert after[before.index].equals(before)
    assert len(after) > len(before)
    assert not any("moved to another split" in remark for remark in summary.remarks)
    check_splits(study.images())


def split_by_patient(study: Workspace) -> pd.Series:
    placed = study.images().dropna(subset=["split", "patient_id"])
    return placed.groupby("patient_id")["split"].first()


@pytest.mark.slow
def test_frames_that_change_their_split_are_told(export: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    options = options_for(export)
    study.config_path.write_text(
        study.config_path.read_text() + '[splits]\nwithout_patient = "file"\n'
    )
    # nobody knows which frames are of one patient
    first = run_qc(study, QcOptions(options.raw), ALONE)
    assert not any("moved to another split" in remark for remark in first.remarks)
    again = run_qc(study, options, ALONE)
    assert any("moved to another split" in remark for remark in again.remarks)
    check_splits(study.images())


def test_a_conflict_of_datings_is_a_remark_that_goes_when_the_record_is_mended(
    tmp_path: Path,
) -> None:
    raw, table = tmp_path / "raw", tmp_path / "records.csv"
    raw.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (300, 400), np.uint8)
    (raw / "a.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    study = Workspace.create(tmp_path / "study")
    seen = []
    for last_period in ("2024-01-01", "2024-02-01"):
        table.write_text(f"image,GA,exam date,LMP\na.png,18w0d,2024-06-06,{last_period}\n")
        summary = run_qc(study, QcOptions(raw, table), ALONE)
        row = study.images().iloc[0]
        seen.append(
            (
                "ga_conflict" in row["reasons"],
                int(row["ga_days"]),
                row["ga_source"],
                "ga_conflict" in summary.reasons,
            )
        )
    assert seen == [(True, 126, "recorded", True), (False, 126, "recorded", False)]


def test_a_path_that_leads_through_the_workspace_is_not_in_it(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Workspace.create(tmp_path / "study")
    shutil.copytree(export / "raw" / "A", tmp_path / "raw")
    monkeypatch.chdir(study.root)
    assert run_qc(study, QcOptions(Path("../raw")), ALONE).files > 0
    before = table_bytes(study)
    with pytest.raises(SonoError, match="contains only the workspace"):
        run_qc(study, QcOptions(study.root), ALONE)
    assert table_bytes(study) == before


def test_copies_of_a_frame_that_are_cropped_differently_have_files_of_their_own(
    bad_files: Path, tmp_path: Path
) -> None:
    task = AnalysisTask(
        os.fsencode(bad_files), bytes(32), tmp_path / "frames", tmp_path / "held", QualityConfig()
    )
    rows = [
        analyze(task, os.fsencode(bad_files / name))[0]
        for name in ("img/00_good.png", "dcm/00_good.dcm")
    ]
    assert rows[0]["image_id"] == rows[1]["image_id"]
    assert rows[0]["height"] != rows[1]["height"]  # the header names the region of tissue
    for row in rows:
        folder = task.frames if row["status"] == "accepted" else task.quarantine
        assert read_stored(folder / Path(row["file"]).relative_to("frames")).shape == (
            row["height"],
            row["width"],
        )
