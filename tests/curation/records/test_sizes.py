"""Sizes in cm without a unit, and sizes that are impossible at the age of their row."""

from pathlib import Path

import pytest

from sono.curation.core.planes import PlaneTable
from sono.curation.records.read import RecordsConfig, RecordsTable, read_records
from sono.curation.records.sizes import is_possible


def _read(tmp_path: Path, header: str, *rows: str, **config: object) -> RecordsTable:
    path = tmp_path / "r.csv"
    lines = [f"x{place}.png,{row}" for place, row in enumerate(rows)]
    path.write_text("\n".join([f"file,{header}", *lines, ""]))
    return read_records(path, RecordsConfig.model_validate(config), PlaneTable())


def _sizes(table: RecordsTable, field: str) -> list[float | None]:
    return [getattr(record, f"{field}_mm") for record in table.records]


IN_CM = {  # sizes in cm at 22, 26, 30 and 34 weeks
    "BPD": ("5.4", "6.6", "7.6", "8.6"),
    "HC": ("20.1", "24.4", "28.1", "31.2"),
    "AC": ("17.5", "21.9", "26.2", "30.4"),
    "FL": ("3.9", "4.9", "5.8", "6.6"),
}


@pytest.mark.parametrize("title", IN_CM)
@pytest.mark.parametrize("ages", [("22w", "26w", "30w", "34w"), ("", "", "", "")])
def test_a_column_in_cm_without_a_unit_is_left_out_whole_and_reported(
    tmp_path: Path, title: str, ages: tuple[str, ...]
) -> None:
    rows = [f"{age},{size}" for age, size in zip(ages, IN_CM[title], strict=True)]
    field = title.lower()
    table = _read(tmp_path, f"GA,{title}", *rows)
    assert _sizes(table, field) == [None] * 4
    (remark,) = table.remarks()
    assert remark.startswith(f"r.csv: 4 rows (line 2, 3, 4, ...): {field} looks like cm")
    assert f"name the column {field}_cm" in remark
    in_mm = [float(size) * 10 for size in IN_CM[title]]
    assert _sizes(_read(tmp_path, f"GA,{title} (cm)", *rows), field) == pytest.approx(in_mm)
    assert _sizes(
        _read(tmp_path, f"GA,{title}", *rows, units={field: "cm"}), field
    ) == pytest.approx(in_mm)


def test_a_column_of_bpd_under_the_title_of_hc_is_left_out(tmp_path: Path) -> None:
    rows = ("18w,151,41", "22w,201,54", "26w,244,66", "30w,281,76", "34w,312,86", "38w,336,93")
    table = _read(tmp_path, "GA,BPD,HC", *rows)
    assert _sizes(table, "bpd") == _sizes(table, "hc") == [None] * 6
    assert sum("hc of" in remark for remark in table.remarks()) >= 1


def test_a_crl_in_cm_dates_no_row(tmp_path: Path) -> None:
    table = _read(tmp_path, "CRL", "9.9", "6.5", "5.2", ga_from=["crl"])
    assert _sizes(table, "crl") == [None] * 3
    assert [record.ga_days for record in table.records] == [None] * 3
    assert not any(record.stated for record in table.records)


def test_cells_out_of_range_are_not_reported_again_where_the_column_is_in_cm(
    tmp_path: Path,
) -> None:
    table = _read(tmp_path, "GA,BPD", "18w,4.1", "22w,5.4", "26w,6.6")
    assert len(table.remarks()) == 1
    assert _sizes(table, "bpd") == [None] * 3


def test_a_stated_mm_is_taken_at_its_word_where_no_age_contradicts(tmp_path: Path) -> None:
    for header, config in (("FL (mm)", {}), ("FL", {"units": {"fl": "mm"}})):
        table = _read(tmp_path, header, "5.9", "6.6", "7.1", **config)
        assert _sizes(table, "fl") == [5.9, 6.6, 7.1] and not table.rejected


def test_columns_in_mm_are_read_as_they_are_with_and_without_ages(tmp_path: Path) -> None:
    for ages in (("22w", "26w", "12w"), ("", "", "")):
        rows = [
            f"{age},{size}"
            for age, size in zip(ages, ("54,201,39", "66,244,49", "20,71,8"), strict=True)
        ]
        table = _read(tmp_path, "GA,BPD,HC,FL", *rows)
        assert not table.rejected
        assert _sizes(table, "hc") == [201, 244, 71]
    nt = _read(tmp_path, "GA,NT,CRL", "12w3d,1.2,60", "13w0d,3.4,68")
    assert _sizes(nt, "nt") == [1.2, 3.4] and not nt.rejected


def test_one_cell_against_its_age_is_left_out_with_its_line(tmp_path: Path) -> None:
    for title in ("HC", "HC (mm)"):
        table = _read(tmp_path, f"GA,{title}", "22w,201", "30w0d,28.1", "26w,244")
        assert _sizes(table, "hc") == [201, None, 244]
        (problem,) = table.rejected
        assert problem.startswith("r.csv:3: hc of 28.1 mm is impossible at 30w0d and is left out")


def test_a_cell_with_its_own_unit_counts_as_it_says(tmp_path: Path) -> None:
    table = _read(tmp_path, "GA,HC", "22w,20.1 cm", "26w,24.4", "30w,28.1")
    assert _sizes(table, "hc") == [201, None, None]


@pytest.mark.parametrize(
    "field,size_mm,weeks,possible",
    [
        ("fl", 15, 22, True),  # lethal skeletal dysplasia
        ("hc", 420, 34, True),  # hydrocephalus
        ("hc", 210, 30, True),  # microcephaly
        ("ac", 60, 12, True),
        # the first trimester's, on a later row: a conflict of age, not of unit
        ("crl", 65, 22, True),
        ("crl", 6.5, 12, False),
        ("hc", 28, 22, False),
        ("bpd", 5.4, 22, False),
        ("hc", 300, 15, False),
    ],
)
def test_bounds_leave_room_for_disease_and_none_for_a_slip_of_unit(
    field: str, size_mm: float, weeks: int, possible: bool
) -> None:
    assert is_possible(field, size_mm, 7 * weeks) is possible
