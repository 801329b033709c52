from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sono.curation.errors import SonoError
from sono.curation.tables import CAPTIONS, IMAGES, empty_table, export_csv, from_rows, read_table, rows_of, write_table


def image(source_id: str, frame: int = 0, **values: object) -> dict[str, object]:
    return {"source_id": source_id, "frame": frame, "status": "accepted", **values}


def test_a_table_comes_back_as_it_went(tmp_path: Path) -> None:
    rows = [image("b", ga_days=157, reasons=["overlay"]), image("a", hc_mm=1.5)]
    write_table(tmp_path / "t.parquet", from_rows(IMAGES, rows), IMAGES)
    frame = read_table(tmp_path / "t.parquet", IMAGES)
    assert list(frame["source_id"]) == ["a", "b"]
    assert frame["ga_days"].isna().tolist() == [True, False]
    assert frame.loc[1, "ga_days"] == 157
    assert list(frame.loc[1, "reasons"]) == ["overlay"]


def test_row_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    rows = [image(name) for name in "abc"]
    write_table(tmp_path / "1", from_rows(IMAGES, rows), IMAGES)
    write_table(tmp_path / "2", from_rows(IMAGES, rows[::-1]), IMAGES)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_an_absent_table_is_empty_and_typed(tmp_path: Path) -> None:
    frame = read_table(tmp_path / "none.parquet", CAPTIONS)
    assert list(frame.columns) == CAPTIONS.columns
    assert frame.empty


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"source_id": "a", "frame": 0, "status": "fine"}, "column 'status' has 'fine'; allowed: accepted"),
        ({"source_id": "a", "frame": None, "status": "accepted"}, "frame: int32 not null"),
        ({"source_id": "a", "frame": "x", "status": "accepted"}, "does not fit the images table"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, row: dict[str, object], problem: str) -> None:
    with pytest.raises(SonoError, match=problem):
        from_rows(IMAGES, [row])


def test_two_rows_of_one_key_are_refused() -> None:
    with pytest.raises(SonoError, match="two rows of the images table share source_id=a, frame=0"):
        from_rows(IMAGES, [image("a"), image("a")])


def test_a_foreign_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"unknown columns \['name'\]"):
        write_table(tmp_path / "t", empty_table(IMAGES).assign(name="x"), IMAGES)


def test_rubbish_and_other_tables_are_refused_on_reading(tmp_path: Path) -> None:
    (tmp_path / "rubbish.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SonoError, match=r"rubbish\.parquet: not a readable Parquet table"):
        read_table(tmp_path / "rubbish.parquet", IMAGES)
    write_table(tmp_path / "captions.parquet", empty_table(CAPTIONS), CAPTIONS)
    with pytest.raises(SonoError, match="do not fit the images table"):
        read_table(tmp_path / "captions.parquet", IMAGES)


def test_missing_values_become_none() -> None:
    row = rows_of(from_rows(IMAGES, [image("a", hc_mm=2.0)]))[0]
    assert (row["plane"], row["bpd_mm"], row["hc_mm"]) == (None, None, 2.0)


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    export_csv(tmp_path / "t.csv", pd.DataFrame({"a": ["=1+1", "ok"], "b": [1, -2]}))
    assert (tmp_path / "t.csv").read_text() == "a,b\n'=1+1,1\nok,-2\n"


def test_a_table_of_an_earlier_version_is_read_with_nulls(tmp_path: Path) -> None:
    row = {"source_id": "s", "frame": 0, "status": "accepted", "ga_days": 150}
    write_table(tmp_path / "t.parquet", from_rows(IMAGES, [row]), IMAGES)
    older = pq.read_table(tmp_path / "t.parquet").drop_columns(["exam_date", "overlay"])
    pq.write_table(older, tmp_path / "t.parquet")
    frame = read_table(tmp_path / "t.parquet", IMAGES)
    assert list(frame.columns) == IMAGES.columns
    assert frame["exam_date"].isna().all()
    assert frame["ga_days"].tolist() == [150]
    pq.write_table(older.drop_columns(["status"]), tmp_path / "t.parquet")
    with pytest.raises(SonoError, match="another version"):
        read_table(tmp_path / "t.parquet", IMAGES)
