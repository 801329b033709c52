"""Raw folders that were moved, renamed or copied between two runs of `sono qc`."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.anatomy import draw_plane
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.physics import render
from sono.curation.qc import QcOptions, QcSummary, run_qc

KEPT = ["image_id", "patient_id", "plane", "center", "status", "split", "file"]
IDENTICAL = "files are byte-identical to files already known under another path"


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Three frames below raw/, graded with a record each as of center A."""
    rows = ["file,patient,plane"]
    for number in range(3):
        place = tmp_path / f"raw/P{number}/IM.png"
        place.parent.mkdir(parents=True)
        rng = np.random.default_rng(number)
        scene = draw_plane("transthalamic", PROBES["A"], 154, rng).scene
        place.write_bytes(
            cv2.imencode(".png", render(scene, PROBES["A"], LOOKS["A"], rng))[1].tobytes()
        )
        rows.append(f"P{number}/IM.png,W{number}0001,femur")
    (tmp_path / "raw/Thumbs.db").write_bytes(b"x")
    (tmp_path / "records.csv").write_text("\n".join(rows))
    workspace = Workspace.create(tmp_path / "study")
    grade(workspace, "raw", records=True, center="A")
    return workspace


def grade(
    study: Workspace, folder: str, records: bool = False, center: str | None = None
) -> QcSummary:
    parent = study.root.parent
    options = QcOptions(
        parent / folder, parent / "records.csv" if records else None, center, names=True
    )
    return run_qc(study, options, Engine(jobs=1))


def facts(study: Workspace) -> pd.DataFrame:
    """Of the accepted frames."""
    return (
        study.accepted_images().sort_values("image_id")[KEPT].astype(object).reset_index(drop=True)
    )


@pytest.mark.parametrize("records", [False, True])
def test_a_moved_folder_is_the_same_files_and_nothing_of_them_is_lost(
    study: Workspace, records: bool
) -> None:
    before = facts(study)
    (study.root.parent / "raw").rename(study.root.parent / "moved")
    summary = grade(study, "moved", records)
    pd.testing.assert_frame_equal(facts(study), before)
    assert summary.total == {} and summary.statuses == {"accepted": 3, "rejected": 1}
    told = [remark for remark in summary.remarks if IDENTICAL in remark]
    assert len(told) == 1 and told[0].startswith(
        f"3 {IDENTICAL} (for example P0/IM.png: {study.root.parent}/raw/P0/IM.png)"
    )
    assert not any("byte-identical" in remark for remark in grade(study, "moved", records).remarks)
    pd.testing.assert_frame_equal(facts(study), before)


def test_a_copied_folder_is_duplicates_of_one_that_is_there(study: Workspace) -> None:
    parent = study.root.parent
    before = facts(study)
    shutil.copytree(parent / "raw", parent / "copy")
    summary = grade(study, "copy")
    assert sum(IDENTICAL in remark and "copied" in remark for remark in summary.remarks) == 1
    assert summary.total == {"accepted": 3, "rejected": 5}
    pd.testing.assert_frame_equal(facts(study), before)
    shutil.rmtree(parent / "copy")  # as the remark says
    summary = grade(study, "raw")
    pd.testing.assert_frame_equal(facts(study), before)
    assert summary.total == {}


def test_one_file_of_a_folder_that_is_gone_is_a_copy_and_the_others_stay(study: Workspace) -> None:
    parent = study.root.parent
    (parent / "next").mkdir()
    shutil.copy(parent / "raw/P1/IM.png", parent / "next")
    shutil.rmtree(parent / "raw")
    summary = grade(study, "next")
    assert any(
        remark.startswith("1 file is byte-identical to a file already known") and "copied" in remark
        for remark in summary.remarks
    )
    assert summary.total == {"accepted": 3, "rejected": 2}
    assert facts(study)["plane"].tolist() == ["femur"] * 3


def test_frames_of_other_folders_that_keep_facts_of_rows_that_are_gone_are_named(
    study: Workspace,
) -> None:
    parent = study.root.parent
    (parent / "more").mkdir()
    shutil.copy(parent / "raw/P2/IM.png", parent / "more/b.png")
    (parent / "records.csv").write_text("file,patient,plane\nb.png,W90009,femur\n")
    # another table
    assert not any(
        "facts from rows that are not" in remark for remark in grade(study, "more", True).remarks
    )
    (parent / "records.csv").write_text("file,patient,plane\nb.png,W00001,femur\n")
    told = [
        remark
        for remark in grade(study, "more", True).remarks
        if "facts from rows that are not in this table" in remark
    ]
    assert len(told) == 1 and told[0].startswith("1 frame of folders graded earlier keeps")
    grade(study, "raw", True)
    assert not any(
        "facts from rows that are not" in remark for remark in grade(study, "more", True).remarks
    )


def test_a_known_table_that_is_found_in_the_folder_is_named_and_concerns_this_folder_only(
    study: Workspace,
) -> None:
    parent = study.root.parent
    (parent / "records.csv").write_text("file,patient,plane\nP0/IM.png,100,femur\n")
    grade(study, "raw", True)
    (parent / "more").mkdir()
    shutil.copy(parent / "raw/P2/IM.png", parent / "more/100_HC.png")
    table = "filename,pixel size(mm),head circumference (mm)\n100_HC.png,0.2,180\n"
    (parent / "more/sizes.csv").write_text(table)
    summary = grade(study, "more")
    assert "keep facts from rows" not in str(summary.remarks)
    (remark,) = [remark for remark in summary.remarks if "no --records" in remark]
    assert "the table sizes.csv of the folder is used" in remark and "hc18" in remark
    assert (summary.files, summary.reasons.get("not_an_image")) == (1, None)
    published = "training_set_pixel_size_and_HC.csv"
    for shown in ("a.a", published):  # without --names
        summary = run_qc(study, QcOptions(parent / "more"), Engine(jobs=1))
        (remark,) = [remark for remark in summary.remarks if "no --records" in remark]
        assert f"the table {shown} of the folder is used" in remark
        if shown != published:
            (parent / "more/sizes.csv").rename(parent / "more" / published)
    assert "no --records" not in str(grade(study, "raw", True).remarks)
