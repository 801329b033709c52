"""Titles that sono does not know: their contents suggest the settings, and no cell is repeated."""

import sys
import tomllib
from pathlib import Path

import pytest
from openpyxl import Workbook

from sono.cli import main
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.records.check import check_records
from sono.curation.records.file_matching import MatchOptions
from sono.curation.records.layouts import find_layout
from sono.curation.records.read import RecordsConfig, read_records

PEOPLE = ("Quillfeather", "Okonkwo", "Lindqvist")
ROWS = [
    [f"{day}.png", f"471{day}9", name, f"198{day}-02-03", f"2024-03-1{day}", age, plane, phone]
    for day, (name, age, plane, phone) in enumerate(
        zip(
            PEOPLE,
            ("22+3", "157 d", "23.7"),
            ("femur", "leg", "Kopf quer"),
            ("0171 2345670", "030/1234567", "+49 30 765432"),
            strict=True,
        )
    )
]
TITLES = ["Bild", "Akte", "Wer", "Geb", "Tag", "SSW", "Ebene", "Kontakt"]
FIELDS = ["image", "patient", "name", "birth", "exam_date", "ga", "plane", "contact"]


def write(path: Path, titles: list[str], rows: list[list[str]] = ROWS) -> Path:
    path.write_text("\n".join(";".join(row) for row in (titles, *rows)) + "\n")
    return path


def test_contents_suggest_a_block_that_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "a.csv", TITLES)
    monkeypatch.setattr(sys, "argv", ["sono", "records", "check", str(table)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    block = error[error.index("[records.columns]\n") :]
    columns = tomllib.loads(block)["records"]["columns"]
    assert columns == dict(zip(FIELDS, TITLES, strict=True))
    assert not [name for name in PEOPLE if name in error]
    found = read_records(table, RecordsConfig(columns={**columns, "plane": ""}), PlaneTable())
    assert found.records[0].ga_days == 157 and found.records[0].key == "0.png"


def test_rows_without_titles_suggest_nothing(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", ["x", *ROWS[0][1:]])
    with pytest.raises(SonoError) as caught:
        read_records(table, RecordsConfig(), PlaneTable())
    assert not caught.value.block and "Quill" not in str(caught.value)


def test_unused_columns_that_look_private_are_named_without_their_cells(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", ["file", *TITLES[1:6], "plane", "Kontakt"], ROWS[:2])
    report = check_records(table, RecordsConfig(columns={"patient": "Akte"}), PlaneTable())
    (doubt,) = [remark for remark in report.remarks if "look private" in remark]
    assert "private: Geb, Tag, Kontakt;" in doubt
    assert report.suggested == {
        "birth": ("Geb",),
        "exam_date": ("Tag",),
        "ga": ("SSW",),
        "contact": ("Kontakt",),
    }
    assert not [name for name in PEOPLE if name in str(report)]


@pytest.mark.parametrize(
    "title", ["Name der Klinik", "Recording site", "Nom de l'hôpital", "HospitalCode"]
)
def test_a_title_of_centers_suggests_the_center(tmp_path: Path, title: str) -> None:
    rows = [f"{number}.png;{place}" for number, place in enumerate(("Nord", "Süd", "Ost") * 3)]
    table = tmp_path / "a.csv"
    table.write_text("\n".join((f"file;{title}", *rows)))
    report = check_records(table, RecordsConfig(), PlaneTable())
    assert report.suggested == {"center": (title,)}
    assert read_records(table, RecordsConfig(), PlaneTable()).center_column == title
    off = RecordsConfig(columns={"center": ""})
    assert check_records(table, off, PlaneTable()).suggested == {}


@pytest.mark.parametrize(
    ("title", "cells"),
    [
        ("Clinical notes", ("growth", "growth", "doppler") * 3),
        ("Site visit", ("1", "2", "3", "4", "5", "6", "7", "8", "9")),
        ("Clinic phone", ("0171 2345670",) * 9),
        ("Setting", ("A", "B", "C") * 3),
    ],
)
def test_other_titles_and_cells_suggest_no_center(
    tmp_path: Path, title: str, cells: tuple[str, ...]
) -> None:
    table = tmp_path / "a.csv"
    rows = [f"{number}.png;{cell}" for number, cell in enumerate(cells)]
    table.write_text("\n".join((f"file;{title}", *rows)))
    assert read_records(table, RecordsConfig(), PlaneTable()).center_column == ""


def test_names_may_be_in_several_columns_and_others_may_not() -> None:
    header = ("Bild", "Wer", "Auch wer", "Wo")
    mapping = {"image": "Bild", "name": ("Wer", "Auch wer"), "contact": "Wo"}
    layout = find_layout(Path("a.csv"), header, mapping)
    assert layout.names == (1, 2) and layout.private == (1, 2, 3)
    with pytest.raises(SonoError, match="plane takes one column, not 2; only name"):
        find_layout(Path("a.csv"), header, {"image": "Bild", "plane": ("Wer", "Wo")})


def test_titles_of_persons_are_private_in_other_languages() -> None:
    layout = find_layout(Path("a.csv"), ("file", "Prénom", "Geburtsdatum", "Téléphone"), {})
    assert layout.private == (1, 2, 3) and layout.names == (1,)


GERMAN = {
    "Pat.-Nr.": ("patient, private", "4711{}9"),
    "Geb.-Datum": ("birth, private", "03.02.1990"),
    "Untersuchungsdatum": ("exam_date, private", "1{}.03.2024"),
    "Untersucher": ("operator, private", "Dr. Quillfeather"),
    "Klinik": ("center", "Nord"),
    "Gerät": ("machine", "Voluson E8"),
    "SSW": ("unused", "2{}+3"),
    "BIP (mm)": ("bpd (mm)", "48"),
    "KU": ("hc", "175"),
    "AU [mm]": ("ac (mm)", "150"),
    "FEM": ("fl", "33"),
    "SSL": ("crl", ""),
    "Befund": ("findings", "unauffällig"),
    "Lage": ("presentation", "Schädellage"),
    "Seite": ("laterality", "links"),
    "ET": ("unused", "2{}.07.2024"),
    "letzte Periode": ("lmp, private", "1{}.10.2023"),
}


def test_german_titles_of_a_further_sheet_are_known_or_suggested(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(("Hinweise",))
    scans = book.create_sheet("Untersuchungen")
    scans.append(tuple(GERMAN))
    for number in range(4):
        scans.append([cell.format(number) or None for _, cell in GERMAN.values()])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(SonoError, match="also has 'Untersuchungen'"):
        read_records(tmp_path / "a.xlsx", RecordsConfig(), PlaneTable())
    config = RecordsConfig(sheet="Untersuchungen")
    report = check_records(
        tmp_path / "a.xlsx", config, PlaneTable(), options=MatchOptions(names=True)
    )
    assert {column.title: column.meaning for column in report.columns} == {
        title: meaning for title, (meaning, _) in GERMAN.items()
    }
    assert report.suggested == {"ga": ("SSW",), "due": ("ET",)}
    record = read_records(tmp_path / "a.xlsx", config, PlaneTable()).records[0]
    assert (record.bpd_mm, record.hc_mm, record.ac_mm, record.fl_mm) == (48, 175, 150, 33)
    assert (record.laterality, record.presentation, record.center) == ("left", "cephalic", "Nord")
    assert record.findings == () and "unauffällig" in str(report.rejected)
    assert "Dr. Quillfeather" in record.private and "Quillfeather" not in str(report)


@pytest.mark.parametrize(
    ("title", "field"),
    [("ET", "due"), ("vET", "due"), ("Termin", "due"), ("LP", "lmp"), ("Letzte Regel am", "lmp")],
)
def test_titles_of_dates_suggest_due_date_and_last_period(
    tmp_path: Path, title: str, field: str
) -> None:
    rows = [f"{number}.png;1{number}.01.2024;1{number}.06.2024" for number in range(4)]
    (tmp_path / "a.csv").write_text("\n".join((f"file;date;{title}", *rows)))
    report = check_records(tmp_path / "a.csv", RecordsConfig(), PlaneTable())
    assert report.suggested == {field: (title,)}


@pytest.mark.parametrize("note", [[("Export of 2024",), ("see below",)], [("Only a note",)]])
def test_a_first_sheet_that_is_a_note_names_the_others_and_the_setting(
    tmp_path: Path, note: list[tuple[str, ...]]
) -> None:
    book = Workbook()
    for row in note:
        book.active.append(row)
    scans = book.create_sheet("Scans")
    for row in (TITLES, *ROWS):
        scans.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(SonoError, match=r'also has .Scans.: set sheet = "Scans" under .records.'):
        read_records(tmp_path / "a.xlsx", RecordsConfig(), PlaneTable())
