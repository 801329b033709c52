"""`sono qc` and `sono records check` with repeated names, several visits and runs."""

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from openpyxl import Workbook
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    generate_uid,
)

from sono.cli import main
from sono.curation.core.engine import Engine
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import read_table, rows_of
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.anatomy import draw_plane
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.physics import render
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.records.check import check_records
from sono.curation.records.evidence import JOIN_CODES
from sono.curation.records.file_matching import MatchOptions
from sono.curation.records.read import RecordsConfig

Rows = dict[str, dict[str, Any]]


@cache
def picture(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return render(
        draw_plane("transthalamic", PROBES["A"], 154, rng).scene, PROBES["A"], LOOKS["A"], rng
    )


def png(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", picture(seed))[1].tobytes())


def dicom(path: Path, seed: int, patient: str, study: str, day: str = "", **header: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        UltrasoundImageStorage,
    )
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.file_meta, made.SOPClassUID, made.Modality = meta, UltrasoundImageStorage, "US"
    made.PatientID, made.StudyInstanceUID, made.StudyDate = patient, study, day
    for keyword, text in header.items():
        setattr(made, keyword, text)
    made.Rows, made.Columns = picture(seed).shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = picture(seed).tobytes()
    made.save_as(path, enforce_file_format=True)


def grade(
    folder: Path,
    records: str | Path,
    raw: str = "raw",
    center: str | None = None,
    names: bool = True,
) -> tuple[Rows, QcSummary]:
    """The vault's rows by path below `raw`, and the summary of a run on `records`.

    `records` is a path, or text for a CSV.
    """
    table = records if isinstance(records, Path) else folder / "records.csv"
    if isinstance(records, str):
        table.write_text(records)
    study = (
        Workspace(folder / "study")
        if (folder / "study").exists()
        else Workspace.create(folder / "study")
    )
    summary = run_qc(study, QcOptions(folder / raw, table, center, names=names), Engine(jobs=1))
    sources = rows_of(read_table(study.sources_path, SOURCES))
    return {
        os.path.relpath(os.fsdecode(row["path"]), folder / raw): row for row in sources
    }, summary


def column(rows: Rows, name: str) -> list[object]:
    values = [rows[path][name] for path in sorted(rows)]
    return [
        None if value is None or value != value or str(value) == "<NA>" else value  # noqa: PLR0124
        for value in values
    ]


def codes(summary: QcSummary) -> dict[str, int]:
    return {code: count for code, count in summary.reasons.items() if code in JOIN_CODES}


def test_a_row_with_a_bare_name_serves_no_file_that_shares_it(tmp_path: Path) -> None:
    for number in (1, 2):
        png(tmp_path / f"raw/P{number}/IM_0001.png", number)
    text = "file,patient,plane,GA\nIM_0001.png,W10001,transthalamic,22w3d\n"
    rows, summary = grade(tmp_path, text, names=False)
    assert (
        column(rows, "raw_patient")
        == column(rows, "ga_days")
        == column(rows, "plane")
        == [None, None]
    )
    assert codes(summary) == {"no_record": 2, "record_ambiguous": 2}
    assert "A9/A_9999.a: line 2 fits several files by name, also A9/A_9999.a" in " ".join(
        summary.remarks
    )
    _, summary = grade(tmp_path, text)
    told = " ".join(summary.remarks)
    assert "P1/IM_0001.png: line 2 fits several files by name, also P2/IM_0001.png" in told
    rows, summary = grade(tmp_path, "file,patient,GA\nIM_0001.png,W1,22w3d\nIM_0001.png,W2,30w1d\n")
    assert column(rows, "raw_patient") == [None, None]
    rows, summary = grade(
        tmp_path, "file,patient,GA\nP1/IM_0001.png,W1,22w3d\nP2/IM_0001.png,W2,30w1d\n"
    )
    assert (column(rows, "raw_patient"), column(rows, "ga_days")) == (["W1", "W2"], [157, 211])
    assert codes(summary) == {}


def test_the_header_decides_and_a_record_of_another_patient_is_a_conflict(tmp_path: Path) -> None:
    for number in (1, 2):
        dicom(
            tmp_path / f"raw/P{number}/IM_0001.dcm", number, f"W{number}0001", f"1.2.840.{number}"
        )
    rows, summary = grade(
        tmp_path, "file,patient,plane,GA\nIM_0001.dcm,W10001,transthalamic,22w3d\n"
    )
    assert column(rows, "raw_patient") == ["W10001", "W20001"]
    assert column(rows, "plane") == ["transthalamic", None]
    assert list(rows["P2/IM_0001.dcm"]["reasons"]) == ["no_record", "record_conflict"]
    assert "P2/IM_0001.dcm: line 2 has another patient" in " ".join(summary.remarks)


def test_a_picture_of_a_mask_with_the_name_of_its_frame_does_no_harm(tmp_path: Path) -> None:
    png(tmp_path / "raw/images/a.png", 1)
    (tmp_path / "raw/masks").mkdir()
    mask = np.zeros_like(picture(1))
    mask[80:160, 100:200] = 255
    (tmp_path / "raw/masks/a.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    rows, _ = grade(tmp_path, "file,patient\na.png,W1\n")
    assert column(rows, "raw_patient") == ["W1", None]


@pytest.mark.parametrize(
    ("table", "header"),
    [
        ("file,accession,GA\na.dcm,ACC-900001,22w3d\n", {"AccessionNumber": "ACC-900002"}),
        ("file,DOB,GA\na.dcm,1990-01-01,22w3d\n", {"PatientBirthDate": "19850101"}),
        ("MRN,EDD,hospital\nW10001,2024-05-29,South\n", {"StudyDate": "20240110"}),
    ],
)
def test_what_a_header_or_the_center_contradicts_is_reported_and_not_applied(
    tmp_path: Path, table: str, header: dict[str, str]
) -> None:
    dicom(tmp_path / "raw/a.dcm", 1, "W10001", "1.2.840.1", **header)
    rows, summary = grade(tmp_path, table, center="North")
    assert (column(rows, "ga_days"), column(rows, "center")) == ([None], ["North"])
    assert codes(summary) == {"no_record": 1, "record_conflict": 1}
    assert "a.dcm: line 2 " in " ".join(summary.remarks) and "has another" in " ".join(
        summary.remarks
    )


def test_an_accession_number_finds_the_row_of_the_exam(tmp_path: Path) -> None:
    dicom(tmp_path / "raw/a.dcm", 1, "W10001", "1.2.840.1", AccessionNumber="ACC-1")
    rows, _ = grade(tmp_path, "accession,GA,plane\nACC-1,22w3d,femur\n")
    assert (column(rows, "ga_days"), column(rows, "plane")) == ([157], ["femur"])


def test_a_row_that_names_files_of_two_runs_serves_neither_in_any_order(tmp_path: Path) -> None:
    text = "file,patient,GA\nIM_1.png,W10001,22w3d\nIM_2.png,W20001,30w1d\n"
    for number, name in enumerate(("one/IM_1.png", "one/IM_2.png", "two/IM_1.png")):
        png(tmp_path / name, number)
    rows, _ = grade(tmp_path, text, "one")
    assert column(rows, "ga_days") == [157, 211]
    rows, summary = grade(tmp_path, text, "two")
    assert {path: row["raw_patient"] for path, row in rows.items()} == {
        "../one/IM_1.png": None,
        "../one/IM_2.png": "W20001",
        "IM_1.png": None,
    }
    told = " ".join(summary.remarks)
    assert codes(summary) == {"no_record": 1, "record_ambiguous": 1} and "one/IM_1.png" in told
    assert "1 frame of folders graded earlier is without a record, 1 of them since this run" in told
    assert (
        f"(for example {tmp_path}/one/IM_1.png: line 2 fits several files by name, also IM_1.png)"
        in told
    )
    tables = [path.read_bytes() for path in sorted(tmp_path.glob("study*/*.parquet"))]
    _, summary = grade(tmp_path, text, "two")
    assert tables == [path.read_bytes() for path in sorted(tmp_path.glob("study*/*.parquet"))]
    assert " without a record (for example " in " ".join(summary.remarks)
    first, _ = grade(tmp_path, text, "one")
    again, _ = grade(tmp_path, text, "one")
    assert column(first, "raw_patient") == column(again, "raw_patient") == [None, None, "W20001"]
    assert [list(row["reasons"]) for row in first.values()] == [
        list(row["reasons"]) for row in again.values()
    ]
    better = text.replace("IM_1.png", "one/IM_1.png")
    for folder in ("one", "two"):  # as the remark says
        rows, summary = grade(tmp_path, better, folder)
    assert {path: row["raw_patient"] for path, row in rows.items()} == {
        "../one/IM_1.png": "W10001",
        "../one/IM_2.png": "W20001",
        "IM_1.png": None,
    }
    assert "graded earlier" not in " ".join(summary.remarks)


@pytest.mark.parametrize(
    ("headers", "row"),
    [
        (({"AccessionNumber": "A1"}, {"AccessionNumber": "A1"}), "accession,GA,HC\nA1,22w3d,200\n"),
        (
            ({"PatientBirthDate": "19900101"}, {"PatientBirthDate": "19850505"}),
            "MRN,exam date,GA,HC\nW1,2024-01-05,22w3d,200\n",
        ),
    ],
)
def test_a_number_of_two_people_serves_neither_of_two_runs(
    tmp_path: Path, headers: tuple[dict[str, str], ...], row: str
) -> None:
    for number, header in enumerate(headers):
        dicom(
            tmp_path / f"raw/P{number}/{number}.dcm",
            number,
            "W1",
            f"1.2.840.{number}",
            "20240105",
            **header,
        )
    assert column(grade(tmp_path, row, "raw/P0")[0], "ga_days") == [157]
    rows, summary = grade(tmp_path, row, "raw/P1")
    assert column(rows, "ga_days") == column(rows, "hc_mm") == [None, None]
    assert all("record_ambiguous" in one["reasons"] for one in rows.values())
    assert "1 frame of folders graded earlier is without a record, 1" in " ".join(summary.remarks)


def test_one_number_of_two_hospitals_of_the_table_is_two_people(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for number, name in enumerate(names):
        png(tmp_path / f"raw/{name}.png", number)
    grade(
        tmp_path,
        "file,patient,center\na.png,77,North\nb.png,77,South General\nc.png,77,North Hospital\n",
    )
    patients = Workspace(tmp_path / "study").images().sort_values("center")["patient_id"].tolist()
    assert patients[0] == patients[1] != patients[2]


def test_a_table_with_folders_tables_of_other_rows_and_copies_serve_two_runs(
    tmp_path: Path,
) -> None:
    for number, name in enumerate(("one/P1/IM_1.png", "two/P2/IM_1.png")):
        png(tmp_path / name, number)
    for text in (
        "file,patient\nP1/IM_1.png,W10001\nP2/IM_1.png,W20001\n",
        "file,patient,plane\nP1/IM_1.png,W10001,femur\nP2/IM_1.png,W20001,leg\n",
    ):
        for folder in ("one", "two", "one"):
            rows, _ = grade(tmp_path, text, folder)
        assert sorted(str(row["raw_patient"]) for row in rows.values()) == ["W10001", "W20001"]
    grade(tmp_path, "file,patient\nIM_1.png,W30001\n", "one")
    rows, _ = grade(tmp_path, "file,patient\nIM_1.png,W40001\n", "two")
    assert sorted(str(row["raw_patient"]) for row in rows.values()) == ["W30001", "W40001"]
    (tmp_path / "three").mkdir()
    (tmp_path / "three/IM_1.png").write_bytes((tmp_path / "two/P2/IM_1.png").read_bytes())
    rows, _ = grade(tmp_path, "file,patient\nIM_1.png,W40001\n", "three")
    assert rows["IM_1.png"]["raw_patient"] == "W40001"


def test_an_edited_row_is_still_known_from_the_run_before(tmp_path: Path) -> None:
    for number, name in enumerate(("one/IM_1.png", "two/IM_1.png")):
        png(tmp_path / name, number)
    grade(tmp_path, "file,patient,GA\nIM_1.png,W10001,22w3d\n", "one")
    rows, _ = grade(tmp_path, "file,patient,GA\nIM_1.png,W10001,23w3d\n", "two")
    assert [row["ga_days"] is None or str(row["ga_days"]) == "<NA>" for row in rows.values()] == [
        True,
        True,
    ]


def test_the_counts_of_the_whole_study_are_shown_where_they_are_others(tmp_path: Path) -> None:
    for number, name in enumerate(("one/a.png", "two/b.png")):
        png(tmp_path / name, number)
    (tmp_path / "one/bad.dcm").write_bytes(b"")
    _, summary = grade(tmp_path, "file\na.png\n", "one", names=False)
    assert summary.total == {} and "1 file could not be read (for example a.a: " in " ".join(
        summary.remarks
    )
    _, summary = grade(tmp_path, "file\na.png\n", "one")
    assert "1 file could not be read (for example bad.dcm: " in " ".join(summary.remarks)
    _, summary = grade(tmp_path, "file\na.png\n", "two")
    assert summary.total == {"accepted": 2, "error": 1}


def test_visits_of_one_patient_have_their_own_ages(tmp_path: Path) -> None:
    for number, day in enumerate(("20240110", "20240320")):
        dicom(tmp_path / f"raw/{number}.dcm", number, "77001", f"1.2.840.{number}", day)
    visits = (
        "MRN,Exam date,GA,FL,Plane\n"
        "77001,2024-01-10,20w0d,32,femur\n"
        "77001,20.03.2024,30w0d,57,femur\n"
    )
    rows, summary = grade(tmp_path, visits)
    assert (column(rows, "ga_days"), column(rows, "fl_mm")) == ([140, 210], [32.0, 57.0])
    assert codes(summary) == {}
    rows, summary = grade(tmp_path, "\n".join(visits.splitlines()[:2]) + "\n")
    assert (column(rows, "ga_days"), column(rows, "fl_mm"), column(rows, "plane")) == (
        [140, None],
        [32.0, None],
        ["femur", None],
    )
    assert column(rows, "raw_patient") == ["77001", "77001"]
    assert codes(summary) == {"exam_undecided": 1}
    assert "1.dcm: the exam date of line 2 is 70 days from the file's study date" in " ".join(
        summary.remarks
    )
    # a year alone may be among the random digits of a pseudonym
    shown = " ".join(map(str, Workspace(tmp_path / "study").images().to_numpy().ravel()))
    assert not any(
        day in shown for day in ("20240110", "2024-01-10", "20240320", "2024-03-20", "20.03.2024")
    )


@pytest.mark.parametrize(
    "table", ["MRN,EDD\n77001,2024-05-29\n", "MRN,EDD,Visit date\n77001,2024-05-29,2023-11-15\n"]
)
def test_a_due_date_counts_to_the_study_date_of_each_file(tmp_path: Path, table: str) -> None:
    for number, day in enumerate(("20240110", "20240320", "")):
        dicom(tmp_path / f"raw/{number}.dcm", number, "77001", f"1.2.840.{number}", day)
    rows, summary = grade(tmp_path, table)
    assert (column(rows, "ga_days"), column(rows, "ga_source")) == (
        [140, 210, None],
        ["due", "due", None],
    )
    assert list(rows["2.dcm"]["reasons"]) == ["exam_undecided"]
    assert "2.dcm: " in " ".join(summary.remarks)


def test_ids_with_a_decimal_point_meet_those_without(tmp_path: Path) -> None:
    for number in range(3):
        dicom(tmp_path / f"raw/{number}.dcm", number, str(4711 + number), f"1.2.840.{number}")
    rows, summary = grade(
        tmp_path, "patient_id,ga,plane\n4711.0,22w3d,femur\n4712.0,22w3d,femur\n,22w3d,femur\n"
    )
    # no date shows of which day
    assert (column(rows, "plane"), column(rows, "ga_days")) == ([None] * 3, [None] * 3)
    assert column(rows, "raw_patient") == ["4711", "4712", "4713"]
    assert codes(summary) == {"exam_undecided": 2, "no_record": 1}


def test_merged_cells_serve_all_their_rows_and_missing_patients_are_counted(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(("Patient ID", "GA", "File name"))
    for number in range(4):
        png(tmp_path / f"raw/IM_{number}.png", number)
        book.active.append(
            ("W1" if number == 0 else None, "22w3d" if number == 0 else None, f"IM_{number}.png")
        )
    book.active.merge_cells("A2:A4")
    book.active.merge_cells("B2:B4")
    book.save(tmp_path / "records.xlsx")
    rows, summary = grade(tmp_path, tmp_path / "records.xlsx")
    assert column(rows, "raw_patient") == ["W1", "W1", "W1", None]
    assert column(rows, "ga_days") == [157, 157, 157, None]
    assert "1 frame has no patient id; in the splits, 1 stays with its exam folder" in " ".join(
        summary.remarks
    )


def test_what_an_earlier_table_said_is_forgotten(tmp_path: Path) -> None:
    dicom(tmp_path / "raw/a.dcm", 1, "W1", "1.2.840.1", "20240110")
    full = (
        "file,patient,GA,center,machine,pixel "
        "size,HC,plane\na.dcm,W1,22w3d,North,Aloka,0.2,200,femur\n"
    )
    before, _ = grade(tmp_path, "file,patient\nother.dcm,W2\n")
    during, _ = grade(tmp_path, full)
    after, _ = grade(tmp_path, "file,patient\nother.dcm,W2\n")
    changed = (
        "ga_days",
        "center",
        "machine",
        "row_spacing_mm",
        "spacing_reason",
        "hc_mm",
        "plane",
        "region",
    )
    assert all(column(before, name) != column(during, name) for name in changed)
    assert all(column(before, name) == column(after, name) for name in changed)


@pytest.mark.parametrize(
    ("center", "first"), [(None, None), ("North", None), ("North", "one"), (None, "one")]
)
def test_check_and_qc_make_the_same_joins(
    tmp_path: Path, center: str | None, first: str | None
) -> None:
    """Runs with --center after a run on another folder, and files without a frame."""
    for number, name in enumerate(("one/IM_1.png", "one/IM_2.png", "two/IM_1.png", "two/IM_3.png")):
        png(tmp_path / name, number)
    dicom(tmp_path / "two/a.dcm", 4, "W40001", "1.2.840.1")
    dicom(tmp_path / "two/report.dcm", 5, "W50001", "1.2.840.2")
    report = dcmread(tmp_path / "two/report.dcm")
    del report.PixelData
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    report.save_as(tmp_path / "two/report.dcm")
    patients = {
        "IM_1.png": "W10001",
        "IM_2.png": "W20001",
        "IM_3.png": "W30001",
        "a.dcm": "W40001",
        "": "W50001",
    }
    text = "file,patient,GA,hospital\n" + "".join(
        f"{name},{patient},22w3d,{'South' if name == 'a.dcm' else 'North'}\n"
        for name, patient in patients.items()
    )
    (tmp_path / "records.csv").write_text(text)
    study = Workspace.create(tmp_path / "study")
    if first:
        grade(tmp_path, text, first, center="North")
    options = MatchOptions(center=center, sources=study.sources())
    checked = check_records(
        tmp_path / "records.csv", RecordsConfig(), PlaneTable(), tmp_path / "two", options
    ).raw
    rows, summary = grade(tmp_path, text, "two", center)
    own = {
        path: row
        for path, row in rows.items()
        if not path.startswith("..") and path != "report.dcm"
    }
    assert checked is not None and checked.files == len(own) == 3
    assert checked.codes == codes(summary)
    assert checked.matched == sum(
        row["named_by"] is not None and "no_record" not in row["reasons"] for row in own.values()
    )
    unmatched = re.search(r"(\d+) records without a file", " ".join(summary.remarks))
    assert checked.rows_without_file == int(unmatched[1] if unmatched else 0)
    assert ("record_conflict" in checked.codes) == (center is not None)
    assert ("record_ambiguous" in checked.codes) == (first is not None)
    again = check_records(
        tmp_path / "records.csv",
        RecordsConfig(),
        PlaneTable(),
        tmp_path / "two",
        MatchOptions(sources=study.sources()),
    ).raw  # the center of the run before
    assert again is not None and again.codes == checked.codes


def test_check_shows_an_example_of_each_rule_and_every_row_as_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        png(tmp_path / f"raw/P{number}/Quill_1.png", number)
    dicom(tmp_path / "raw/a.dcm", 3, "77001", "1.2.840.1", "20240110")
    dicom(tmp_path / "raw/b.dcm", 4, "77001", "1.2.840.2", "20240320")
    dicom(tmp_path / "raw/c.dcm", 5, "77002", "1.2.840.3", "20240320")
    text = (
        "file,MRN,Exam "
        ""
        "date,GA\nQuill_1.png,W1,,22w3d\n,77001,2024-01-10,20w0d\nc.dcm,77003,,20w0d\ngone.png,W9,,\n"
    )
    (tmp_path / "records.csv").write_text(text)
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> str:
        monkeypatch.setattr(
            "sys.argv", ["sono", "records", "check", "records.csv", "--raw", "raw", *options]
        )
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code in (0, None)
        return capfd.readouterr().out

    rows = json.loads(run("--json"))["raw"]["rows"]
    assert [(row["line"], row["rule"], row["count"]) for row in rows] == [
        (2, "record_ambiguous", 2),
        (3, "patient id and exam date", 1),
        (3, "patient id, exam_undecided", 1),
        (4, "record_conflict", 1),
        (5, "no file", 0),
    ]
    assert all(row["why"] or row["rule"] == "patient id and exam date" for row in rows)
    shown = run()
    assert "Quill" not in shown and "77001" not in shown and "A9/Aa_9.a" in shown
    assert "P2/Quill_1.png" in run("--names") and "b.dcm" in run("--names")
    text = "file,hospital\na.dcm,South\n"
    (tmp_path / "records.csv").write_text(text)
    assert json.loads(run("--json", "--center", "North"))["raw"]["codes"]["record_conflict"] == 1


@pytest.mark.parametrize(
    ("cells", "statuses", "kept"),
    [
        (("22w3d,200", "30w0d,280"), ["quarantined", "quarantined"], 157),
        (("22w3d,200", "22w3d,230"), ["quarantined", "quarantined"], 157),
        (("22w3d,200", "22w3d,200"), ["accepted", "rejected"], 157),
        (("22w3d,200", ","), ["accepted", "rejected"], 157),
        ((",", "22w3d,"), ["accepted", "rejected"], 157),
    ],
)
def test_equal_pixels_have_equal_facts_or_none(
    tmp_path: Path, cells: tuple[str, str], statuses: list[str], kept: int
) -> None:
    for name in ("raw/one/a.png", "raw/two/b.png"):
        png(tmp_path / name, 3)
    rows = "".join(
        f"{name},W10001,{cell}\n"
        for name, cell in zip(("one/a.png", "two/b.png"), cells, strict=True)
    )
    grade(tmp_path, f"file,patient,GA,HC\n{rows}")
    images = Workspace(tmp_path / "study").images().sort_values("status")
    assert images["status"].tolist() == statuses
    assert kept in images["ga_days"].tolist()
    assert statuses[0] == "quarantined" or images["ga_days"].iloc[0] == kept
