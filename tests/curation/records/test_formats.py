"""Records tables as workbooks, Parquet and JSON lines.

They give the same rows as a CSV, and changes by spreadsheets are undone or reported.
"""

import json
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook, load_workbook

from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.records.formats import cell_text, read_sheet
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records

HEADER = ("image", "patient", "exam date", "LMP", "HC (mm)")


def _workbook(path: Path, *rows: tuple[Any, ...], formats: dict[str, str] | None = None) -> Path:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    for place, number_format in (formats or {}).items():
        book.active[place].number_format = number_format
    book.save(path)
    return path


def _read(path: Path, **config: object) -> RecordsTable:
    return read_records(path, RecordsConfig.model_validate(config), PlaneTable())


def test_every_format_gives_the_same_record(tmp_path: Path) -> None:
    row = ("x.png", "P1", date(2024, 6, 6), date(2024, 1, 1), 200.5)
    texts = [cell_text(value) for value in row]
    (tmp_path / "a.csv").write_text(",".join(HEADER) + "\n" + ",".join(texts) + "\n")
    (tmp_path / "a.jsonl").write_text(json.dumps(dict(zip(HEADER, texts, strict=True))) + "\n")
    pd.DataFrame([row], columns=list(HEADER)).to_parquet(tmp_path / "a.parquet")
    _workbook(tmp_path / "a.xlsx", HEADER, row)
    tables = [_read(tmp_path / f"a.{suffix}") for suffix in ("csv", "jsonl", "parquet", "xlsx")]
    assert all(table.records == tables[0].records and table.rejected == () for table in tables)
    record = tables[0].records[0]
    assert (record.patient, record.ga_days, record.ga_source, record.hc_mm) == (
        "P1",
        157,
        "lmp",
        200.5,
    )


def test_the_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    _workbook(tmp_path / "a.csv", ("image",), ("x.png",))
    (tmp_path / "b.xlsx").write_text("image\ny.png\n")
    assert [_read(tmp_path / name).records[0].key for name in ("a.csv", "b.xlsx")] == [
        "x.png",
        "y.png",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (pd.NaT, ""),
        (157.0, "157"),
        (22.43, "22.43"),
        (datetime(2024, 1, 31), "2024-01-31"),
        (datetime(2024, 1, 31, 8, 15), "2024-01-31 08:15"),
        (["cyst", None, "mass"], "cyst; mass"),
        (123456789012345678.0, "1.23456789012346E+17"),
        (123456789012345678, "123456789012345678"),
        (" x ", "x"),
    ],
)
def test_a_typed_value_becomes_what_a_person_would_write(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_rows_keep_the_numbers_that_the_spreadsheet_shows(tmp_path: Path) -> None:
    path = _workbook(
        tmp_path / "a.xlsx", (), ("image", "ga"), ("x.png", "22w3d"), (), ("y.png", "3")
    )
    assert _read(path).rejected == (
        "a.xlsx:5: gestational age '9' is outside 4 to 45 weeks; "
        "correct it or leave the cell empty",
    )


def test_leading_zeros_that_only_the_format_shows_are_kept(tmp_path: Path) -> None:
    path = _workbook(
        tmp_path / "a.xlsx", ("image", "patient"), ("x.png", 12), formats={"B2": "00000"}
    )
    assert _read(path).records[0].patient == "00012"


@pytest.mark.parametrize(
    ("number_format", "text"),
    [
        ('"P"00000', "P00012"),
        (r"\P00000", "P00012"),
        ('"P-"000"-A"', "P-012-A"),
        ("00000", "00012"),
        ("0.00", "12"),
    ],
)
def test_text_that_only_the_format_shows_belongs_to_the_id(
    tmp_path: Path, number_format: str, text: str
) -> None:
    path = _workbook(
        tmp_path / "a.xlsx", ("file", "patient"), ("a.png", 12), formats={"B2": number_format}
    )
    assert _read(path).records[0].patient == text


def test_an_age_that_became_a_date_is_refused_and_one_that_became_a_sum_is_read(
    tmp_path: Path,
) -> None:
    path = _workbook(
        tmp_path / "a.xlsx",
        ("image", "ga"),
        ("x.png", datetime(2024, 3, 12)),
        ("y.png", "=22+3"),
        ("z.png", 22.5),
    )
    table = _read(path)
    assert [record.ga_days for record in table.records] == [None, 157, 158]
    assert len(table.rejected) == 1
    assert "a.xlsx:2: gestational age '9999-99-99' is a date or a time" in table.rejected[0]


def test_a_formula_counts_by_its_last_result(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "a.xlsx", ("image", "HC"), ("x.png", "=B3/2"))
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as target:
        for item in source.namelist():
            target.writestr(
                item,
                source.read(item)
                .replace(b"<v></v>", b"<v>100.5</v>")
                .replace(b"<v />", b"<v>100.5</v>"),
            )
    assert _read(tmp_path / "b.xlsx").records[0].hc_mm == 100.5


def _merged(path: Path, rows: list[tuple[Any, ...]], *ranges: str) -> RecordsTable:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    for place in ranges:
        book.active.merge_cells(place)
    book.save(path)
    return _read(path)


def test_cells_merged_over_the_rows_of_one_patient_serve_them_all(tmp_path: Path) -> None:
    rows = [
        ("Patient ID", "GA", "File name"),
        ("W1", "22w3d", "a.png"),
        (None, None, "b.png"),
        ("W2", "30w1d", "c.png"),
    ]
    table = _merged(
        tmp_path / "a.xlsx", [*rows, (None, None, "d.png")], "A2:A3", "B2:B3", "A4:A5", "B4:B5"
    )
    found = [(record.key, record.patient, record.ga_days) for record in table.records]
    assert found == [
        ("a.png", "W1", 157),
        ("b.png", "W1", 157),
        ("c.png", "W2", 211),
        ("d.png", "W2", 211),
    ]
    assert table.rejected == ()


def test_empty_cells_that_are_not_merged_stay_empty(tmp_path: Path) -> None:
    rows = [
        ("Patient ID", "File name"),
        ("W1", "a.png"),
        (None, "b.png"),
        (None, "c.png"),
        ("W2", "d.png"),
    ]
    table = _merged(tmp_path / "a.xlsx", [*rows, (None, "e.png")], "A2:A3")
    assert [record.patient for record in table.records] == ["W1", "W1", None, "W2", None]


def test_a_merged_file_name_and_a_merged_heading_are_told_from_titles(tmp_path: Path) -> None:
    rows = [
        ("Clinic", None, None),
        ("File name", "Structures", "Patient"),
        (None, None, None),
        ("a.png", "femur", "W1"),
    ]
    table = _merged(
        tmp_path / "a.xlsx",
        [*rows, (None, "fetal head", None)],
        "A1:C1",
        "A2:A3",
        "B2:B3",
        "C2:C3",
        "A4:A5",
        "C4:C5",
    )
    assert [(record.key, record.patient, record.line) for record in table.records] == [
        ("a.png", "W1", 4)
    ]
    assert "5: the image of line 4 again, with different structures" in table.rejected[0]


def test_cells_merged_over_columns_fill_the_first_alone(tmp_path: Path) -> None:
    rows = [
        ("File name", "Patient", "Center", "Machine"),
        ("a.png", "W1", "North", None),
        ("b.png", None, None, None),
    ]
    table = _merged(tmp_path / "a.xlsx", rows, "B2:B3", "C2:D3")
    found = [(record.patient, record.center, record.machine) for record in table.records]
    assert found == [("W1", "North", None), ("W1", "North", None)]


def test_a_title_merged_over_columns_is_the_title_of_each(tmp_path: Path) -> None:
    rows = [("File name", "HC (mm)", None), ("a.png", 45, 200)]  # a centile and a size
    with pytest.raises(SonoError, match=r"'HC \(mm\)' and 'HC \(mm\)'"):
        _merged(tmp_path / "a.xlsx", rows, "B1:C1")
    spaced = [("File name", "HC (mm)", None), ("a.png", 200, None)]
    assert _merged(tmp_path / "b.xlsx", spaced, "B1:C1").records[0].hc_mm == 200


def test_a_merged_formula_and_a_range_beyond_the_sheet(tmp_path: Path) -> None:
    rows = [("File name", "GA"), ("a.png", "=22+3"), ("b.png", None)]
    table = _merged(tmp_path / "a.xlsx", rows, "B2:B99", "Z5:Z9")
    assert [record.ga_days for record in table.records] == [157, 157]


def test_ids_that_a_gap_made_decimal_are_whole_again(tmp_path: Path) -> None:
    text = "patient_id,study,file,center\n4711.0,9.0,1.0,A\n4712.0,,2.0,B\n,,3.0,C\n"
    (tmp_path / "a.csv").write_text(text)
    found = [
        (record.patient, record.study, record.key) for record in _read(tmp_path / "a.csv").records
    ]
    assert found == [("4711", "9", "1"), ("4712", None, "2"), (None, None, "3")]
    (tmp_path / "a.csv").write_text(text.replace("4712.0", "P4712"))
    assert [record.patient for record in _read(tmp_path / "a.csv").records] == [
        "4711.0",
        "P4712",
        None,
    ]


@pytest.mark.parametrize(("unit", "size"), [("cm", "20.1"), ("(mm)", "201"), ("", "201")])
def test_units_may_stand_in_a_row_below_the_titles(tmp_path: Path, unit: str, size: str) -> None:
    text = f"file,patient,GA,HC\n,,weeks,{unit}\nx.png,W1,22,{size}\n"
    (tmp_path / "a.csv").write_text(text)
    table = _read(tmp_path / "a.csv")
    assert [(record.line, record.ga_days, record.hc_mm) for record in table.records] == [
        (3, 154, 201.0)
    ]
    assert table.rejected == ()
    (tmp_path / "a.csv").write_text(text.replace("weeks", "a word").replace("20.1", "201"))
    assert len(_read(tmp_path / "a.csv").rejected) == 1


def test_the_sheet_is_named_in_the_settings(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(("nothing",))
    book.create_sheet("Scans").append(("image",))
    book["Scans"].append(("x.png",))
    book.save(tmp_path / "a.xlsx")
    assert _read(tmp_path / "a.xlsx", sheet="Scans").records[0].key == "x.png"
    with pytest.raises(SonoError, match=r"no sheet 'Scan'; did you mean 'Scans'\?"):
        _read(tmp_path / "a.xlsx", sheet="Scan")


@pytest.mark.parametrize("identity", ["1.23E+05", "4,5E+11", "1.2345678e+16"])
def test_a_rounded_id_is_left_out_since_two_patients_would_share_it(
    tmp_path: Path, identity: str
) -> None:
    (tmp_path / "a.csv").write_text(f"image;patient\nx.png;{identity}\n;{identity}\n")
    table = _read(tmp_path / "a.csv")
    assert [(record.key, record.patient) for record in table.records] == [("x.png", None)]
    assert "2: the patient id" in table.rejected[0]
    assert "lost digits to a spreadsheet" in table.rejected[0]
    assert len(table.rejected) == 3  # the second row names nobody else


def test_a_json_line_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    lines = [
        '{"image": "x.png", "findings": ["cyst", "mass"]}',
        "[1]",
        "{",
        "",
        '{"image": "y.png", "ga": 22.43}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    table = _read(tmp_path / "a.jsonl")
    assert [(record.key, record.findings, record.ga_days) for record in table.records] == [
        ("x.png", ("cyst", "mass"), None),
        ("y.png", (), 157),
    ]
    assert [text[:10] for text in table.rejected] == ["a.jsonl:2:", "a.jsonl:3:"]


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04", b"PAR1 and no more", b'{"image": "x.png"', b"{}\n{}"]
)
def test_a_broken_file_of_any_format_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(SonoError, match=r"a\.xlsx: "):
        read_sheet(tmp_path / "a.xlsx")


def test_a_workbook_without_its_parts_is_a_user_error(tmp_path: Path) -> None:
    _workbook(tmp_path / "a.xlsx", ("image",), ("x.png",))
    with zipfile.ZipFile(tmp_path / "a.xlsx") as source:
        names = source.namelist()
        for missing in names:
            with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as target:
                for name in names:
                    if name != missing:
                        target.writestr(name, source.read(name))
            try:
                assert read_sheet(tmp_path / "b.xlsx").header == ("image",)
            except SonoError as error:
                assert "b.xlsx" in str(error)
    for cut in range(1, 4000, 177):
        (tmp_path / "b.xlsx").write_bytes((tmp_path / "a.xlsx").read_bytes()[:cut])
        with pytest.raises(SonoError, match=r"b\.xlsx"):
            read_sheet(tmp_path / "b.xlsx")


def test_month_first_dates_are_read_so_where_one_of_them_shows_it(tmp_path: Path) -> None:
    rows = "x.png,06/06/2024,01/01/2024\ny.png,06/13/2024,01/08/2024\nz.png,03/04/2024,01/01/2024\n"
    (tmp_path / "a.csv").write_text("image,exam date,LMP\n" + rows)
    assert [record.ga_days for record in _read(tmp_path / "a.csv").records] == [157, 157, 63]
    day_first = _read(tmp_path / "a.csv", date_order="day")
    assert [record.ga_days for record in day_first.records] == [157, None, 93]


def test_the_recorded_age_is_chosen_first_and_conflicts_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "image,ga,exam date,LMP,EDD,CRL\n"
        "a.png,12w0d,2024-06-06,2024-03-14,,60\n"  # LMP says 84, CRL 87
        "b.png,12w0d,2024-06-06,2024-02-20,,80\n"  # 107, 97
        "c.png,,2024-06-06,2024-03-14,2024-12-30,\n"  # the due date gives 73
        "d.png,,,,,60\n"
    )
    found = [(r.ga_days, r.ga_source, r.ga_conflicts) for r in _read(tmp_path / "a.csv").records]
    assert found == [
        (84, "recorded", ()),
        (84, "recorded", ("lmp", "crl")),
        (73, "due", ("lmp",)),
        (None, None, ()),
    ]
    by_size = _read(tmp_path / "a.csv", ga_from=["recorded", "crl"]).records[3]
    assert (by_size.ga_days, by_size.ga_source) == (87, "crl")


def test_a_spoilt_age_leaves_the_others_in_force(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,ga,exam date,LMP\nx.png,12-Mar,2024-06-06,2024-01-01\n")
    table = _read(tmp_path / "a.csv")
    assert (table.records[0].ga_days, table.records[0].ga_source, len(table.rejected)) == (
        157,
        "lmp",
        1,
    )


def test_a_parquet_date_that_no_calendar_has_is_told_and_the_row_stays(tmp_path: Path) -> None:
    stamps = pa.array([2**40, 1717632000], type=pa.timestamp("s"))
    days = pa.array([2**31 - 1, 19723], type=pa.date32())
    table = pa.table({"image": ["x.png", "y.png"], "exam date": stamps, "lmp": days})
    pq.write_table(table, tmp_path / "a.parquet")
    read = _read(tmp_path / "a.parquet")
    assert [(record.key, record.ga_days) for record in read.records] == [
        ("x.png", None),
        ("y.png", 157),
    ]
    assert len(read.rejected) == 1
    assert read.rejected[0].startswith(
        "a.parquet:1: exam_date: date 'a[a] a a a' is not understood"
    )


def test_a_workbook_without_cells_is_refused_in_words(tmp_path: Path) -> None:
    book = Workbook()
    book.create_chartsheet("Chart")
    book.remove(book.worksheets[0])
    book.save(tmp_path / "chart.xlsx")
    with pytest.raises(
        SonoError, match=r"chart.xlsx: (the workbook has no sheet of cells|not a readable XLSX)"
    ):
        read_sheet(tmp_path / "chart.xlsx")


def test_a_merged_heading_of_a_workbook_is_passed_over(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "a.xlsx", ("Clinic list",), ("image", "patient"), ("x.png", "P1"))
    assert [(record.key, record.patient) for record in _read(path).records] == [("x.png", "P1")]


def test_errors_of_a_spreadsheet_are_empty_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "file,patient,hospital,GA\na.png,#REF!,#NAME?,22w\nb.png,#REF!,North,#VALUE!\n"
    )
    table = _read(tmp_path / "a.csv")
    assert [(record.patient, record.center, record.ga_days) for record in table.records] == [
        (None, None, 154),
        (None, "North", None),
    ]
    assert table.rejected[0].startswith(
        "a.csv: 2 cells (line 2, 3) with the spreadsheet error #REF! are read as empty"
    )
    assert len(table.rejected) == 3


def test_a_formula_without_a_stored_result_and_a_second_sheet_are_reported(tmp_path: Path) -> None:
    path = _workbook(
        tmp_path / "a.xlsx", ("file", "patient"), ("a.png", '="W"&"1"'), ("b.png", "W2")
    )
    book = load_workbook(path)
    for title, rows in (
        ("Second", [("file", "patient"), ("c.png", "W3")]),
        ("Notes", [("a heading",)]),
    ):
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    table = _read(path)
    assert [record.patient for record in table.records] == [None, "W2"]
    text = " ".join(table.rejected)
    assert "1 cell (line 2) with a formula without its result is read as empty" in text
    assert "not 'Second';" in text
    assert [record.patient for record in _read(path, sheet="Second").records] == ["W3"]
    assert not _read(path, sheet="Second").rejected


def test_dates_of_both_orders_leave_those_that_fit_both_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("MRN,LMP\nW1,08/07/2023\nW2,08/27/2023\nW3,27/08/2023\n")
    table = _read(tmp_path / "a.csv")
    assert [record.lmp for record in table.records] == [None, date(2023, 8, 27), date(2023, 8, 27)]
    assert len(table.rejected) == 1 and "a.csv:2: lmp: date" in table.rejected[0]
    assert not table.doubts
    chosen = _read(tmp_path / "a.csv", date_order="month")
    assert [record.lmp for record in chosen.records] == [date(2023, 8, 7), date(2023, 8, 27), None]


def test_an_order_that_no_date_shows_is_a_doubt_until_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "MRN,exam date,LMP\nW1,03/11/2023,08/07/2023\nW2,04/11/2023,09.06.2023\n"
    )
    table = _read(tmp_path / "a.csv")
    assert [record.lmp for record in table.records] == [None, date(2023, 6, 9)]
    assert [record.exam_date for record in table.records] == [
        date(2023, 11, 3),
        date(2023, 11, 4),
    ]
    assert "set date_order" in table.doubts[0] and "a.csv:2: lmp: date" in table.rejected[0]
    assert not _read(tmp_path / "a.csv", date_order="day").doubts


def test_an_open_document_spreadsheet_is_named_as_such(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    with pytest.raises(SonoError, match=r"an OpenDocument spreadsheet \(ODS\); save it as XLSX"):
        read_sheet(tmp_path / "a.ods")
