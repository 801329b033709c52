"""A row of one image, folder or day is not applied to files of another one."""

from dataclasses import replace
from pathlib import Path

import pytest

from sono.curation.core.planes import PlaneTable
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records

CONFLICT = ("no_record", "record_conflict")


def _table(tmp_path: Path, text: str, **config: object) -> RecordsTable:
    (tmp_path / "records.csv").write_text(text)
    return read_records(
        tmp_path / "records.csv", RecordsConfig.model_validate(config), PlaneTable()
    )


def _file(
    name: str, day: str | None = None, patient: str | None = None, **header: str
) -> FileFacts:
    return FileFacts(
        f"/raw/{name}".encode(), patient, header.pop("study", None), day, header=header
    )


def _join(tmp_path: Path, text: str, *files: FileFacts, **config: object) -> list[Match]:
    return join(files, _table(tmp_path, text, **config))


# A row without an image in a table of images


@pytest.mark.parametrize(
    ("column", "cell", "header"),
    [
        ("patient,exam date", "W10001,2024-01-10", {"patient": "W10001", "day": "2024-01-10"}),
        ("study uid", "1.2.840.3", {"study": "1.2.840.3"}),
        ("accession", "A77001", {"AccessionNumber": "A77001"}),
    ],
)
@pytest.mark.parametrize("blank", ["", "n/a"])
def test_a_row_without_an_image_in_a_table_of_images_gives_facts_of_the_exam_alone(
    tmp_path: Path, column: str, cell: str, header: dict[str, str], blank: str
) -> None:
    text = (
        f"file,{column},GA,plane,HC,side\n"
        f"a.dcm,{cell},20w0d,femur,,\n"
        f"{blank},{cell},20w0d,transthalamic,180,left\n"
    )
    table = _table(tmp_path, text)
    first, second = join([_file("a.dcm", **header), _file("b.dcm", **header)], table)
    assert first.record is not None and first.record.plane == "femur"
    assert second.record is not None and second.ga_days == 140
    found = second.record
    assert (found.plane, found.region, found.hc_mm, found.laterality) == (None, None, None, None)
    assert any(
        ":3: no image is named" in problem and "plane, laterality, hc" in problem
        for problem in table.rejected
    )


def test_a_table_of_exams_keeps_what_it_says_of_them_with_an_empty_column_of_images(
    tmp_path: Path,
) -> None:
    text = "file,patient,exam date,plane,HC\n,W10001,2024-01-10,transthalamic,180\n"
    table = _table(tmp_path, text)
    record = join([_file("b.dcm", "2024-01-10", "W10001")], table)[0].record
    assert (
        record is not None
        and (record.plane, record.hc_mm) == ("transthalamic", 180.0)
        and not table.rejected
    )


# Folders and names that say otherwise


ABOVE = "path differs from the row's above the folders that agree"
OTHERS = "contains the patient id of line 3"
ALIKE = "contains the id of another patient"
DATE = "another date than the row's exam date"


@pytest.mark.parametrize(
    ("rows", "path", "why"),
    [
        (["/data/W10001/visit1/IM_1.png,W10001"], "W20002/visit1/IM_1.png", ABOVE),
        (["/data/P1/visit1/IM_1.png,77"], "P3/visit1/IM_1.png", ABOVE),
        (["/data/hosp/2023/P1/IM_1.png,77"], "2024/P1/IM_1.png", ABOVE),
        (
            ["E:\\us\\Meier\\scan\\IM_1.png,77", "E:\\us\\Kurz\\scan\\x.png,78"],
            "Schulz/scan/IM_1.png",
            ABOVE,
        ),
        (["IM_1.png,P1", "IM_2.png,P2"], "P2/IM_1.png", OTHERS),
        (["IM_1.png,4711", "IM_2.png,4712"], "4712/IM_1.png", OTHERS),
        (["IM_1.png,patient_001", "IM_2.png,patient_002"], "patient_002/IM_1.png", OTHERS),
        (["P2/IM_1.png,P1", "P1/IM_2.png,P2"], "P2/IM_1.png", OTHERS),
        (["4712.png,4711", "x.png,4712"], "4712.png", ""),
        (["1/x.png,2", "2/x.png,1"], "1/x.png", ""),
        (["IM_1.png,W10001"], "W20002/IM_1.png", ALIKE),
        (["W20002_1.png,W10001"], "W20002_1.png", ALIKE),
        (["IM_1.png,P1"], "P12/IM_1.png", ALIKE),
        (["IM_1.png,W10001"], "W10001/P2/IM_1.png", ""),
        (["IM_1.png,W10001"], "visit2/IM_1.png", ""),
        (["/data/P1/visit1/IM_1.png,77", "/data/P2/visit1/x.png,78"], "new/P1/visit1/IM_1.png", ""),
        (["C:\\export\\P1\\IM_1.png,77"], "P1/IM_1.png", ""),
    ],
)
def test_a_path_that_names_another_patient_or_place_than_the_row_is_a_conflict(
    tmp_path: Path, rows: list[str], path: str, why: str
) -> None:
    lines = "\n".join(f"{row},20w0d,femur" for row in rows)
    match = _join(
        tmp_path, f"file,patient,GA,plane\n{lines}\n", _file(path), _file("of/all/others.png")
    )[0]
    assert match.codes == (CONFLICT if why else ()) and why in match.why
    assert (match.record is None) == bool(why) == (match.ga_days is None)


COUNTED = "another patient number than the row"


@pytest.mark.parametrize(
    ("row", "path", "conflict"),
    [
        ("IM_1.png,1", "Patient 2/IM_1.png", True),
        ("IM_1.png,1", "pat_02/IM_1.png", True),
        ("IM_1.png,1", "Fall 3/IM_1.png", True),
        ("IM_1.png,1", "case-12/v1/IM_1.png", True),
        ("IM_1.png,1", "Patientin 4/IM_1.png", True),
        ("IM_1.png,1", "subject07/IM_1.png", True),
        ("IM_1.png,1", "Paciente nº 2/IM_1.png", True),
        ("IM_1.png,1", "Patient 2/1/IM_1.png", True),
        ("IM_1.png,1", "Patient 2 - visit 1/IM_1.png", True),
        ("IM_1.png,1", "Patient_001/IM_1.png", False),
        ("IM_1.png,007", "Subject 7/IM_1.png", False),
        ("IM_1.png,1", "Patient 1/Fall 3/IM_1.png", False),
        ("IM_1.png,4711", "Fall 3/4711/IM_1.png", False),
        ("IM_1.png,1", "Fall 2023/IM_1.png", False),
        ("IM_1.png,W1", "Patient 2/IM_1.png", False),
        ("IM_1.png,", "Patient 2/IM_1.png", False),
        ("case_12.png,7", "case_12.png", False),  # of the row's own path
        ("IM_1.png,1", "fetus 2/IM_1.png", False),
        ("IM_1.png,1", "visit 2/pattern 3/IM_1.png", False),
    ],
)
def test_a_folder_that_counts_patients_must_have_the_number_of_the_row(
    tmp_path: Path, row: str, path: str, conflict: bool
) -> None:
    match = _join(tmp_path, f"file,patient,plane\n{row},femur\n", _file(path), _file("x.png"))[0]
    assert match.codes == (CONFLICT if conflict else ()) and (COUNTED in match.why) == conflict


def test_a_folder_that_counts_patients_says_nothing_against_a_header_or_above_all_files(
    tmp_path: Path,
) -> None:
    text = "file,patient,plane\nIM_1.png,1,femur\n"
    assert (
        _join(tmp_path, text, _file("Patient 2/IM_1.png", patient="1"), _file("x.png"))[0].record
        is not None
    )
    assert (
        _join(tmp_path, text, _file("case 2/IM_1.png"), _file("case 2/x.png"))[0].record is not None
    )


NAMED = "name or folder contains the name of the patient of line 3"


@pytest.mark.parametrize(
    ("names", "path", "conflict"),
    [
        (("Schulz^Anna", "Meier^Eva"), "Meier_Eva/IM_1.png", True),
        (("Schulz^Anna", "Meier^Eva"), "eva, MEIER 2/IM_1.png", True),
        (("Schulz^Anna", "Meier^Eva^Maria"), "Meier_Eva/IM_1.png", True),
        (("Schulz^Anna", "Müller^Zoë"), "Mueller Zoe/IM_1.png", True),
        (("Schulz^Anna", "Schulz^Eva"), "Schulz-Eva/IM_1.png", True),
        (("Schulz^Anna", "Meier^Eva"), "Meier_Eva/Schulz/IM_1.png", True),
        (("", "Meier^Eva"), "Meier_Eva/IM_1.png", True),
        (("Schulz^Anna", "Meier^Eva"), "Anna Schulz/IM_1.png", False),
        (("Schulz^Anna", "Meier^Eva"), "Meier_Eva/Schulz_Anna/IM_1.png", False),
        (("Schulz^Anna", "Meier^Eva"), "Meier/IM_1.png", False),
        (("Schulz^Anna", "Meier^Eva"), "Schulz_Eva/IM_1.png", False),
        (("Schulz", "Schulz^Anna"), "Schulz_Anna/IM_1.png", False),
        (("Schulz^A", "Schulz^Anna"), "Schulz_Anna/IM_1.png", False),
        (("van der Berg^Anna", "van der Meer^Eva"), "van der Berg/IM_1.png", False),
        (("Schulz^Anna", "Meier^Dr"), "Dr Meier/IM_1.png", False),
    ],
)
def test_a_folder_with_the_full_name_of_another_patient_is_a_conflict(
    tmp_path: Path, names: tuple[str, str], path: str, conflict: bool
) -> None:
    text = f"file,patient,name,plane\nIM_1.png,W1,{names[0]},femur\nIM_2.png,W2,{names[1]},femur\n"
    match = _join(tmp_path, text, _file(path), _file("x.png"))[0]
    assert match.codes == (CONFLICT if conflict else ()) and (NAMED in match.why) == conflict
    assert not conflict or [row.line for row in (*match.rows, *match.owners)] == [2, 3]


def test_two_names_of_one_patient_and_a_header_that_agrees_are_no_conflict(tmp_path: Path) -> None:
    rows = "IM_1.png,W1,Schulz^Anna,femur\nIM_2.png,{},Meier^Anna,femur\n"
    file = _file("Meier_Anna/IM_1.png")
    for patient, header, joined in (
        ("W1", {}, True),
        ("W2", {}, False),
        ("W2", {"PatientName": "Schulz^Anna"}, True),
    ):
        text = f"file,patient,name,plane\n{rows.format(patient)}"
        match = _join(tmp_path, text, replace(file, header=header), _file("x.png"))[0]
        assert (match.record is not None) == joined


def test_a_header_that_agrees_decides_about_a_moved_path(tmp_path: Path) -> None:
    text = "file,patient,plane\n/data/2023/P1/IM_1.dcm,W10001,femur\n"
    assert _join(tmp_path, text, _file("2024/P1/IM_1.dcm", patient="W10001"))[0].record is not None
    assert _join(tmp_path, text, _file("2024/P1/IM_1.dcm"))[0].codes == CONFLICT


@pytest.mark.parametrize(
    ("folder", "own", "conflict"),
    [
        ("2024-03-10", None, True),
        ("20240310", None, True),
        ("2024-01-10", None, False),
        ("2024-01-12", None, False),
        ("2024-03-10/20240110", None, False),
        ("2024-03-10", "2024-01-10", False),
        ("20241310", None, False),
        ("10.03.2024", None, True),
        ("10-03-2024", None, True),
        ("2024.3.10", None, True),
        ("10_Mar_2024", None, True),
        ("10. März 2024", None, True),
        ("10.01.2024", None, False),
        ("10_Jan_2024", None, False),
        ("10-01-2024", None, False),
        ("01-10-2024", None, False),  # 10 January in the other order
        ("11-03-2024", None, True),
        ("10.03.2024/10.01.2024", None, False),
        ("12.03.1990", None, False),  # the birth date
        ("1.2.840.2024.3.10", None, False),
        ("protocol 3.10.2024b", None, False),
        ("W10001_20240310", None, True),
        ("2024-03-10 w10001", None, True),
        ("W10001_20240110", None, False),
        ("W10001_19890312", None, False),  # may be a birth date
        ("W10001_20240310", "2024-01-10", False),
        ("export_20240310", None, False),  # of nobody
    ],
)
def test_a_folder_of_another_day_than_the_row_is_a_conflict_where_the_file_has_no_date(
    tmp_path: Path, folder: str, own: str | None, conflict: bool
) -> None:
    text = "file,patient,DOB,exam date,plane\nIM_1.png,W10001,1990-03-12,2024-01-10,femur\n"
    files = (_file(f"{folder}/IM_1.png", own), _file("x.png"))
    match = _join(tmp_path, text, *files, date_tolerance_days=2)[0]
    assert match.codes == (CONFLICT if conflict else ()) and (DATE in match.why) == conflict


def test_a_date_that_all_files_have_above_them_is_that_of_the_export(tmp_path: Path) -> None:
    text = (
        "file,patient,exam "
        "date,plane\nIM_1.png,W10001,2024-01-10,femur\nIM_2.png,W10002,2024-01-11,femur\n"
    )
    matches = _join(
        tmp_path, text, _file("2024-03-10/P1/IM_1.png"), _file("2024-03-10/P2/IM_2.png")
    )
    assert [match.codes for match in matches] == [(), ()]


# Files of earlier folders, and dates that the settings let differ


def test_a_name_that_a_file_without_a_row_has_too_serves_neither(tmp_path: Path) -> None:
    table = _table(tmp_path, "file,patient,plane\nIM_1.png,W10001,femur\n")
    mine, other = _file("B/IM_1.png"), _file("A/IM_1.png")
    (match,) = join([mine], table, [other])
    assert match.codes == ("no_record", "record_ambiguous") and match.others == (other.path,)
    assert join([mine], table, [mine, replace(other, matched_before=True)])[0].record is not None


@pytest.mark.parametrize(
    ("day", "days"), [("2024-01-29", 168), ("2023-12-30", 138), ("2024-01-01", 140)]
)
def test_an_age_of_another_day_is_shifted_and_sizes_are_left_out(
    tmp_path: Path, day: str, days: int
) -> None:
    text = "patient,exam date,GA,HC,plane\nW40001,2024-01-01,20w0d,170,femur\n"
    match = _join(tmp_path, text, _file("t.dcm", day, "W40001"), date_tolerance_days=30)[0]
    assert (match.ga_days, match.patient) == (days, "W40001") and match.record is not None
    same = day == "2024-01-01"
    assert (match.record.hc_mm, match.record.plane) == ((170.0, "femur") if same else (None, None))
    assert match.codes == (() if same else ("exam_undecided",)) and ("sizes" in match.why) != same
