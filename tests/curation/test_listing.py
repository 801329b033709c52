"""`sono list` and files.csv: which files, which reasons, and why."""

import csv
import shutil
import sys
from pathlib import Path

import pytest
from phantom_frames import write_frames

from sono.cli import main
from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.listing import list_files
from sono.curation.qc import QcOptions, QcSummary, run_qc

FOLDER = "Quillfeather_Anna_of_the_second_ward_2024/a_very_long_name_of_an_export"


def _grade(study: Workspace, text: str | None, names: bool = False) -> QcSummary:
    table = study.root.parent / "records.csv"
    if text is not None:
        table.write_text(text)
    options = QcOptions(table.parent / "raw", None if text is None else table, names=names)
    return run_qc(study, options, Engine(jobs=1))


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Three files with names that are longer than a line, one of them a copy."""
    raw = tmp_path / "raw" / FOLDER
    write_frames(raw, range(2))
    (tmp_path / "raw/twin").mkdir()
    shutil.copy(raw / "IM_0.png", tmp_path / "raw/twin/copy.png")
    return Workspace.create(tmp_path / "study")


def _files(study: Workspace) -> dict[str, dict[str, str]]:
    with (study.vault / "files.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_the_list_says_why_a_row_is_not_applied(study: Workspace) -> None:
    text = "file,patient,GA\nIM_1.png,W10001,22w3d\nx.png,Quillfeather Anna,20w0d\n"
    _grade(study, text.replace("IM_1.png", "twin/copy.png") + "IM_0.png,W7,20w0d\n")
    _grade(study, text + "IM_1.png,W20002,20w0d\n")
    why = "lines 2, 4 fit equally well"
    for names in (False, True):
        frames = list_files(study, reason="record_ambiguous", names=names).frames
        assert [row["message"] for row in frames] == [why]
    files = _files(study)
    assert files[f"{FOLDER}/IM_1.png"]["message"] == why
    assert files["twin/copy.png"]["message"].endswith("no row names this file")
    _grade(study, "file,patient\nIM_1.png,W10001\n")
    assert _files_after_listing(study)[f"{FOLDER}/IM_1.png"]["message"] == ""


def _files_after_listing(study: Workspace) -> dict[str, dict[str, str]]:
    list_files(study)
    return _files(study)


@pytest.mark.parametrize("columns", ["20", "80"])
def test_names_of_files_are_never_cut(
    study: Workspace,
    columns: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _grade(study, None)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "argv", ["sono", "list", "--names", "-w", str(study.root)])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "frame", "status", "reasons", "message"]
    starts = [line.split()[0] for line in lines[1:4]]
    assert starts == [f"{FOLDER}/IM_0.png", f"{FOLDER}/IM_1.png", "twin/copy.png"]
    assert any(str(study.vault / "files.csv") in line for line in lines)


def test_frames_of_equal_pixels_whose_records_differ_name_each_other(study: Workspace) -> None:
    text = f"file,patient,GA\n{FOLDER}/IM_0.png,W10001,22w3d\ntwin/copy.png,W10001,30w1d\n"
    for names, first in ((True, f"{FOLDER}/IM_0.png"), (False, "Aa_Aa_a_a_a_a_9999/")):
        summary = _grade(study, text, names)
        (remark,) = [text for text in summary.remarks if "same pixels" in text]
        assert remark.startswith("2 frames have the same pixels as another frame")
        assert f"(for example {first}" in remark and ("twin/copy.png" in remark) == names
        assert names or "Quillfeather" not in remark
    list_files(study)
    files = _files(study)
    assert "equal to twin/copy.png" in files[f"{FOLDER}/IM_0.png"]["message"]
    assert f"equal to {FOLDER}/IM_0.png" in files["twin/copy.png"]["message"]
    shown = list_files(study, reason="duplicate_conflict")
    assert len(shown.frames) == 2 and "Quillfeather" not in str(shown.frames)
