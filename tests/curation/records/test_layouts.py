"""Published tables and the headers of hospitals."""

from pathlib import Path

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.records.layouts import ALIASES, find_known_table, find_layout, known_layout
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records

FETAL_PLANES = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train \r\n"
HC18 = "filename,pixel size(mm),head circumference (mm)\r\n"


def _read(tmp_path: Path, text: str, center: str | None = None) -> RecordsTable:
    path = tmp_path / "records.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_records(path, RecordsConfig(), PlaneTable(), center)


@pytest.mark.parametrize(
    ("plane", "brain", "expected"),
    [
        ("Fetal brain", "Trans-thalamic", ("transthalamic", "head")),
        ("Fetal brain", "Trans-cerebellum", ("transcerebellar", "head")),
        ("Fetal brain", "Trans-ventricular", ("transventricular", "head")),
        ("Fetal brain", "Other", ("other", "head")),
        ("Fetal thorax", "Not A Brain", ("four_chamber", "heart")),
        ("Other", "Not A Brain", ("other", None)),
        ("Maternal cervix", "Not A Brain", ("other", None)),
    ],
)
def test_fetal_planes_db_names_the_plane_in_two_columns(
    tmp_path: Path, plane: str, brain: str, expected: tuple[str, str | None]
) -> None:
    (record,) = _read(
        tmp_path, FETAL_PLANES + f"Patient1_Plane1;1;{plane};{brain};Op. 1;Aloka;1 \r\n"
    ).records
    assert (record.plane, record.region) == expected
    assert (record.patient, record.machine, record.private) == ("1", "Aloka", ("1", "Op. 1"))


def test_a_fetal_planes_db_with_commas_is_still_one(tmp_path: Path) -> None:
    table = _read(
        tmp_path,
        FETAL_PLANES.replace(";", ",")
        + "Patient1_Plane1,1,Fetal femur,Not A Brain,Op. 1,Aloka,1\n",
    )
    assert (table.layout, table.records[0].plane) == ("fetal_planes_db", "femur")


def test_hc18_gives_the_patient_the_spacing_and_the_circumference(tmp_path: Path) -> None:
    first, second = _read(
        tmp_path, HC18 + "010_HC.png,0.1,180.5\r\n010_2HC.png,0.2,181\r\n"
    ).records
    assert (first.patient, first.region, first.plane, first.hc_mm) == ("010", "head", None, 180.5)
    assert (second.patient, second.row_spacing_mm, second.col_spacing_mm) == ("010", 0.2, 0.2)


def test_the_test_half_of_hc18_has_no_circumference() -> None:
    assert known_layout(("filename", "pixel size(mm)")) == "hc18"
    assert known_layout(("filename", "plane")) == ""


def test_a_known_table_is_found_in_the_raw_folder_or_right_below(tmp_path: Path) -> None:
    assert find_known_table(tmp_path) is None
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.csv").write_bytes(b"\0\xff\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "planes.csv").write_text(FETAL_PLANES)
    assert find_known_table(tmp_path) == tmp_path / "db" / "planes.csv"


def test_of_two_known_tables_none_is_taken_and_the_user_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(FETAL_PLANES)
    (tmp_path / "b.csv").write_text(HC18)
    assert find_known_table(tmp_path, names=True) is None
    assert "several records tables ('a.csv', 'b.csv')" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("field", [field for field in ALIASES if field not in ("ga", "image")])
def test_every_alias_of_a_field_is_taken_for_it(field: str) -> None:
    for alias in ALIASES[field]:
        layout = find_layout(Path("records.csv"), ("image", alias.replace("_", " ").title()), {})
        assert layout.columns[field] == 1


@pytest.mark.parametrize(
    ("title", "unit"),
    [("HC (mm)", "mm"), ("hc_cm", "cm"), ("Head circumference [cm]", "cm"), ("HC", "")],
)
def test_a_unit_is_read_from_the_header(title: str, unit: str) -> None:
    layout = find_layout(Path("records.csv"), ("image", title), {})
    assert layout.columns["hc"] == 1
    assert layout.units.get("hc", "") == unit


def test_a_mapping_goes_before_the_guesses_and_may_switch_a_column_off() -> None:
    header = ("image", "plane", "Ebene", "ga")
    layout = find_layout(Path("records.csv"), header, {"plane": "EBENE ", "ga": ""})
    assert layout.columns == {"image": 0, "plane": 2}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"pateint": "a"}, r"unknown field 'pateint'; did you mean 'patient'\?"),
        ({"image": "c"}, r"records.csv: no column 'c'; its columns look like 'a', 'a'"),
        (
            {},
            r"no column names the image.*look like 'a', 'a'.*\[records.columns\].*image = .TITLE.",
        ),
    ],
)
def test_a_column_that_is_missing_is_told_with_those_that_are_there(
    mapping: dict[str, str], message: str
) -> None:
    with pytest.raises(SonoError, match=message):
        find_layout(Path("records.csv"), ("a", "b"), mapping)


@pytest.mark.parametrize("row", [("Quill", "1990-02-03"), ("Quill", "x.png"), ("Quill", "7734199")])
def test_a_table_without_titles_is_refused_without_repeating_its_first_row(
    row: tuple[str, str],
) -> None:
    with pytest.raises(SonoError, match="looks like data") as caught:
        find_layout(Path("records.csv"), row, {})
    assert "Quill" not in str(caught.value)


def test_titles_are_repeated_where_one_is_known_and_looks_elsewhere() -> None:
    with pytest.raises(SonoError, match="look like 'Aa Aa', 'Aa Aa'"):
        find_layout(Path("records.csv"), ("Jane Doe", "Mary Smith"), {})
    with pytest.raises(SonoError, match=r"its columns are 'Bild', 'plane'.*image = .TITLE."):
        find_layout(Path("records.csv"), ("Bild", "plane"), {})
    with pytest.raises(SonoError, match="no column 'Bidl'; did you mean 'Bild'"):
        find_layout(Path("records.csv"), ("Bild", "plane"), {"image": "Bidl"})


def test_any_column_gives_the_center(tmp_path: Path) -> None:
    row = "Patient1_Plane1;1;Fetal femur;Not A Brain;Op. 1;Aloka;1 \r\n"
    (record,) = _read(tmp_path, FETAL_PLANES + row, "us_machine").records
    assert (record.center, record.machine) == ("Aloka", "Aloka")
    with pytest.raises(SonoError, match=r"no column 'US_Machin'; did you mean 'US_Machine'\?"):
        _read(tmp_path, FETAL_PLANES + row, "US_Machin")


def test_barcelona_as_published(shared_data: Path) -> None:
    path = find_known_table(shared_data / "barcelona")
    assert path is not None
    table = read_records(path, RecordsConfig(), PlaneTable(), "US_Machine")
    counts: dict[str | None, int] = {}
    for record in table.records:
        counts[record.plane] = counts.get(record.plane, 0) + 1
    assert counts == {
        "four_chamber": 284, "transthalamic": 167, "abdominal_circumference": 166, "femur": 145,
        "transcerebellar": 62, "transventricular": 51, "other": 13,
    }  # fmt: skip
    assert (len({record.patient for record in table.records}), table.rejected) == (437, ())
    images = (shared_data / "barcelona" / "Images").iterdir()
    assert all(table.match(bytes(image), None, None) is not None for image in images)


def test_nijmegen_as_published(shared_data: Path) -> None:
    path = find_known_table(shared_data / "nijmegen")
    assert path is not None
    table = read_records(path, RecordsConfig(), PlaneTable())
    assert (
        table.layout,
        len(table.records),
        len({record.patient for record in table.records}),
    ) == ("hc18", 197, 158)
    found = table.match(b"/raw/training_set/028_HC.png", None, None)
    assert found is not None
    assert (found.hc_mm, found.row_spacing_mm) == (70.0, 0.0942857141765)
    assert table.match(b"/raw/masks/028_HC_Mask.png", None, None) is None


@pytest.mark.parametrize(
    ("header", "cells", "titles"),
    [
        ("HC,HC", "200,300", "'HC' and 'HC'"),
        ("GA,gestational age", "22w3d,35w0d", "'GA' and 'gestational age'"),
        ("patient,MRN", "W1,Z9", "'patient' and 'MRN'"),
        ("HC (mm),head circumference", "200,", None),
        ("patient,MRN", "W1,w1", None),
        ("first name,last name", "Jane,Doe", None),
        ("GA (weeks),GA (days)", "22,3", None),
        ("path,stem", "A/IM1.png,IM1", None),
    ],
)
def test_two_columns_of_one_field_that_differ_are_refused(
    tmp_path: Path, header: str, cells: str, titles: str | None
) -> None:
    path = tmp_path / "records.csv"
    path.write_text(f"file,{header}\nIM1.png,{cells}\n")
    if titles is None:
        assert len(read_records(path, RecordsConfig(), PlaneTable()).records) == 1
        return
    with pytest.raises(SonoError, match=rf"records.csv:2: columns {titles} .*differ") as error:
        read_records(path, RecordsConfig(), PlaneTable())
    if "MRN" in titles:
        assert "[records.columns]" in str(error.value)
        chosen = read_records(path, RecordsConfig(columns={"patient": "MRN"}), PlaneTable())
        assert chosen.records[0].patient == "Z9"


def test_a_hidden_first_sheet_is_passed_over_and_hidden_rows_are_counted(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["file", "GA"])
    book.active.append(["IM1.png", "22w3d"])
    book.active.sheet_state = "hidden"
    sheet = book.create_sheet("current")
    for row in (["file", "GA"], ["IM1.png", "30w0d"], ["IM2.png", "31w0d"]):
        sheet.append(row)
    sheet.row_dimensions[3].hidden = True
    book.active = 1
    book.save(tmp_path / "records.xlsx")
    table = read_records(tmp_path / "records.xlsx", RecordsConfig(), PlaneTable())
    assert [record.ga_days for record in table.records] == [210, 217]
    assert any("'current' is read" in note for note in table.remarks())
    assert any("1 hidden row" in note for note in table.remarks())
    named = read_records(tmp_path / "records.xlsx", RecordsConfig(sheet="Sheet"), PlaneTable())
    assert [record.ga_days for record in named.records] == [157]
