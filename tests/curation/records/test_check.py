"""`sono records check` shows how a table is read, without names or ids of patients."""

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid
from rich.console import Console

import sono.cli
from sono.curation.clinical.values import shape
from sono.curation.core.errors import IssuesError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import from_rows
from sono.curation.core.vault_tables import SOURCES
from sono.curation.records.check import Compared, RecordsReport, check_records
from sono.curation.records.file_matching import MatchOptions
from sono.curation.records.read import RecordsConfig

SECRETS = ("Quillfeather", "O'Hara", "MRN77341", "20240606", "Xanthippe")
TABLE = (
    "File,MRN,Name,Exam date,LMP,GA,View,HC (mm),Note\n"
    'a_Quillfeather.png,MRN77341,"O\'Hara, Xanthippe",06/06/2024,01/01/2024,22+3,femur,200,hello\n'
    'b.png,MRN77341,"O\'Hara, Xanthippe",06/13/2024,01/01/2024,23 3/7,Transthalamic,290,\n'
    "c.png,MRN77342,Quillfeather,06/06/2024,03/01/2024,12-Mar,femor,,\n"
    "c.png,MRN77342,Quillfeather,06/06/2024,03/01/2024,12-Mar,Other,,\n"
    "d.png,MRN77343,O'Hara,MRN77341,2024-01-01,MRN77341,Xanthippe O'Hara,MRN77341,\n"
    ",,Quillfeather,,,,,,\n"
    'a_Quillfeather.png,MRN77341,"O\'Hara, Xanthippe",06/06/2024,01/01/2024,22+3,femur,200,again\n'
)


def _check(tmp_path: Path, text: str, raw: Path | None = None, **config: object) -> RecordsReport:
    (tmp_path / "records.csv").write_text(text)
    return check_records(
        tmp_path / "records.csv", RecordsConfig.model_validate(config), PlaneTable(), raw
    )


def _shown(report: RecordsReport) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    return console.export_text() + json.dumps(asdict(report), default=str)


@pytest.mark.parametrize(
    ("value", "look"),
    [
        ("P1042", "A9999"),
        ("Doe, Mia", "Aa, Aa"),
        ("22w3d", "99a9a"),
        ("", ""),
        ("O\u2019Neil-\u00c4", "A\u2019Aa-A"),
    ],
)
def test_a_look_tells_the_form_and_not_the_value(value: str, look: str) -> None:
    assert shape(value) == look


def test_no_name_id_or_date_of_the_table_is_shown(tmp_path: Path) -> None:
    report = _check(tmp_path, TABLE)
    shown = _shown(report)
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "7734" not in shown
    assert "06/06" not in shown
    assert "did you mean 'femur'?" in shown
    assert len(report.rejected) >= 8


def test_one_problem_of_many_rows_is_told_once(tmp_path: Path) -> None:
    rows = "".join(f"{number}.png,EIF?,\n" for number in range(88))
    path = tmp_path / "records.csv"
    path.write_text(f"image,findings,hc\n{rows}z.png,,1\n")
    report = check_records(path, RecordsConfig(), PlaneTable(), options=MatchOptions(names=True))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report)
    told = [line.strip() for line in console.export_text().splitlines() if "records.csv:" in line]
    assert (
        told[1] == "- records.csv: 88 rows (line 2, 3, 4, ...): unknown finding 'EIF?' is left out"
    )
    assert told[2].startswith("- records.csv:90: hc '1' is outside")
    assert len(report.rejected) == 89


def test_a_column_mapped_wrongly_shows_no_name_either(tmp_path: Path) -> None:
    for field in (
        "plane",
        "ga",
        "hc",
        "laterality",
        "presentation",
        "bmi",
        "parity",
        "findings",
        "structures",
        "lmp",
        "patient",
    ):
        report = _check(tmp_path, TABLE, columns={field: "Name"})
        assert [secret for secret in SECRETS if secret in _shown(report)] == [], field


def test_columns_are_named_by_their_meaning(tmp_path: Path) -> None:
    meanings = {column.title: column.meaning for column in _check(tmp_path, TABLE).columns}
    assert meanings == {
        "File": "image", "MRN": "patient, private", "Name": "name, private",
        "Exam date": "exam_date, private", "LMP": "lmp, private", "GA": "ga", "View": "plane",
        "HC (mm)": "hc (mm)", "Note": "unused",
    }  # fmt: skip


def test_rows_are_counted_by_plane_age_patient_and_repetition(tmp_path: Path) -> None:
    report = _check(tmp_path, TABLE)
    assert (report.rows, report.records) == (7, {"image": 6})
    assert report.planes == {"femur": 2, "transthalamic": 1, "other": 1, "unknown label": 2}
    assert report.ages == {
        "recorded": 3, "lmp": 2, "none": 1, "written as 22 3/7": 1, "written as 22w3d, 22+3": 2,
    }  # fmt: skip
    assert (report.patients, report.exams, report.patients_with_several_exams) == (3, 3, 1)
    assert (report.repeated_rows, report.conflicting_rows) == ((8,), (5,))
    assert (
        "dates of exam_date are read month first (0 fit day first only, 1 month first only, 0 both)"
        in report.remarks
    )
    assert (
        "dates of lmp are read month first (0 fit day first only, 0 month first only, 2 both)"
        in report.remarks
    )


def test_datings_are_held_against_the_age(tmp_path: Path) -> None:
    report = _check(tmp_path, TABLE)
    assert report.age_conflicts == (3,)  # the head of 32 weeks
    assert report.datings["lmp"] == Compared(rows=3, median_days=0.0, conflicts=0)
    assert report.datings["hc"].conflicts == 1
    with pytest.raises(IssuesError, match="1 conflicts of age"):
        report.refuse_findings()


def test_ages_that_look_like_weeks_and_days_are_remarked(tmp_path: Path) -> None:
    ages = ("22.3", "21.6", "20.1", "30.4", "12.5")
    text = "image,ga\n" + "".join(f"{number}.png,{age}\n" for number, age in enumerate(ages))
    assert 'set ga_point = "days"' in " ".join(_check(tmp_path, text).remarks)
    assert _check(tmp_path, text, ga_point="days").remarks == ()
    assert _check(tmp_path, text + "9.png,22.8\n").remarks == ()


def test_an_order_of_dates_that_nothing_shows_is_remarked(tmp_path: Path) -> None:
    report = _check(tmp_path, "image,exam date\nx.png,03/04/2024\n")
    assert "no date shows whether day or month comes first" in report.remarks[0]


def _dicom(path: Path, patient: str) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        UltrasoundImageStorage,
    )
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta, dataset.SOPClassUID = meta, UltrasoundImageStorage
    dataset.SOPInstanceUID, dataset.PatientID, dataset.Modality = (
        meta.MediaStorageSOPInstanceUID,
        patient,
        "US",
    )
    dataset.save_as(path, enforce_file_format=True)


def test_files_and_rows_without_each_other_are_counted_both_ways(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    picture = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    for name in ("a.png", "Quillfeather_7.png"):
        (raw / name).write_bytes(picture)
    (raw / "notes.txt").write_text("nothing")
    _dicom(raw / "im1.dcm", "00012")
    _dicom(raw / "im2.dcm", "P7")
    report = _check(tmp_path, "image,patient\na.png,P1\nz.png,P1\n,12\n,P7\n", raw)
    assert report.raw is not None
    assert (report.raw.files, report.raw.other_files, report.raw.matched, report.raw.unmatched) == (
        4,
        1,
        2,
        2,
    )
    assert report.raw.unmatched_names == {"Aa_9.a": 1, "a9.a": 1}
    assert (report.raw.rows_without_file, report.raw.lines_without_file) == (2, (3, 4))
    assert report.raw.like_ids.count == 1
    assert "Quillfeather" not in _shown(report)


def _png(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((8, 8), value, np.uint8))[1].tobytes())


def _rules(report: RecordsReport) -> list[tuple[int, str, int]]:
    assert report.raw is not None
    return [(row.line, row.rule, row.count) for row in report.raw.rows]


def _examples(report: RecordsReport) -> dict[str, tuple[int, int]]:
    """The numbers of rows and files of each rule."""
    assert report.raw is not None
    return {row.rule: (rows, files) for row, rows, files in report.raw.examples()}


def test_a_row_whose_patient_a_path_shows_is_not_the_row_that_it_contradicts(
    tmp_path: Path,
) -> None:
    for number, name in enumerate(("x.png", "W10003/c.png", "W10003/d.png")):
        _png(tmp_path / "raw" / name, number)
    text = "file,patient,GA\nd.png,W10001,22w0d\nc.png,W10003,24w0d\n"
    report = _check(tmp_path, text, tmp_path / "raw")
    assert _rules(report) == [(2, "record_conflict", 1), (3, "name", 1)]
    assert _examples(report) == {"record_conflict": (1, 1), "name": (1, 1)}
    text = "file,patient,GA\nd.png,W10001,22w0d\nc.png,W10001,24w0d\nx.png,W10003,20w0d\n"
    report = _check(tmp_path, text, tmp_path / "raw")
    assert _rules(report) == [(2, "record_conflict", 1), (3, "record_conflict", 1), (4, "name", 1)]


def test_a_row_with_a_file_of_its_own_is_no_contradiction_of_the_files_of_its_name(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "raw"
    for patient in ("W1", "W2"):
        (raw / patient).mkdir(parents=True)
        _dicom(raw / patient / "IM_1.dcm", patient)
    report = _check(tmp_path, "file,patient,GA\nIM_1.dcm,W1,22w3d\n", raw)
    assert _examples(report) == {"name and header": (1, 1), "record_conflict": (0, 1)}


def test_a_file_that_contradicts_a_row_by_name_is_joined_to_another_by_its_id(
    tmp_path: Path,
) -> None:
    (tmp_path / "raw").mkdir()
    _dicom(tmp_path / "raw/IM_1.dcm", "W2")
    text = "file,patient,due\nIM_1.dcm,W1,2024-05-29\n,W2,2024-05-29\n"
    report = _check(tmp_path, text, tmp_path / "raw")
    assert _rules(report) == [(2, "record_conflict", 1), (3, "patient id, exam_undecided", 1)]
    assert report.raw is not None
    assert report.raw.codes == {"exam_undecided": 1, "record_conflict": 1}


@pytest.mark.parametrize(("unknown", "code"), [("femor", 1), ("femur", 3)])
def test_the_command_prints_exits_as_qc_would_and_needs_no_workspace(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    unknown: str,
    code: int,
) -> None:
    table = TABLE.replace("femor", unknown)
    (tmp_path / "records.csv").write_text(
        table if code == 1 else table.replace("Xanthippe O'Hara,", "Other,")
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["sono", "records", "check", "records.csv", "--strict", "--json"]
    )
    with pytest.raises(SystemExit) as stop:
        sono.cli.main()
    assert stop.value.code == code
    out, err = capfd.readouterr()
    assert ("with an unknown plane; correct" in err) == (code == 1)
    assert json.loads(out)["rows"] == 7
    assert ('"femor" = ""  # rows: 1' in json.loads(out)["unknown_planes"]) == (code == 1)
    assert err.count("\n") == 1
    assert [secret for secret in SECRETS if secret in out + err] == []


def test_barcelona_and_nijmegen_are_understood_whole(shared_data: Path) -> None:
    barcelona = shared_data / "barcelona" / "FETAL_PLANES_DB_data.csv"
    report = check_records(barcelona, RecordsConfig(), PlaneTable(), barcelona.parent)
    assert report.raw is not None
    assert (report.patients, report.rejected, report.raw.matched, report.raw.unmatched) == (
        437,
        (),
        888,
        0,
    )
    report.refuse_findings()
    heads = shared_data / "nijmegen" / "training_set_pixel_size_and_HC.csv"
    report = check_records(
        heads, RecordsConfig(ga_from=("hc",)), PlaneTable(), heads.parent / "training_set"
    )
    assert report.raw is not None
    assert (report.patients, report.rejected, report.raw.matched, report.raw.rows_without_file) == (
        158,
        (),
        197,
        0,
    )
    assert sum(report.ages.values()) == 197


def test_one_day_in_two_spellings_is_one_exam(tmp_path: Path) -> None:
    text = (
        "image,patient,exam date\na.png,P1,2024-06-06 "
        "09:41\nb.png,P1,06.06.2024\nc.png,P1,20241010\n"
    )
    report = _check(tmp_path, text)
    assert (report.patients, report.exams, report.patients_with_several_exams) == (1, 2, 1)


def test_no_name_of_another_row_or_of_the_vault_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    rows = "1;Lindqvist, Änna;femur\n2;;lindqvist\n3;;anna_view\n4;;okonkwo\n5;;femurr view\n"
    path.write_text("patient;name;plane\n" + rows, encoding="utf-8")
    row = {
        "path": b"/x/1",
        "root": b"/x",
        "settings_hash": "",
        "private": [],
        "source_id": "x",
        "frame": 0,
        "status": "accepted",
    }
    vault = from_rows(SOURCES, [{**row, "persons": ["OKONKWO^MARY"]}])
    report = check_records(path, RecordsConfig(), PlaneTable(), options=MatchOptions(sources=vault))
    told = report.stops_qc
    assert "femurr view" in told
    for secret in ("lindqvist", "anna", "okonkwo"):
        assert secret not in told.replace("known", ""), told


def test_without_the_files_no_cell_that_may_name_a_patient_is_shown(tmp_path: Path) -> None:
    # the name is only in the headers of the files, which are not read here
    path = tmp_path / "records.csv"
    path.write_text("patient;plane;findings\n1;feumr;\n2;okonkwo;okonkwo\n")
    report = check_records(path, RecordsConfig(), PlaneTable())
    assert "feumr" in report.stops_qc and "--names shows" in report.stops_qc
    assert "okonkwo" not in str(report)
    assert any("--raw FOLDER, or --names" in remark for remark in report.remarks)
    shown = check_records(path, RecordsConfig(), PlaneTable(), options=MatchOptions(names=True))
    assert "okonkwo" in shown.stops_qc and "okonkwo" in str(shown.rejected)
