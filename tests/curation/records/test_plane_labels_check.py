"""`sono planes check`, and what `sono records check` and `sono qc` say about labels."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.records.plane_labels_check import LabelReport, check_labels
from sono.curation.records.read import RecordsConfig, read_records, read_rows

TEXT = (
    "image,view\na.png,Vierkammerblick\nb.png,femor\nc.png,uterine artery\nd.png,Femur\n"
    "e.png,Meyer Anna\nf.png,BPD\ng.png,Vierkammerblick\nh.png,\n"
)


def _checked(tmp_path: Path, text: str, column: str = "", names: bool = False) -> LabelReport:
    file = tmp_path / "records.csv"
    file.write_text(text, encoding="utf-8")
    return check_labels(file, PlaneTable(), column, names)


def test_every_label_has_its_rows_its_plane_and_why(tmp_path: Path) -> None:
    report = _checked(tmp_path, TEXT)
    assert [(one.label, one.rows, one.state, one.plane) for one in report.labels] == [
        ("Aa Aa", 1, "unknown", ""),
        ("femor", 1, "unknown", ""),
        ("BPD", 1, "ambiguous", ""),
        ("Vierkammerblick", 2, "proposed", "four_chamber"),
        ("uterine artery", 1, "outside", "other"),
        ("Femur", 1, "read", "femur"),
    ]
    assert report.labels[1].why == "did you mean 'femur'?"
    assert (report.rows, report.without_label) == (8, 1)
    assert report.states == {"read": 1, "outside": 1, "proposed": 2, "ambiguous": 1, "unknown": 2}
    with pytest.raises(IssuesError, match="4 labels do not name a plane"):
        report.refuse_findings()


def test_the_report_has_line_numbers_and_says_what_is_hidden_and_what_to_do(tmp_path: Path) -> None:
    many = TEXT + "".join(f"{n}.png,Cuello Raro\n" for n in range(6))
    report = _checked(tmp_path, many)
    lines = [(one.label, one.lines) for one in report.labels]
    assert ("Vierkammerblick", (2, 8)) in lines and ("Aa Aa", (10, 11, 12, 13)) in lines
    console = Console(width=200, record=True, file=StringIO())
    console.print(report)
    text = console.export_text()
    assert "10, 11, 12, 13, ..." in text and "2 unknown labels are shown by shape" in text
    assert "sono.toml\n[study.planes]\n" in text
    assert "--names shows the labels" in text and '"label" = "femur"' in text
    console.print(_checked(tmp_path, TEXT, names=True))
    assert "--names" not in console.export_text()


def test_spanish_labels_with_two_meanings_are_asked_about(tmp_path: Path) -> None:
    text = "image,view\na,Cuello uterino\nb,tres vasos\nc,Cordón umbilical de tres vasos\nd,Femur\n"
    found = {one.label: (one.state, one.plane, one.why) for one in _checked(tmp_path, text).labels}
    assert found["Cuello uterino"] == ("proposed", "other", "cervix (Spanish, not reviewed)")
    assert found["tres vasos"][0] == "ambiguous" and "umbilical cord" in found["tres vasos"][2]
    assert found["Cordón umbilical de tres vasos"][2] == "umbilical cord (Spanish, not reviewed)"


def test_names_are_shown_only_on_request(tmp_path: Path) -> None:
    assert "Meyer" not in str(_checked(tmp_path, TEXT))
    assert "Meyer Anna" in str(_checked(tmp_path, TEXT, names=True))


def test_the_brain_planes_of_the_public_table_are_read(tmp_path: Path) -> None:
    text = "Image_name;Patient_num;Plane;Brain_plane\na;1;Fetal brain;Trans-thalamic\n"
    report = _checked(tmp_path, text + "b;1;Maternal cervix;Not A Brain\n")
    assert [(one.label, one.plane, one.why) for one in report.labels] == [
        ("Maternal cervix", "other", "cervix"),
        ("Trans-thalamic", "transthalamic", "id or name"),
    ]
    report.refuse_findings()


def test_the_column_of_labels_is_found_by_its_cells_or_asked_for(tmp_path: Path) -> None:
    text = "bild;ebene\n" + "".join(f"{n}.png;Harnblase\n" for n in range(5))
    assert _checked(tmp_path, text).column == "ebene"
    odd = "bild;ebene\n" + "".join(f"{n}.png;Q{n}\n" for n in range(5))
    with pytest.raises(SonoError, match="no column looks like labels of planes"):
        _checked(tmp_path, odd)
    assert _checked(tmp_path, odd, column="Ebene").states["unknown"] == 5
    with pytest.raises(SonoError, match="no column 'eben'"):
        _checked(tmp_path, odd, column="eben")


def test_qc_proposes_a_label_that_nobody_reviewed_as_a_line_to_paste(tmp_path: Path) -> None:
    file = tmp_path / "records.csv"
    file.write_text("image,plane\na.png,Vierkammerblick\nb.png,CTAR\nc.png,BPD\n")
    with pytest.raises(SonoError) as refused:
        read_records(file, RecordsConfig(), PlaneTable())
    assert "'Vierkammerblick'; proposed: four_chamber (German, not reviewed)" in str(refused.value)
    assert refused.value.block.splitlines() == [
        "[study.planes]",
        '"Vierkammerblick" = "four_chamber"  # German, not reviewed: confirm; rows: 1',
        '"CTAR" = "other"  # English for four-chamber, cardiothoracic ratio, '
        "not reviewed: confirm; rows: 1",
        '"BPD" = ""  # rows: 1',
    ]


def test_rows_of_known_planes_outside_the_24_are_counted_by_name(tmp_path: Path) -> None:
    file = tmp_path / "records.csv"
    labels = ("uterine artery", "Spine", "UTERINE ARTERIES", "femur", "Other")
    rows = "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels))
    file.write_text("image,plane\n" + rows)
    reading = read_rows(file, RecordsConfig(), PlaneTable())
    assert reading.outside_planes() == {"uterine artery": 2, "spine": 1}
    table = read_records(file, RecordsConfig(), PlaneTable())
    assert [record.plane for record in table.records] == [
        "other",
        "other",
        "other",
        "femur",
        "other",
    ]
    assert table.doubts[0].startswith(
        "3 rows name a known plane outside the 24: uterine artery 2, spine 1; their frames are kept"
    )
