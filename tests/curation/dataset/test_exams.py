"""Frames without a known patient stay with their study or exam folder, or in train."""

from pathlib import Path

import pandas as pd
import pytest
from phantom_frames import write_frames

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.exams import exam_ids, orphan_counts
from sono.curation.dataset.related_frames import related_rows, training_rows
from sono.curation.dataset.split_checks import check_splits
from sono.curation.dataset.split_stage import checked_splits, split_workspace
from sono.curation.dataset.splits import SplitConfig, assign_splits, fold_splits
from sono.curation.qc import QcOptions, run_qc

KEY = b"k" * 32


def images(rows: list[dict[str, object]]) -> pd.DataFrame:
    filled = [
        {
            "frame": 0,
            "status": "accepted",
            "source_id": f"s{number:03}",
            "image_id": f"i{number:03}",
            **row,
        }
        for number, row in enumerate(rows)
    ]
    return from_rows(IMAGES, filled)


def known(count: int = 30) -> list[dict[str, object]]:
    return [
        {"patient_id": f"p{number // 3}", "plane": f"plane{number % 3}"}
        for number in range(3 * count)
    ]


def exams_of(
    *files: tuple[str, str | None], studies: dict[str, str] | None = None
) -> dict[str, str]:
    """The file names that share an exam, by name; files are given with their patients."""
    table = images(
        [{"patient_id": who, "study_id": (studies or {}).get(path)} for path, who in files]
    )
    places = [(f"raw/{path}".encode(), b"raw") for path, _ in files]
    found = exam_ids(KEY, places, table, by_file=False)
    return {
        path: "-" if exam is None else exam for (path, _), exam in zip(files, found, strict=True)
    }


def test_an_exam_is_the_highest_folder_with_one_patient() -> None:
    files = [
        ("A/P1/x/1.png", "p1"),
        ("A/P1/y/2.png", None),
        ("A/P2/3.png", "p2"),
        ("A/P2/4.png", None),
    ]
    found = exams_of(*files)
    assert (
        found["A/P1/x/1.png"] == found["A/P1/y/2.png"] != found["A/P2/3.png"] == found["A/P2/4.png"]
    )


def test_a_folder_of_several_patients_or_studies_is_no_exam() -> None:
    assert set(exams_of(("1.png", "p1"), ("2.png", "p2"), ("3.png", None)).values()) == {"-"}
    assert set(
        exams_of(("all/1.png", "p1"), ("all/2.png", "p2"), ("all/3.png", None)).values()
    ) == {"-"}
    files = [("all/1.png", None), ("all/2.png", None)]
    assert set(exams_of(*files, studies={"all/1.png": "a", "all/2.png": "b"}).values()) == {"-"}


def test_files_right_in_the_given_folder_are_one_exam_where_nothing_is_known() -> None:
    assert len(set(exams_of(("1.png", None), ("2.png", None), ("3.png", "p1")).values())) == 1


def test_nothing_of_a_folder_can_be_read_from_an_exam_id() -> None:
    found = exams_of(("Mueller Anna/1.png", None))["Mueller Anna/1.png"]
    assert len(found) == 16 and int(found, 16) >= 0
    assert (
        found
        != exam_ids(b"x" * 32, [(b"raw/Mueller Anna/1.png", b"raw")], images([{}]), by_file=False)[
            0
        ]
    )


@pytest.mark.parametrize("column", ["study_id", "exam_id"])
def test_frames_without_a_patient_follow_their_study_or_exam(column: str) -> None:
    mixed = [{"patient_id": "p0", column: "e"}, *({column: "e"} for _ in range(5))]
    alone = [{column: "other"} for _ in range(6)]
    for seed in range(20):
        table = images([*known(), *mixed, *alone])
        table["split"] = assign_splits(table, SplitConfig(seed=seed))
        check_splits(table)
        tail = table["split"].iloc[-12:]
        assert set(tail[:6]) == {table["split"].iloc[0]} and tail[6:].nunique() == 1
    folds = [fold_splits(table, 5, fold, seed=0) for fold in range(5)]
    assert all(
        one.iloc[-6:].nunique() == 1 and one.iloc[-12] == one.iloc[-7] == one.iloc[0]
        for one in folds
    )


def test_a_study_of_several_patients_ties_nobody_to_them() -> None:
    shared = [{"patient_id": f"q{number}", "study_id": "same"} for number in range(9)]
    table = images([*known(), *shared, {"study_id": "same"}])
    table["split"] = assign_splits(table, SplitConfig())
    assert table["split"].iloc[-10:-1].nunique() > 1 and table["split"].iloc[-1] == "train"


def test_frames_of_no_exam_are_never_in_val_or_test() -> None:
    table = images([*known(), *({} for _ in range(30))])
    for seed in range(5):
        assert set(assign_splits(table, SplitConfig(seed=seed)).iloc[-30:]) == {"train"}
        assert set(fold_splits(table, 3, seed % 3, seed).iloc[-30:]) == {"train"}
    stood = pd.Series(["test"] * len(table), index=table.index)
    assert set(assign_splits(table, SplitConfig(), stood).iloc[-30:]) == {"train"}
    with pytest.raises(
        SonoError,
        match=r"5 folds of 0 patients.*4 frames stay in train, because the patient is unknown",
    ):
        fold_splits(images([{}] * 4), 5, 0, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"exam_id": "e", "split": "train"}, {"exam_id": "e", "split": "test"}],
            r"1 exam folder .* \(e\)",
        ),
        (
            [
                {"exam_id": "e", "patient_id": "p", "split": "val"},
                {"exam_id": "e", "split": "train"},
            ],
            "1 exam folder with",
        ),
        (
            [{"study_id": "t", "split": "val"}, {"study_id": "t", "split": "test"}],
            r"1 study .* \(t\)",
        ),
        (
            [{"split": "test"}, {"split": "train"}],
            "1 frame is in val or test without patient, study and exam folder",
        ),
    ],
)
def test_the_check_finds_exams_in_several_splits(
    rows: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(SonoError, match=message):
        check_splits(images(rows))


def test_evaluation_and_hold_out_know_exams() -> None:
    rows = [
        {"exam_id": "e", "patient_id": "p", "center": "A"},
        {"exam_id": "e", "center": "B"},
        {"center": "A"},
    ]
    table = images(rows)
    assert related_rows(table, table, {"i001"}, ()).tolist() == [True, True, False]
    assert related_rows(table.iloc[[0]], table, {"i001"}, ()).tolist() == [True]
    assert training_rows(table, ["B"])["image_id"].tolist() == ["i002"]


def test_what_the_frames_without_a_patient_follow_is_counted() -> None:
    rows = [
        {"study_id": "t"},
        {"exam_id": "e"},
        {"exam_id": "e"},
        {"exam_id": "f"},
        {},
        {"patient_id": "p"},
        {"status": "error"},
    ]
    rows += [{"duplicate_group": "g"}, {"patient_id": "q", "duplicate_group": "g"}]
    expected = {
        "frames": 6,
        "name and birth date": 0,
        "study": 1,
        "exam folder": 2,
        "file": 1,
        "published partition": 0,
        "duplicate": 1,
        "train only": 1,
    }
    assert orphan_counts(images(rows)) == expected
    assert orphan_counts(images([{"patient_id": "p"}])) == {}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three exam folders of 3 frames.

    The table knows no frame of the last, and all but two of the others.
    """
    folder = tmp_path_factory.mktemp("exams")
    lines = ["file,patient"]
    for number in range(3):
        write_frames(folder / "raw" / f"Exam {number}", range(3 * number, 3 * number + 3))
        lines += [
            f"IM_{seed}.png,W{number}" for seed in range(3 * number, 3 * number + 2) if number < 2
        ]
    (folder / "records.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_an_export_with_rows_missing_leaks_no_exam(export: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(export / "raw", export / "records.csv"), Engine(jobs=1))
    assert any("5 frames have no patient id" in remark for remark in summary.remarks)
    table = study.accepted_images()
    assert len(table) == 9 and table["exam_id"].nunique() == 3
    for seed in range(10):
        sizes = split_workspace(study, None, 0, seed)
        assert study.images().groupby("exam_id")["split"].nunique().max() == 1
    assert sizes["without patient"] == {
        "frames": 5,
        "name and birth date": 0,
        "study": 0,
        "exam folder": 5,
        "file": 0,
        "published partition": 0,
        "duplicate": 0,
        "train only": 0,
    }
    assert checked_splits(study) == sizes
    table = study.images()
    study.write(IMAGES, table.assign(split=["train", "val", "test"] * 3))
    with pytest.raises(SonoError, match="splits leak"):
        checked_splits(study)


def test_a_setting_says_that_every_file_is_of_another_patient(export: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(export / "raw"), Engine(jobs=1))
    assert study.images()["exam_id"].nunique() == 3
    study.config_path.write_text(
        study.config_path.read_text() + '[splits]\nwithout_patient = "file"\n'
    )
    summary = run_qc(study, QcOptions(export / "raw"), Engine(jobs=1))
    assert study.images()["exam_id"].nunique() == 9
    remark = next(text for text in summary.remarks if "no patient id" in text)
    assert "9 stay with their file" in remark and "without_patient" not in remark
    check_splits(study.images())
