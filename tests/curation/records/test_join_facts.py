"""Facts that a header and a row both have must agree, or the row is not applied."""

from pathlib import Path

import pytest

from sono.curation.clinical.placeholders import names_nobody
from sono.curation.core.planes import PlaneTable
from sono.curation.records.evidence import FileFacts, Match
from sono.curation.records.identity import (
    centers_differ,
    ids_differ,
    institution_differs,
    names_differ,
    same_id,
)
from sono.curation.records.joins import join
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records
from sono.curation.records.table import claim_of

CONFLICT = ("no_record", "record_conflict")


def _table(tmp_path: Path, text: str, **config: object) -> RecordsTable:
    (tmp_path / "records.csv").write_text(text)
    return read_records(
        tmp_path / "records.csv", RecordsConfig.model_validate(config), PlaneTable()
    )


def _file(name: str = "x.dcm", center: str | None = None, **header: str) -> FileFacts:
    """A file whose header holds the DICOM keywords of `header`."""
    day = header.pop("StudyDate", None)
    ids = (header.pop("PatientID", None), header.pop("StudyInstanceUID", None), day)
    return FileFacts(f"/raw/{name}".encode(), *ids, None, header, center)


def _one(tmp_path: Path, text: str, *files: FileFacts, **config: object) -> Match:
    return join(files, _table(tmp_path, text, **config))[0]


@pytest.mark.parametrize(
    ("column", "cell", "header"),
    [
        ("accession", "ACC-900001", {"AccessionNumber": "ACC-900002"}),
        ("accession number", "900001", {"AccessionNumber": "900002", "PatientID": "W1"}),
        ("study id", "S1", {"StudyID": "S2"}),
        ("study id", "17", {"StudyID": "4", "AccessionNumber": "A5"}),
        ("study uid", "1.2.840.1", {"StudyInstanceUID": "1.2.840.2"}),
        ("series instance uid", "1.2.840.1.1", {"SeriesInstanceUID": "1.2.840.1.2"}),
        ("SOPInstanceUID", "1.2.840.1.1.1", {"SOPInstanceUID": "1.2.840.1.1.2"}),
        ("MRN", "W1", {"PatientID": "W2"}),
        ("MRN", "W1", {"OtherPatientIDs": "W2\\W3"}),
        ("MRN,issuer", "W1,North", {"PatientID": "W1", "IssuerOfPatientID": "South"}),
        ("DOB", "1990-03-04", {"PatientBirthDate": "19900305"}),
        ("date of birth", "04.03.1990", {"PatientBirthDate": "19880304", "PatientID": "W1"}),
        ("patient name", "Jane Roe", {"PatientName": "DOE^JANE"}),
        ("first name,last name", "Jane,Smyth", {"PatientName": "SMITH^JANE"}),
        ("sex", "male", {"PatientSex": "F"}),
        ("hospital", "South General", {"InstitutionName": "North General Hospital"}),
    ],
)
def test_a_row_that_names_the_file_and_contradicts_a_fact_of_its_header_is_a_conflict(
    tmp_path: Path, column: str, cell: str, header: dict[str, str]
) -> None:
    match = _one(tmp_path, f"file,GA,plane,{column}\nx.dcm,22w3d,femur,{cell}\n", _file(**header))
    assert (match.record, match.ga_days, match.codes) == (None, None, CONFLICT)
    assert "line 2 has another" in match.why


@pytest.mark.parametrize(
    ("column", "cell", "header"),
    [
        ("accession", "ACC-900001", {"AccessionNumber": "acc-900001 "}),
        ("accession", "900001", {"AccessionNumber": "0900001"}),
        ("accession", "ACC-900001", {}),
        ("study id", "A5", {"StudyID": "1", "AccessionNumber": "A5"}),
        ("study id,study uid", "4,1.2.840.1", {"StudyID": "4", "StudyInstanceUID": "1.2.840.1"}),
        ("exam id", "E17", {"StudyInstanceUID": "1.2.840.1"}),
        ("MRN", "W3", {"PatientID": "W2", "OtherPatientIDs": "W3"}),
        ("DOB", "04.03.1990", {"PatientBirthDate": "19900304"}),
        ("DOB", "1990-03-04", {"PatientBirthDate": "00000000"}),
        ("name", "Dr. Jane Doe", {"PatientName": "DOE^JANE^^MRS"}),
        ("name", "Müller, Änne", {"PatientName": "MUELLER^AENNE"}),
        ("last name", "Doe", {"PatientName": "DOE^JANE"}),
        ("name", "Doe, J.", {"PatientName": "DOE^JANE^MARIA"}),
        ("name", "Jane Doe", {"PatientName": "W1"}),
        ("sex", "w", {"PatientSex": "F"}),
        ("hospital", "NORTH", {"InstitutionName": "North General Hospital"}),
        ("hospital", "A", {"InstitutionName": "North General Hospital"}),
    ],
)
def test_spellings_of_one_fact_and_facts_that_one_side_lacks_contradict_nothing(
    tmp_path: Path, column: str, cell: str, header: dict[str, str]
) -> None:
    match = _one(
        tmp_path,
        f"file;GA;{column.replace(',', ';')}\nx.dcm;22w3d;{cell.replace(',1.', ';1.')}\n",
        _file(**header),
    )
    assert (match.ga_days, match.codes) == (157, ())


def test_a_column_that_is_no_such_fact_can_be_switched_off(tmp_path: Path) -> None:
    text, file = "file,sex,GA\nx.dcm,M,22w3d\n", _file(PatientSex="F")
    assert _one(tmp_path, text, file).codes == CONFLICT
    assert _one(tmp_path, text, file, columns={"sex": ""}).ga_days == 157


# The accession number is an id of the exam


def test_an_accession_number_joins_the_exam_that_it_names(tmp_path: Path) -> None:
    text = "accession,GA,plane\nA1,20w0d,femur\nA2,30w0d,femur\n"
    files = [_file(f"{number}.dcm", AccessionNumber=f"a{number}") for number in (2, 1, 3)]
    matches = join(files, _table(tmp_path, text))
    assert [match.ga_days for match in matches] == [210, 140, None]
    assert [match.evidence for match in matches] == ["exam id", "exam id", ""]


def test_an_accession_number_decides_between_files_of_one_name(tmp_path: Path) -> None:
    files = [_file(f"{number}/x.dcm", AccessionNumber=f"A{number}") for number in (1, 2)]
    matches = join(files, _table(tmp_path, "file,accession,GA\nx.dcm,A2,22w3d\n"))
    assert [match.ga_days for match in matches] == [None, 157]
    assert "record_conflict" in matches[0].codes


def test_an_accession_number_of_two_patients_names_no_exam(tmp_path: Path) -> None:
    files = [_file(f"{who}.dcm", AccessionNumber="A1", PatientID=who) for who in ("W1", "W2")]
    matches = join(files, _table(tmp_path, "accession,GA\nA1,22w3d\n"))
    assert [match.ga_days for match in matches] == [None, None]
    assert all("record_ambiguous" in match.codes for match in matches)
    (first, second) = join(files, _table(tmp_path, "accession,MRN,GA\nA1,W2,22w3d\n"))
    assert (first.codes, second.ga_days) == (CONFLICT, 157)


def test_a_study_number_that_is_also_the_study_id_of_another_exam_names_no_exam(
    tmp_path: Path,
) -> None:
    named = _file("a.dcm", AccessionNumber="1234", StudyID="1", StudyInstanceUID="1.2.840.1")
    other = _file("b.dcm", AccessionNumber="77", StudyID="1234", StudyInstanceUID="1.2.840.2")
    table = _table(tmp_path, "study,GA\n1234,22w3d\n")
    for files, others in ([[named, other], []], [[named], [other]]):
        match = join(files, table, others)[0]
        assert (match.ga_days, match.codes) == (None, ("no_record", "record_ambiguous"))
        assert "several people or exams have the file's exam id" in match.why
    assert join([named], table)[0].ga_days == 157
    same = _file("b.dcm", StudyID="1234", StudyInstanceUID="1.2.840.1")  # the same exam
    assert join([named, same], table)[0].ga_days == 157
    named_twice = _file("a.dcm", AccessionNumber="1234", StudyID="1234")
    assert join([named_twice], table)[0].ga_days == 157


@pytest.mark.parametrize("text", ["accession,GA\n1234,22w3d\n", "study,MRN,GA\n1234,W1,22w3d\n"])
def test_a_column_of_accession_numbers_and_a_patient_decide_between_two_namespaces(
    tmp_path: Path, text: str
) -> None:
    ids = {"StudyInstanceUID": "1.2.840.1", "PatientID": "W1"}
    named = _file("a.dcm", AccessionNumber="1234", StudyID="1", **ids)
    ids = {"StudyInstanceUID": "1.2.840.2", "PatientID": "W2"}
    other = _file("b.dcm", AccessionNumber="77", StudyID="1234", **ids)
    matches = join([named, other], _table(tmp_path, text))
    assert [match.ga_days for match in matches] == [157, None]


def test_a_row_of_another_exam_of_the_patient_gives_only_what_holds_for_the_patient(
    tmp_path: Path,
) -> None:
    file = _file(PatientID="W1", AccessionNumber="A2", StudyDate="2024-01-10")
    match = _one(tmp_path, "MRN,accession,GA,EDD,center\nW1,A1,10w0d,2024-05-29,North\n", file)
    assert (match.record, match.ga_days, match.ga_source, match.center) == (
        None,
        140,
        "due",
        "North",
    )
    assert (
        match.codes == ("exam_undecided", "record_conflict")
        and "another accession number" in match.why
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"StudyInstanceUID": "1.2.840.1"}, {"StudyInstanceUID": "1.2.840.2"}),
        ({"StudyDate": "2024-01-05"}, {"StudyDate": "2024-05-05"}),
        ({"PatientBirthDate": "19900101"}, {"PatientBirthDate": "19850505"}),
        (
            {"PatientBirthDate": "19900101", "PatientID": "W1"},
            {"PatientBirthDate": "19850505", "PatientID": "W1"},
        ),
        ({"IssuerOfPatientID": "North"}, {"IssuerOfPatientID": "South"}),
        ({"InstitutionName": "North Hospital"}, {"InstitutionName": "South Hospital"}),
    ],
)
def test_an_exam_number_whose_files_differ_in_a_person_hospital_or_exam_names_no_exam(
    tmp_path: Path, one: dict[str, str], other: dict[str, str]
) -> None:
    files = [
        _file(f"{n}.dcm", AccessionNumber="A1", **header) for n, header in enumerate((one, other))
    ]
    matches = join(
        [*files, _file("2.dcm", AccessionNumber="A1")],
        _table(tmp_path, "accession,MRN,GA\nA1,W1,22w3d\n"),
    )
    assert [match.ga_days for match in matches] == [None] * 3
    assert all("record_ambiguous" in match.codes for match in matches)


def test_a_further_file_of_the_study_shows_that_a_number_is_of_several_exams(
    tmp_path: Path,
) -> None:
    one, other = (
        _file(f"{n}.dcm", AccessionNumber="A1", StudyInstanceUID=f"1.2.840.{n}") for n in (1, 2)
    )
    table = _table(tmp_path, "accession,GA\nA1,22w3d\n")
    assert [match.ga_days for match in (*join([one], table), *join([one], table, [other]))] == [
        157,
        None,
    ]


def test_an_exam_number_of_two_exams_serves_the_one_that_the_rest_of_the_row_names(
    tmp_path: Path,
) -> None:
    headers = (("1.2.840.1", "2024-01-05", "19900101"), ("1.2.840.2", "2024-05-05", "19850505"))
    files = [
        _file(
            f"{uid}.dcm",
            AccessionNumber="A1",
            StudyInstanceUID=uid,
            StudyDate=day,
            PatientBirthDate=birth,
        )
        for uid, day, birth in headers
    ]
    for column, cell in (
        ("DOB", "1985-05-05"),
        ("study uid", "1.2.840.2"),
        ("exam date", "2024-05-05"),
    ):
        matches = join(files, _table(tmp_path, f"accession,{column},GA\nA1,{cell},22w3d\n"))
        assert [match.ga_days for match in matches] == [None, 157]


# A patient's id is an identity within one center


@pytest.mark.parametrize(
    ("table", "file"),
    [
        ("MRN,Exam date,GA,center\n77,2024-01-10,20w0d,South\n", {"center": "North"}),
        ("MRN,Exam date,GA,site\n77,2024-01-10,20w0d,B\n", {"center": "A"}),
        ("MRN,EDD,hospital\n77,2024-05-29,South General\n", {"InstitutionName": "North General"}),
        (
            "MRN,Exam date,GA,center\n77,2024-01-10,20w0d,South\n77,2024-03-20,30w0d,South\n",
            {"center": "North"},
        ),
        ("MRN,EDD,DOB\n77,2024-05-29,1990-01-01\n", {"PatientBirthDate": "19850101"}),
    ],
)
def test_a_row_of_another_center_or_person_with_the_number_gives_nothing(
    tmp_path: Path, table: str, file: dict[str, str]
) -> None:
    match = _one(tmp_path, table, _file(PatientID="77", StudyDate="2024-01-10", **file))
    assert (match.record, match.ga_days, match.center, match.codes) == (None, None, None, CONFLICT)


@pytest.mark.parametrize(
    "header", [{"InstitutionName": "South"}, {"center": "South"}, {"PatientBirthDate": "19850101"}]
)
def test_of_two_people_with_one_number_the_file_decides_or_neither_row_serves(
    tmp_path: Path, header: dict[str, str]
) -> None:
    rows = "77,2024-01-10,20w0d,North,1990-01-01\n77,2024-01-10,30w0d,South,1985-01-01\n"
    text = f"MRN,Exam date,GA,hospital,DOB\n{rows}"
    assert (
        _one(tmp_path, text, _file(PatientID="77", StudyDate="2024-01-10", **header)).ga_days == 210
    )
    match = _one(tmp_path, text, _file(PatientID="77", StudyDate="2024-01-10"))
    assert (match.record, match.ga_days, match.center) == (None, None, None)
    assert "record_ambiguous" in match.codes and "several people" in match.why


@pytest.mark.parametrize(
    "headers",
    [
        ({"PatientBirthDate": "19900101"}, {"PatientBirthDate": "19850101"}),
        ({"IssuerOfPatientID": "North"}, {"IssuerOfPatientID": "South"}),
        ({"InstitutionName": "North Hospital"}, {"InstitutionName": "South Hospital"}),
        ({"PatientName": "DOE^JANE"}, {"PatientName": "ROE^MARY"}),
        ({"PatientSex": "F"}, {"PatientSex": "M"}),
    ],
)
def test_a_number_that_the_files_show_for_two_people_is_no_identity(
    tmp_path: Path, headers: tuple[dict[str, str], ...]
) -> None:
    files = [
        _file(f"{n}.dcm", PatientID="77", StudyDate="2024-01-10", **header)
        for n, header in enumerate(headers)
    ]
    matches = join(files, _table(tmp_path, "MRN,Exam date,GA\n77,2024-01-10,20w0d\n"))
    assert [match.ga_days for match in matches] == [None, None]
    assert all("record_ambiguous" in match.codes for match in matches)


@pytest.mark.parametrize(
    ("column", "cell", "shared"),
    [
        ("issuer", "North", {"IssuerOfPatientID": "North"}),
        ("center", "North", {"InstitutionName": "North Hospital"}),
        ("sex", "F", {"PatientSex": "F"}),
    ],
)
def test_what_two_people_of_one_number_share_does_not_decide_between_them(
    tmp_path: Path, column: str, cell: str, shared: dict[str, str]
) -> None:
    births = ("19900101", "19850505")
    files = [
        _file(
            f"{birth}.dcm", PatientID="77", StudyDate="2024-01-10", PatientBirthDate=birth, **shared
        )
        for birth in births
    ]
    matches = join(
        files, _table(tmp_path, f"MRN,Exam date,GA,{column}\n77,2024-01-10,20w0d,{cell}\n")
    )
    assert [match.ga_days for match in matches] == [None, None]
    assert all("record_ambiguous" in match.codes for match in matches)
    (first, second) = join(
        files, _table(tmp_path, "MRN,Exam date,GA,DOB\n77,2024-01-10,20w0d,1990-01-01\n")
    )
    assert (first.ga_days, second.ga_days, second.codes) == (140, None, CONFLICT)


def test_a_name_decides_between_two_people_of_one_number(tmp_path: Path) -> None:
    files = [
        _file(f"{n}.dcm", PatientID="77", PatientName=name)
        for n, name in enumerate(("DOE^JANE", "ROE^MARY", ""))
    ]
    matches = join(files, _table(tmp_path, "MRN,name,center\n77,Mary Roe,North\n"))
    assert [match.center for match in matches] == [None, "North", None]
    assert "record_ambiguous" in matches[2].codes


def test_the_due_date_of_another_person_with_the_number_is_not_taken(tmp_path: Path) -> None:
    text = "file,MRN,DOB,EDD\nx.dcm,77,1990-01-01,\n,77,1985-01-01,2024-05-29\n"
    match = _one(tmp_path, text, _file(PatientID="77", StudyDate="2024-01-10"))
    assert match.record is not None and match.ga_days is None
    names = ("DOE^JANE", "ROE^MARY")
    files = [
        _file(f"{n}.dcm", PatientID="77", StudyDate="2024-01-10", PatientName=name)
        for n, name in enumerate(names)
    ]
    table = _table(tmp_path, "file,MRN,plane,EDD\n0.dcm,77,femur,\n,77,,2024-05-29\n")
    assert [(match.record is not None, match.ga_days) for match in join(files, table)] == [
        (True, None),
        (False, None),
    ]
    assert join(files[:1], table)[0].ga_days == 140


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("North", "north hospital", False),
        ("Hospital A", "Hospital B", True),
        ("A", "North", True),
        ("", "North", False),
    ],
)
def test_the_center_that_the_user_names_is_compared_by_its_own_words(
    one: str, other: str, differ: bool
) -> None:
    assert centers_differ(one, other) is differ


def test_a_code_and_a_name_in_full_are_no_contradiction_of_a_header() -> None:
    assert not institution_differs("St. Walburga Frauenklinik", "A")
    assert institution_differs("St. Walburga Frauenklinik", "Santa Quiteria")


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("DOE^JANE", "Jane Doe", False),
        ("DOE^JANE", "Jane Doh", True),
        ("Li^Na=李^娜", "Na Li", False),
        ("ANONYMOUS", "Jane Doe", False),
        ("Doe^Jane^Maria", "Doe^Jane^Anna", True),
        ("", "Jane Doe", False),
        ("LI^NA", "Maria Gomez", True),
        ("NA^LI", "Anna Gomez", True),
        ("LI^NA", "Na Li", False),
        ("TEST^MARIA", "Anna Gomez", True),
        ("None^Maria", "Anna Gomez", True),
        ("TEST^PATIENT", "Anna Gomez", False),
        ("UNBEKANNT", "Anna Gomez", False),
        ("GOMEZ^ANNA^2", "Maria Li", True),
        ("GOMEZ2^ANNA", "Maria Li", True),
        ("GOMEZ^ANNA^2", "Anna Gomez", False),
        ("GOMEZ2^ANNA", "Anna Gomez", False),
        ("Patient 12", "Anna Gomez", False),
        ("W1", "Anna Gomez", False),
    ],
)
def test_names_are_compared_by_their_words(one: str, other: str, differ: bool) -> None:
    assert names_differ(one, other) is names_differ(other, one) is differ


def test_a_row_is_known_again_by_whom_it_names_and_not_by_what_it_says(tmp_path: Path) -> None:
    rows = [
        _table(tmp_path, f"file,patient,plane\n{row}\n").records[0]
        for row in ("x.png,W1,femur", "X.png,w1,leg", "x.png,W2,femur")
    ]
    assert claim_of(rows[0]) == claim_of(rows[1]) != claim_of(rows[2])


TWO = "file,MRN,GA\n{}x.png,MB486770,22w3d\n{}y.png,MB470932,30w1d\n"


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("x.png", ()),
        ("MB470932 CAVALCANTI/x.png", CONFLICT),
        ("exam_MB470932/1/x.png", CONFLICT),
        ("mb470932/x.png", CONFLICT),
        ("MB486770/x.png", ()),
        ("MB486770/MB470932/x.png", ()),
        ("MB470933/x.png", CONFLICT),
        ("2024/0001/x.png", ()),
    ],
)
def test_a_path_that_holds_another_patients_id_contradicts_the_row(
    tmp_path: Path, path: str, codes: tuple[str, ...]
) -> None:
    match = _one(tmp_path, TWO.format("", ""), _file(path))
    assert (match.codes, match.record is None) == (codes, bool(codes)), match.why
    assert not codes or "line 2 names the file, whose name or folder contains the " in match.why


def test_a_file_column_that_slid_by_a_row_gives_nobody_anothers_facts(tmp_path: Path) -> None:
    ids = ["4431337", "4471202", "4498810"]
    rows = [f"{ids[at - 1]}_00{at}.jpg,{ids[at]},2{at}w0d\n" for at in range(3)]
    table = _table(tmp_path, "file,MRN,GA\n" + "".join(rows))
    found = join([_file(f"{ids[at - 1]}_00{at}.jpg") for at in range(3)], table)
    assert [match.codes for match in found] == [CONFLICT] * 3


# What stands for nobody is no id


NOBODY = (
    "0000", "99999999", "UNBEKANNT", "XXXX", "-", "?", ".", "null", "Anonymized", "no id", "n/a",
    "N.A.", "none", "test", "unknown patient", "UNKNOWN^", "000", "9999", "XXX", "x", "NIL",
    "dummy", "sans nom", "keine Angabe", "desconocida", "dito", "Ditto", "idem", "see above",
    "siehe oben", "TRUE", "pending", "control",
    "lost to follow-up",
    "ＴＥＳＴ", "00-00-00", "nicht bekannt", "",
)  # fmt: skip


@pytest.mark.parametrize("text", NOBODY)
def test_a_placeholder_is_no_id(text: str) -> None:
    assert names_nobody(text)
    assert not same_id(text, text)
    assert not ids_differ(text, "W1")


ANSWERS = (
    "same",
    "Same as above",
    "yes",
    "No",
    "ja",
    "nein",
    "nee",
    "oui",
    "sí",
    "sim",
    "female",
    "MALE",
    "weiblich",
    "männlich",
    "gleich",
    "idem",
    "true",
    "même",
    "mismo",
    "stesso",
    "mesmo",
    "dezelfde",
    "vrouw",
    "femenino",
    "masculin",
    '""""',
    "〃",
    "''",
)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_in_a_column_of_ids_is_no_id(tmp_path: Path, text: str) -> None:
    table = _table(tmp_path, f"file,patient,GA\na.png,{text},22w3d\nb.png,{text},24w0d\n")
    assert [row.patient for row in table.records] == [None, None]
    told = [problem for problem in table.remarks() if "names nobody" in problem]
    assert len(told) == 1
    assert not same_id(text, text) and not ids_differ(text, "W1")


def test_an_answer_is_a_name_and_no_empty_date(tmp_path: Path) -> None:
    assert names_differ("Sim", "Kim^A") and names_differ("Mann", "Schulz^Anna")
    table = _table(tmp_path, "file,patient,exam date,plane\na.png,W1,same,femur\n")
    assert table.records[0].exam_date_unread and table.records[0].plane is None


@pytest.mark.parametrize(
    "text",
    ["1", "9", "999", "A", "AA", "100", "0001", "test1", "Anna", "P000", "Na Li", "1.2.840.7"],
)
def test_a_short_or_regular_id_is_one(text: str) -> None:
    assert not names_nobody(text)
    assert same_id(text, text)


@pytest.mark.parametrize("text", ["0000", "99999999", "UNBEKANNT", "XXXX", "-"])
def test_placeholders_join_no_files_by_patient_or_accession(tmp_path: Path, text: str) -> None:
    table = _table(
        tmp_path,
        f"patient,accession,file,exam_date,GA\n{text},{text},,2024-01-05,22w3d\n{text},,b.dcm,,30w0d\n",
    )
    header = {"PatientID": text, "AccessionNumber": text, "StudyDate": "2024-01-05"}
    matches = join([_file("a.dcm", **header), _file("b.dcm", **header)], table)
    assert [(match.ga_days, match.patient) for match in matches] == [(None, None), (210, None)]
    assert any(
        "records.csv:2: names no image, study or patient" in problem for problem in table.rejected
    )


# A date that stands for none, or that nobody can read, is no evidence


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("1900-01-01", "1900-01-01"),
        ("0001-01-01", "0001-01-01"),
        ("9999-12-31", "31.12.9999"),
        ("1970-01-01",) * 2,
    ],
)
def test_a_placeholder_of_a_study_date_joins_nothing(tmp_path: Path, header: str, row: str) -> None:
    file = _file(PatientID="W1", StudyDate=header)
    match = _one(tmp_path, f"patient,exam_date,plane,GA\nW1,{row},femur,22w3d\n", file)
    assert (match.ga_days, match.codes) == (None, ("exam_undecided",))


@pytest.mark.parametrize("birth", ["99991231", "19010101", "19111111", "19000101", "20240104"])
def test_a_birth_date_that_is_no_mothers_confirms_and_contradicts_nobody(
    tmp_path: Path, birth: str
) -> None:
    odd = _file("b.dcm", PatientID="W1", StudyDate="2024-01-05", PatientBirthDate=birth)
    other = _file(
        "a.dcm",
        PatientID="W1",
        StudyDate="2024-01-05",
        PatientBirthDate="19900101",
        IssuerOfPatientID="A",
    )
    table = _table(tmp_path, f"patient,exam_date,DOB,GA\nW1,2024-01-05,{birth},22w3d\n")
    third = _file("c.dcm", PatientID="W1", StudyDate="2024-01-05", IssuerOfPatientID="B")
    assert [match.ga_days for match in join([other, odd, third], table)] == [None, None, None]
    assert _one(tmp_path, "file,DOB,GA\nb.dcm,1990-01-01,22w3d\n", odd).ga_days == 157


@pytest.mark.parametrize("cell", ["2024/01/06", "20240106120000", "6 Jan 2024", "6. Januar 2024"])
def test_a_date_in_a_usual_form_contradicts_another_day(tmp_path: Path, cell: str) -> None:
    match = _one(
        tmp_path, f"file,exam_date,GA\nx.dcm,{cell},22w3d\n", _file(StudyDate="2024-01-05")
    )
    assert (match.ga_days, match.codes) == (None, CONFLICT)


@pytest.mark.parametrize("cell", ["24-01-06", "Jan 5", "05.01.24", "1", "31.02.2024", "2071-01-05"])
@pytest.mark.parametrize("header", [{"StudyDate": "2024-01-05"}, {}])
def test_nothing_of_a_day_is_taken_from_a_row_whose_exam_date_is_not_understood(
    tmp_path: Path, cell: str, header: dict[str, str]
) -> None:
    table = f"file,patient,exam_date,plane,GA,HC\nx.dcm,W1,{cell},femur,22w3d,200\n"
    match = _one(tmp_path, table, _file(**header))
    assert (match.patient, match.ga_days, match.codes) == ("W1", None, ("exam_undecided",))
    assert match.record is not None and (match.record.plane, match.record.hc_mm) == (None, None)
    assert "exam date of line 2 is not understood" in match.why
    by_patient = _one(
        tmp_path, table.replace("file,", "").replace("x.dcm,", ""), _file(PatientID="W1", **header)
    )
    assert (by_patient.ga_days, by_patient.codes) == (None, ("exam_undecided",))


@pytest.mark.parametrize("cell", ["", "-", "unknown", "0", "00000000", "1900-01-01"])
def test_a_placeholder_of_an_exam_date_is_no_date(tmp_path: Path, cell: str) -> None:
    table = _table(tmp_path, f"file,exam_date,GA\nx.dcm,{cell},22w3d\n")
    assert table.rejected == ()
    assert join([_file(StudyDate="2024-01-05")], table)[0].ga_days == 157
