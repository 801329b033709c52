"""Plane, side, structures and spacing describe one image, so a row of an exam gives them to one.

Facts of the patient and the exam are given to every file of the exam.
"""

from pathlib import Path

import pandas as pd
import pytest
from dicom_files import write_dicom
from phantom_frames import write_frames

from sono.curation.core.engine import Engine
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.records.check import check_records
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, read_records

HEADER = "MRN,Exam date,study,Plane,Side,structures,pixel size,GA,HC,Findings,center,EDD\n"
FACTS = "left,femur,0.2,20w0d,175,cyst,North,2024-05-29\n"
OF_IMAGE = ("plane", "region", "laterality", "structures", "row_spacing_mm", "col_spacing_mm")


def _join(folder: Path, text: str, *files: FileFacts, **more: object) -> list[Match]:
    (folder / "records.csv").write_text(text)
    config = RecordsConfig.model_validate(more)
    return join(files, read_records(folder / "records.csv", config, PlaneTable()))


def _file(name: str, patient: str | None = None, **more: object) -> FileFacts:
    return FileFacts(f"/raw/{name}".encode(), patient, root=b"/raw", **more)


def _of_image(match: Match) -> list[object]:
    return [getattr(match.record, name) for name in OF_IMAGE]


BY_DATE = [_file(f"{number}.dcm", "77", exam_date="2024-01-10") for number in range(14)]
BY_STUDY = [_file(f"{number}.dcm", "77", study="1.2.840.9") for number in range(3)]
BY_NUMBER = [_file(f"{number}.dcm", header={"AccessionNumber": "A7"}) for number in range(3)]
BY_FOLDER = [_file(f"E9/{number}.png") for number in range(3)]


@pytest.mark.parametrize(
    ("ids", "files"),
    [
        ("77,2024-01-10,", BY_DATE),
        ("77,,1.2.840.9", BY_STUDY),
        (",,A7", BY_NUMBER),
        (",2024-01-10,E9", BY_FOLDER),
    ],
)
def test_a_row_of_an_exam_with_several_images_gives_only_facts_of_the_exam(
    tmp_path: Path, ids: str, files: list[FileFacts]
) -> None:
    text = f"{HEADER}{ids},femur,{FACTS}"
    matches = _join(tmp_path, text, *files, match_folders=True)
    for match in matches:
        assert match.record is not None and match.codes == ("image_undecided",)
        assert _of_image(match) == [None, None, None, (), None, None]
        assert (match.ga_days, match.record.hc_mm, match.center) == (140, 175, "North")
        assert match.record.findings == ("cyst",)
        assert match.why == (
            f"line 2 fits {len(files)} images; facts of one image (plane, region, laterality, "
            "structures, spacing) are not used"
        )
    (match,) = _join(tmp_path, text, files[0], match_folders=True)
    assert match.codes == () and not match.why
    assert _of_image(match) == ["femur", "lower limb", "left", ("femur",), 0.2, 0.2]


def test_byte_identical_copies_are_one_image(tmp_path: Path) -> None:
    text = "MRN,Exam date,Plane\n77,2024-01-10,femur\n"
    one = {"exam_date": "2024-01-10", "digest": "abc"}
    copies = [_file("a.dcm", "77", **one), _file("b/a.dcm", "77", **one)]
    matches = _join(tmp_path, text, *copies)
    assert [match.record and match.record.plane for match in matches] == ["femur"] * 2
    other = _file("c.dcm", "77", **one | {"digest": "def"})
    matches = _join(tmp_path, text, *copies, other)
    assert [match.record and match.record.plane for match in matches] == [None] * 3


def test_a_file_of_the_patient_without_a_date_may_be_the_image_too(tmp_path: Path) -> None:
    text = "MRN,Exam date,Plane\n77,2024-01-10,femur\n"
    (tmp_path / "records.csv").write_text(text)
    table = read_records(tmp_path / "records.csv", RecordsConfig(), PlaneTable())
    undated, other = _file("x.dcm", "77"), _file("y.dcm", "77", exam_date="2024-03-20")
    for files, witnesses in (([BY_DATE[0], undated], []), ([BY_DATE[0]], [undated])):
        match = join(files, table, witnesses)[0]
        assert match.record is not None and match.record.plane is None
        assert match.codes == ("image_undecided",)
    match = join([BY_DATE[0], other], table)[0]
    assert match.record is not None and match.record.plane == "femur"


def test_series_and_instance_show_which_image_a_row_describes(tmp_path: Path) -> None:
    def file(series: int, instance: int) -> FileFacts:
        uids = {"SeriesInstanceUID": f"1.2.3.{series}", "SOPInstanceUID": f"1.2.3.4.{instance}"}
        return _file(f"{instance}.dcm", "77", study="1.2.840.9", header=uids)

    files = [file(1, 1), file(2, 2), file(2, 3)]
    rows = "1.2.840.9,1.2.3.1,femur\n1.2.840.9,1.2.3.2,abdominal circumference\n"
    matches = _join(tmp_path, f"study,series uid,plane\n{rows}", *files)
    assert [match.record and match.record.plane for match in matches] == ["femur", None, None]
    assert [match.codes for match in matches] == [(), ("image_undecided",), ("image_undecided",)]
    rows = "1.2.840.9,1.2.3.4.2,femur\n1.2.840.9,1.2.3.4.3,abdominal circumference\n"
    matches = _join(tmp_path, f"study,sop instance uid,plane\n{rows}", *files)
    assert [match.record and match.record.plane for match in matches] == [
        None,
        "femur",
        "abdominal_circumference",
    ]


def test_files_of_other_runs_count_whatever_table_they_had(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text("MRN,Exam date,Plane\n77,2024-01-10,femur\n")
    table = read_records(tmp_path / "records.csv", RecordsConfig(), PlaneTable())
    for matched_before in (False, True):
        other = _file("../old/b.dcm", "77", exam_date="2024-01-10", matched_before=matched_before)
        (match,) = join([BY_DATE[0]], table, [other])
        assert match.record is not None and match.record.plane is None
    (match,) = join([BY_DATE[0]], table, [BY_DATE[0]])  # the file itself
    assert match.record is not None and match.record.plane == "femur"


# By `sono qc`


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_frames(folder, range(4))
    return folder


def _grade(study: Workspace, raw: str, text: str) -> QcSummary:
    table = study.root.parent / "records.csv"
    table.write_text(text)
    return run_qc(study, QcOptions(table.parent / raw, table), Engine(jobs=1))


def _planes(study: Workspace) -> list[object]:
    images = study.accepted_images()
    return [None if pd.isna(plane) else plane for plane in images["plane"]]


def _dicom(pictures: Path, target: Path, number: int, frames: int = 1) -> None:
    import cv2
    import numpy as np

    content = np.frombuffer(sorted(pictures.glob("*.png"))[number].read_bytes(), np.uint8)
    gray = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    ids = {"PatientID": "W70007", "StudyInstanceUID": "1.2.840.5", "StudyDate": "20240110"}
    cine = np.stack([np.roll(gray, 40 * shift, 1) for shift in range(frames)])
    write_dicom(target, cine if frames > 1 else gray, NumberOfFrames=frames, **ids)


def test_qc_and_check_count_the_images_that_share_a_row(tmp_path: Path, pictures: Path) -> None:
    for number in range(3):
        _dicom(pictures, tmp_path / f"raw/{number}.dcm", number)
    study = Workspace.create(tmp_path / "study")
    text = "MRN,Exam date,Plane,GA\nW70007,2024-01-10,femur,20w0d\n"
    summary = _grade(study, "raw", text)
    assert _planes(study) == [None] * 3
    assert study.accepted_images()["ga_days"].tolist() == [140] * 3
    assert summary.reasons["image_undecided"] == 3
    (remark,) = [text for text in summary.remarks if "plane" in text and "one image" in text]
    assert remark.startswith("3 accepted frames have a row that fits several images of its exam")
    assert "line 2 fits 3 images; facts of one image (plane" in remark and "file names" in remark
    checked = check_records(
        tmp_path / "records.csv", RecordsConfig(), PlaneTable(), tmp_path / "raw"
    )
    assert checked.raw is not None and checked.raw.codes == {"image_undecided": 3}


def test_the_only_file_of_an_exam_gets_the_plane_on_all_its_frames(
    tmp_path: Path, pictures: Path
) -> None:
    _dicom(pictures, tmp_path / "raw/cine.dcm", 0, frames=2)
    study = Workspace.create(tmp_path / "study")
    summary = _grade(study, "raw", "MRN,Exam date,Plane\nW70007,2024-01-10,femur\n")
    assert _planes(study) == ["femur"] * 2 and "image_undecided" not in summary.reasons


def test_a_later_file_of_the_day_takes_the_plane_from_the_first_again(
    tmp_path: Path, pictures: Path
) -> None:
    text = "MRN,Exam date,Plane\nW70007,2024-01-10,femur\n"
    _dicom(pictures, tmp_path / "one/a.dcm", 0)
    _dicom(pictures, tmp_path / "two/b.dcm", 1)
    study = Workspace.create(tmp_path / "study")
    _grade(study, "one", text)
    assert _planes(study) == ["femur"]
    _grade(study, "two", text)
    assert _planes(study) == [None, None]
    _grade(study, "one", text)
    assert _planes(study) == [None, None]
    _dicom(pictures, tmp_path / "one/c.dcm", 2)  # and in a folder that is graded again
    summary = _grade(study, "one", text)
    assert _planes(study) == [None] * 3 and summary.reasons["image_undecided"] == 2
