"""Records tables as hospitals export them, with all their mistakes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sono.curation.core.config import read_section
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.records.evidence import FileFacts
from sono.curation.records.joins import join
from sono.curation.records.read import Record, RecordsConfig, RecordsTable, read_records


def _read(tmp_path: Path, text: str | bytes, **config: object) -> RecordsTable:
    path = tmp_path / "records.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_records(path, RecordsConfig.model_validate(config), PlaneTable())


def _one(tmp_path: Path, header: str, row: str) -> tuple[Record, tuple[str, ...]]:
    """The record of one row below `image` and `header`, and what was rejected."""
    table = _read(tmp_path, f"image;{header}\nx.png;{row}\n")
    return table.records[0], table.rejected


FULL = (
    "image,patient,exam date,GA,view,BPD (cm),HC,side,presentation,"
    "findings,structures,centre,device,name,dob,operator\n"
    "x.png,P1,2024-06-06,22w3d,Femur,5.5,200,L,vertex,"
    "Q62.0; Hydronephrosis,Femur,North,Aloka,Mia Doe,31.01.1990,Dr. Roe\n"
)


def test_a_full_row_is_read_with_its_types(tmp_path: Path) -> None:
    table = _read(tmp_path, FULL)
    assert table.rejected == ()
    assert table.records == (
        Record(
            "x.png", patient="P1", center="North", machine="Aloka", plane="femur",
            region="lower limb", ga_days=157,
            ga_source="recorded",
            laterality="left", presentation="cephalic", findings=("Q62.0", "hydronephrosis"),
            structures=("femur",), bpd_mm=55.0, hc_mm=200.0,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("title", "cell", "field", "value"),
    [
        ("BMI", "24,96", "bmi_band", "below 25"),
        ("Body mass index (kg/m2)", "25.00", "bmi_band", "25 to 29.9"),
        ("maternal_bmi", "29.99", "bmi_band", "25 to 29.9"),
        ("IMC", "43", "bmi_band", "30 and above"),
        ("Parity", "0", "parity", "nulliparous"),
        ("Parität", "1.0", "parity", "parous"),
        ("para", "G1 P0", "parity", "nulliparous"),
        ("para", "G3/P2", "parity", "parous"),
        ("para", "p0+1", "parity", "nulliparous"),
        ("parity", "Multiparous", "parity", "parous"),
    ],
)
def test_of_the_mother_a_band_is_kept_and_never_the_number(
    tmp_path: Path, title: str, cell: str, field: str, value: str
) -> None:
    record, rejected = _one(tmp_path, f"patient;{title}", f"P1;{cell}")
    assert (getattr(record, field), rejected) == (value, ())
    assert cell not in repr(record)


def test_private_values_are_kept_for_the_gate_with_other_forms_of_dates(tmp_path: Path) -> None:
    (record,) = _read(tmp_path, FULL).records
    assert {
        "P1",
        "Mia Doe",
        "Dr. Roe",
        "2024-06-06",
        "20240606",
        "31.01.1990",
        "1990-01-31",
    } <= set(record.private)
    assert "Mia Doe" not in repr(record)


@pytest.mark.parametrize("column", ["patient", "Name", "dob", "operator", "exam date", "image"])
def test_no_private_column_is_copied_as_center_or_machine(tmp_path: Path, column: str) -> None:
    path = tmp_path / "records.csv"
    path.write_text(FULL)
    with pytest.raises(SonoError, match=f"(?i){column}.*--center-from"):
        read_records(path, RecordsConfig(), PlaneTable(), center_column=column)
    for field in ("machine", "center"):
        with pytest.raises(SonoError, match=f"(?i){column}.* {field}"):
            _read(tmp_path, FULL, columns={field: column})
    assert (
        read_records(path, RecordsConfig(), PlaneTable(), center_column="device").records[0].center
        == "Aloka"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encoding_delimiter_and_line_end_are_found_out(
    tmp_path: Path, encoding: str, delimiter: str, end: str
) -> None:
    rows = (("image", "center"), ("Müller.png", "Köln"))
    table = _read(tmp_path, "".join(delimiter.join(row) + end for row in rows).encode(encoding))
    assert [(record.key, record.center) for record in table.records] == [("Müller.png", "Köln")]


def test_a_spreadsheets_own_hint_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    table = _read(tmp_path, 'sep=;\r\n\r\nimage;center\r\n\r\nx.png;"North, East"\r\n;\r\n')
    assert [(record.key, record.center) for record in table.records] == [("x.png", "North, East")]


@pytest.mark.parametrize(
    ("encoding", "name"), [("cp1251", "Фамилия Имя"), ("gb18030", "孕妇姓名"), ("cp1253", "Όνομα")]
)
def test_text_of_another_script_is_not_read_as_windows_1252(
    tmp_path: Path, encoding: str, name: str
) -> None:
    content = f"image;name;center\nx.png;{name};North\n".encode(encoding)
    with pytest.raises(SonoError, match="set 'encoding' under"):
        _read(tmp_path, content)
    (record,) = _read(tmp_path, content, encoding=encoding).records
    assert record.name == name


def test_settings_name_delimiter_encoding_and_columns(tmp_path: Path) -> None:
    text = "Bild:Ebene\nx.png:Femur\n".encode("utf-16-le")
    columns = {"image": "Bild", "plane": "Ebene"}
    (record,) = _read(tmp_path, text, delimiter=":", encoding="utf-16-le", columns=columns).records
    assert record.plane == "femur"


def test_settings_come_from_sono_toml(tmp_path: Path) -> None:
    (tmp_path / "sono.toml").write_text('[records.columns]\nimage = "Bild"\n')
    assert read_section(tmp_path / "sono.toml", "records", RecordsConfig).columns == {
        "image": "Bild"
    }


@pytest.mark.parametrize(
    "nothing", ["", " ", "NaN", "None", "null", "N/A", "-", "unknown", "\u00a0"]
)
def test_every_way_of_writing_nothing_is_null(tmp_path: Path, nothing: str) -> None:
    record, rejected = _one(tmp_path, "patient;plane;ga;hc;side", ";".join([nothing] * 5))
    assert record == Record("x.png")
    assert rejected == ()


def test_leading_zeros_in_the_spreadsheets_own_quotes_are_kept(tmp_path: Path) -> None:
    assert _one(tmp_path, "patient", '"=""0012"""')[0].patient == "0012"


@pytest.mark.parametrize(
    ("header", "row", "days"),
    [
        ("ga", "22+3", 157),
        ("GA (weeks)", "22.43", 157),
        ("ga_weeks", "22+3", 157),
        ("GA [days]", "157", 157),
        ("gestational_age_days", "35", 35),
        ("ga_weeks;ga_days", "22;3", 157),
        ("ga_weeks;ga_days", "22.0;3.0", 157),
        ("exam date;lmp", "06.06.2024;01.01.2024", 157),
        ("exam_date;edd", "20240606;2024-10-07", 157),
        ("exam_date;edd;ga", "20240606;2024-10-07;20+0", 140),
        ("exam_date", "20240606", None),
    ],
)
def test_gestational_age_comes_from_its_columns_or_from_dates(
    tmp_path: Path, header: str, row: str, days: int | None
) -> None:
    record, rejected = _one(tmp_path, header, row)
    assert (record.ga_days, rejected) == (days, ())


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "ga",
            "12-Mar",
            r"records.csv:2: gestational age '99-Aa' is a date or a time: a spreadsheet",
        ),
        ("ga", "3", "outside 4 to 45 weeks"),
        ("exam_date;lmp", "2024-06-06;2020-06-06", "the dates give a gestational age of 1461 days"),
        ("exam_date;lmp", "13/13/2024;31/01/2024", "exam_date: date '99/99/9999'"),
        ("bpd", "0.2", "bpd '0.2' is outside 5 to 130 mm; if the column is in cm, name it bpd_cm"),
        ("hc", "2000", "hc '2000' is outside 20 to 450 mm"),
        (
            "bpd",
            "4.7",
            "bpd looks like cm, not mm, in the complete column and is left out; name the "
            "column bpd_cm",
        ),
        ("hc", "1e999", "hc '1e999' is outside"),
        ("hc", "20o", "hc '20o' is not a length"),
        ("pixel size", "94", "spacing '94' is outside"),
        ("side", "lft", r"unknown laterality 'lft'; did you mean 'left'\?"),
        ("BMI (kg/m2)", "178", "BMI '178' is not a number from 12 to 80; write it in kg/m2"),
        ("bmi", "-24.5", "BMI '-24.5' is not a number"),
        ("parity", "1001", "unknown parity '1001'"),
        ("parity", "25", "parity '25' is above 20; write earlier births"),
        ("parity", "primipara", "unknown parity 'primipara'"),
        ("presentation", "sitting", "unknown presentation 'sitting'"),
        ("region", "tail", "unknown region 'tail'"),
        ("findings", "Mrs. Doe was late", "unknown finding 'Aa. Aa a a' is left out"),
        ("structures", "tail", "unknown structure 'tail' is left out"),
        ("center", "x" * 10**6, "has 1000000 characters, more than 200"),
        ("center", "a\x1b[31mb", "has control characters"),
    ],
)
def test_a_bad_value_is_left_out_and_told_while_the_row_stays(
    tmp_path: Path, header: str, row: str, message: str
) -> None:
    record, rejected = _one(tmp_path, f"patient;{header}", f"P1;{row}")
    assert record == Record("x.png", patient="P1")
    assert len(rejected) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(rejected[0])


@pytest.mark.parametrize(
    ("header", "cell", "expected"),
    [
        ("hc", "20,5 cm", 205.0),
        ("hc_cm", "20.5", 205.0),
        ("hc_cm", "205 mm", 205.0),
        ("HC (mm)", "205", 205.0),
    ],
)
def test_lengths_are_in_mm_whatever_the_unit(
    tmp_path: Path, header: str, cell: str, expected: float
) -> None:
    assert _one(tmp_path, header, cell)[0].hc_mm == pytest.approx(expected)


def test_ids_that_a_spreadsheet_rounded_to_15_digits_are_left_out(tmp_path: Path) -> None:
    rounded = "image,patient\na.png,1234567890123450\nb.png,12345678901234500\nc.png,4711\n"
    table = _read(tmp_path, rounded)
    assert [record.patient for record in table.records] == [None, None, "4711"]
    assert "has lost digits to a spreadsheet" in table.rejected[0]
    exact = "image,patient\na.png,1234567890123450\nb.png,1234567890123457\n"
    assert [record.patient for record in _read(tmp_path, exact).records] == [
        "1234567890123450",
        "1234567890123457",
    ]


@pytest.mark.parametrize(
    "doubtful", ["cyst?", "cyst (?)", "cyst -", "cyst: -", "- cyst", "cyst +/-", "!cyst"]
)
def test_a_finding_with_a_sign_of_doubt_or_denial_is_left_out(
    tmp_path: Path, doubtful: str
) -> None:
    table = _read(tmp_path, f"image;findings\nx.png;{doubtful}, mass\n")
    assert table.records[0].findings == ("mass",)
    assert len(table.rejected) == 1 and "unknown finding" in table.rejected[0]


def test_findings_are_a_closed_list_that_a_study_widens(tmp_path: Path) -> None:
    table = _read(
        tmp_path, "image;findings\nx.png;Situs inversus, cyst\n", findings=("situs inversus",)
    )
    assert (table.records[0].findings, table.rejected) == (("situs inversus", "cyst"), ())


def test_a_name_in_a_column_of_words_is_not_repeated(tmp_path: Path) -> None:
    tricky = "Jane Doe; known: Jane; did you mean 'Doe'?"
    text = f'image,findings,hc,plane\na.png,"Jane Doe",1,\nb.png,nodul,1,\nc.png,,"{tricky}",\n'
    told = " ".join(_read(tmp_path, text).rejected)
    assert "Jane" not in told
    assert "Doe" not in told
    assert "records.csv:3: unknown finding 'nodul' is left out; did you mean 'nodule'?" in told
    with pytest.raises(SonoError, match="3: unknown plane 'Aa Aa'") as caught:
        _read(tmp_path, "image,plane\na.png,femur\nb.png,Jane Doe\n")
    assert "Jane" not in str(caught.value)


def test_a_heading_above_the_titles_is_passed_over(tmp_path: Path) -> None:
    table = _read(tmp_path, "Clinic list,,\nimage,patient,plane\nx.png,P1,femur\n")
    assert [(record.key, record.plane, record.line) for record in table.records] == [
        ("x.png", "femur", 3)
    ]
    assert [record.key for record in _read(tmp_path, "image,,\nx.png,,\ny.png,,\n").records] == [
        "x.png",
        "y.png",
    ]


def test_a_table_of_too_many_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="2003 columns, more than 2000"):
        _read(tmp_path, "image,patient" + ",c" * 2001 + "\nx.png,P1" + ",1" * 2001 + "\n")


def test_an_unknown_plane_stops_with_its_row_and_a_suggestion(tmp_path: Path) -> None:
    text = "image,plane\na.png,femur\nb.png,femor\nc.png,Bein\nd.png,femor\n"
    with pytest.raises(SonoError) as caught:
        _read(tmp_path, text)
    assert str(caught.value) == (
        "records.csv: 2 rows (line 3, 5): unknown plane 'femor'; did you mean 'femur'?; "
        "records.csv:4: unknown plane "
        "'Bein'; it may mean: lower leg or femur; correct the table, or give each label a plane "
        "under [study.planes] in sono.toml or in a planes file ([study] planes_file; "
        "docs/records.md)"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"a\0b.png,femur,", "2: the row contains a NUL byte"),
        (b"x.png", "2: 1 cell under 3 columns"),
        (b"x.png,femur,,more", "2: 4 cells under 3 columns"),
        (b",femur,", "2: names no image, study or patient"),
        (b'"a"b,femur,', "2: the row is not readable"),
        (b"x" * 10**6 + b",femur,", "2: names no image, study or patient"),
    ],
)
def test_a_bad_row_is_left_out_and_the_others_stay(
    tmp_path: Path, row: bytes, message: str
) -> None:
    table = _read(tmp_path, b"image,plane,note\n" + row + b"\ny.png,femur,\n")
    assert [record.key for record in table.records] == ["y.png"]
    assert table.rejected[0].startswith(f"records.csv:{message}")


def test_a_long_note_that_is_not_used_does_no_harm(tmp_path: Path) -> None:
    table = _read(
        tmp_path, 'image,note,plane\nx.png,"' + "long\n" * 200_000 + '",femur\ny.png,,leg\nz.png,\n'
    )
    assert [record.plane for record in table.records] == ["femur", "leg"]
    assert table.rejected == ("records.csv:200004: 2 cells under 3 columns; the row is left out",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the table is empty"),
        (b" \n\n", "the table is empty"),
        (b"image,plane\n", "a header without rows"),
        (
            b"a,b\n1,2\n",
            "no column names the image, the study or the patient; its columns look like 'a', 'a'",
        ),
        (b"PK\x03\x04rest", "not a readable XLSX workbook; save it again"),
        (b"\xd0\xcf\x11\xe0rest", "a workbook of the old XLS format; save it as XLSX"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text table"),
        (
            b'image,plane\nx.png,"femur\ny.png,leg\n',
            "records.csv:2: a quotation mark in this row is never closed",
        ),
        (b"\xff\xfei", "not utf-16 text"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SonoError, match=message):
        _read(tmp_path, content)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_below_a_header_give_records_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for header in (b"", b"image,ga,hc\n", b"image;patient\n"):
        try:
            assert all(record.key for record in _read(folder, header + body).records)
        except SonoError as error:
            assert "records.csv" in str(error)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(SonoError, match="no such records table"):
            read_records(path, RecordsConfig(), PlaneTable())


@pytest.mark.parametrize(("key", "value"), [("encoding", "utf-99"), ("delimiter", "::")])
def test_wrong_settings_are_named(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SonoError, match=f"'?{value}'?.*records.{key}"):
        _read(tmp_path, "image\nx.png\n", **{key: value})


def test_of_equal_rows_one_is_kept_and_of_conflicting_ones_what_they_agree_on(
    tmp_path: Path,
) -> None:
    table = _read(tmp_path, "image,plane\nx.png,femur\nX.PNG,femur\nx.png,leg\n")
    assert [record.plane for record in table.records] == [None]
    message = (
        "records.csv:4: the image of line 2 again, with different plane; these fields are left out"
    )
    assert table.rejected == (message,)


def test_columns_without_a_meaning_are_named(tmp_path: Path) -> None:
    table = _read(tmp_path, "image,plane,Bemerkung,doctor,leer\nx.png,femur,kommt wieder,Doe,\n")
    assert table.unused == ("Bemerkung",)


def test_of_a_patients_conflicting_rows_the_common_part_is_kept(tmp_path: Path) -> None:
    table = _read(tmp_path, "patient,center,ga,doctor\nP1,North,20+0,Doe\nP1,North,30+0,Roe\n")
    assert table.records == (Record("P1", kind="patient", patient="P1", center="North"),)
    assert {"Doe", "Roe"} <= set(table.records[0].private)
    assert table.rejected[0].endswith(
        "the patient of line 2 again, with different ga_days; these fields are left out"
    )


def _table(*records: Record, folders: bool = False) -> RecordsTable:
    return RecordsTable(records, (), "table", folders)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("x.png", "/raw/a/x.png"),
        ("x", "/raw/a/x.png"),
        ("x.png", "/raw/a/x.jpg"),
        ("X.PNG", "/raw/a/x.png"),
        ("IM1.dcm", "/raw/IM1"),
        ("1.2.840.5", "/raw/1.2.840.5"),
        ("a/x.png", "/raw/a/x.png"),
        ("a\\x", "/raw/a/x.png"),
        ("./a/x.png", "a/x.png"),
        ("export/a/x.png", "a/x.png"),
        ("C:\\old\\a\\x.png", "/new/a/x.png"),
        ("Mu\u0308ller.png", "/raw/M\u00fcller.png"),
    ],
)
def test_a_key_finds_its_file(key: str, path: str) -> None:
    assert _table(Record(key), Record("y.png")).match(path.encode(), None, None) == Record(key)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("x.png", "/raw/xx.png"),
        ("001_HC.png", "/raw/001_HC_Mask.png"),
        ("b/x.png", "/raw/a/x.png"),
        ("1.2.840", "/raw/1.2.840.5"),
        ("/old/b/x.png", "/new/a/x.png"),
        ("raw", "/raw/a/x.png"),
    ],
)
def test_a_key_does_not_find_another_file(key: str, path: str) -> None:
    assert _table(Record(key)).match(path.encode(), None, None) is None


def test_a_name_of_an_old_code_page_is_matched() -> None:
    assert _table(Record("M\u00fcller.png")).match(b"/raw/M\xfcller.png", None, None) is not None


def test_the_more_specific_row_wins_and_a_tie_gives_none() -> None:
    table = _table(Record("x.png"), Record("a/x.png"), Record("y.png"), Record("y.jpg"))
    assert table.match(b"/raw/a/x.png", None, None) == Record("a/x.png")
    assert table.match(b"/raw/b/x.png", None, None) == Record("x.png")
    assert table.match(b"/raw/y.jpg", None, None) == Record("y.jpg")
    assert table.match(b"/raw/y.bmp", None, None) is None


def test_rows_of_studies_and_patients_are_matched_by_id(tmp_path: Path) -> None:
    table = _read(
        tmp_path,
        "patient,study,accession,center\nP1,1.2.3,A1,one\nP2,,A2,two\nP3,,,three\nP1,1.2.4,A4,four\n",
    )
    found = [
        table.match(b"/raw/IM1", patient, study)
        for patient, study in (("P1", "1.2.3"), ("P2", "a2"), ("P3 ", None))
    ]
    assert [record and record.center for record in found] == [
        "one",
        "two",
        None,
    ]  # no date shows whose exam P3's row is
    assert table.match(b"/raw/IM1", "P1", None) is None  # two studies
    assert table.match(b"/raw/IM1", "P9", "1.2.3") is None  # another patient
    assert table.match(b"/raw/IM1", None, None) is None


def test_a_row_of_an_image_goes_before_one_of_its_patient_and_is_no_row_of_a_patient() -> None:
    image, patient = Record("x.png", patient="P1"), Record("P1", kind="patient", patient="P1")
    assert _table(image, patient).match(b"x.png", "P1", None) is image
    rows = [
        join([FileFacts(b"y.png", "P1")], _table(*records))[0].rows
        for records in ((image, patient), (image,))
    ]
    assert rows == [(patient,), ()]


def test_folders_stand_for_patients_only_on_request() -> None:
    patient = Record("P1", kind="patient", patient="P1")
    file = FileFacts(b"/raw/P1/x.png")
    found = [join([file], _table(patient, folders=folders))[0].patient for folders in (False, True)]
    assert found == [None, "p1"]


@pytest.mark.slow
def test_20_000_rows_are_read_and_matched(tmp_path: Path) -> None:
    rows = "".join(f"im{index}.png,P{index // 9},femur,22+3,200\n" for index in range(20_000))
    table = _read(tmp_path, "image,patient,plane,ga,hc\n" + rows)
    files = [FileFacts(f"/raw/im{index}.png".encode()) for index in range(20_000)]
    assert all(match.record for match in join(files, table))


SIZES = "image,name,patient,HC (mm),AC (mm)\n"


@pytest.mark.parametrize(
    "row",
    [
        "0.png,Doe, Jane,W1001,200",  # an unquoted comma, and the last cell is missing
        "0.png,Doe, Jane,W9,200",
        "0.png,W1001,200,190,",  # a cell is missing at the beginning
    ],
)
def test_a_row_whose_cells_are_shifted_is_left_out(tmp_path: Path, row: str) -> None:
    others = "1.png,Roe,W1002,210,190\n2.png,Poe,W1003,220,195\n"
    table = _read(tmp_path, f"{SIZES}{row}\n{others}")
    assert [record.key for record in table.records] == ["1.png", "2.png"]
    assert any("cells seem to be shifted" in message for message in table.rejected)


@pytest.mark.parametrize(
    "row", ["0.png,Doe,W1001,n.m.,200", "0.png,Doe,W1001,2oo,200", "0.png,Doe,W1001,9999,200"]
)
def test_a_bad_length_alone_does_not_cost_the_row(tmp_path: Path, row: str) -> None:
    table = _read(tmp_path, f"{SIZES}{row}\n1.png,Roe,W1002,210,190\n2.png,Poe,W1003,220,195\n")
    record = table.records[0]
    assert (record.key, record.patient, record.hc_mm, record.ac_mm) == ("0.png", "W1001", None, 200)
