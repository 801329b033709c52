from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.core.csv_files import export_csv
from sono.curation.core.errors import SonoError
from sono.curation.core.mask_table import pixels_of
from sono.curation.core.tables import (
    CAPTIONS,
    IMAGES,
    MASKS,
    empty_table,
    from_rows,
    read_table,
    rows_of,
    write_table,
)
from sono.curation.core.vault_tables import RELEASED, SOURCES
from sono.curation.core.workspace import Workspace


def image(source_id: str, frame: int = 0, **values: object) -> dict[str, object]:
    return {"source_id": source_id, "frame": frame, "status": "accepted", **values}


def test_a_table_comes_back_as_it_went(tmp_path: Path) -> None:
    rows = [image("b", ga_days=157, reasons=["overlay"]), image("a", hc_mm=150.5)]
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
        (
            {"source_id": "a", "frame": 0, "status": "fine"},
            "column 'status' has 'fine'; allowed: accepted",
        ),
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
    row = rows_of(from_rows(IMAGES, [image("a", hc_mm=200.0)]))[0]
    assert (row["plane"], row["bpd_mm"], row["hc_mm"]) == (None, None, 200.0)


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


SOUND = {
    "image_id": "a1",
    "ga_days": 150,
    "hc_mm": 200.0,
    "file": "frames/a1/a1-0.png",
    "perceptual_hash": "0" * 64,
}


def changed(path: Path, name: str, cells: list[object]) -> None:
    """Put other cells into a column of a table, as a person with another tool would."""
    table = pq.read_table(path)
    column = pa.array(cells) if name != "reasons" else pa.array(cells, pa.list_(pa.string()))
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two sound rows, the second of which a test may spoil."""
    path = tmp_path / "images.parquet"
    write_table(path, from_rows(IMAGES, [image("a", **SOUND), image("b", **SOUND)]), IMAGES)
    return path


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("ga_days", [150, -3]),
        ("ga_days", [150, 10**9]),
        ("ga_days", ["150", "22+3"]),
        ("ga_days", [150.0, 150.5]),
        ("hc_mm", [200.0, -1.0]),
        ("hc_mm", [200.0, 900.0]),
        ("fl_mm", [20.0, 0.5]),
        ("nt_mm", [2.0, 50.0]),
        ("ga_days", [150, 5]),
        ("ga_days", [150, 380]),
        ("row_spacing_mm", [0.1, 0.001]),
        ("row_spacing_mm", [0.1, 0.0]),
        ("col_spacing_mm", [0.1, 25.0]),
        ("file_sha256", ["0" * 64, "abc"]),
        ("hc_mm", [200.0, float("inf")]),
        ("sharpness", [0.3, float("-inf")]),
        ("brightness", [0.2, 1.5]),
        ("frame", [0, -1]),
        ("frame", [0, None]),
        ("height", [300, 0]),
        ("crop_x1", [4, 10**8]),
        ("perceptual_hash", ["0" * 64, "5"]),
        ("file", ["frames/a1/a1-0.png", "../study.vault/quarantine/a1/a1-0.png"]),
        ("file", ["frames/a1/a1-0.png", "/etc/passwd"]),
        ("file", ["frames/a1/a1-0.png", "frames/../../secret.png"]),
        ("file", ["frames/a1/a1-0.png", "frames/a1/a1-0.png\n"]),
        ("file", ["frames/a1/a1-0.png", "images.parquet"]),
        ("patient_id", ["p1", "../../p2"]),
        ("image_id", ["a1", "a/b"]),
        ("exam_date", ["2150-02-03", "2150-13-03"]),
        ("status", ["accepted", "fine"]),
        ("reasons", [["overlay"], ["overlay", "ugly"]]),
        ("reasons", [[], [None]]),
    ],
)
def test_a_spoiled_cell_is_named_with_file_row_and_column(
    table: Path, name: str, cells: list[object]
) -> None:
    changed(table, name, cells)
    with pytest.raises(SonoError, match=rf"images\.parquet: row 2: column '{name}' ") as refused:
        read_table(table, IMAGES)
    assert len(str(refused.value).splitlines()) == 1


def test_a_whole_column_of_another_kind_is_named(table: Path) -> None:
    changed(table, "perceptual_hash", [5, 5])
    with pytest.raises(
        SonoError, match="row 1: column 'perceptual_hash' has '5'; not as sono writes it"
    ):
        read_table(table, IMAGES, ["perceptual_hash"])


def test_doubled_rows_and_columns_and_dropped_columns_are_refused(table: Path) -> None:
    whole = pq.read_table(table)
    pq.write_table(pa.concat_tables([whole, whole.slice(0, 1)]), table)
    with pytest.raises(
        SonoError, match="row 3: two rows of the images table share source_id=a, frame=0"
    ):
        read_table(table, IMAGES)
    for name in ("patient_id", "split", "file", "ga_days", "reasons"):
        pq.write_table(whole.drop_columns([name]), table)
        with pytest.raises(SonoError, match=rf"columns \['{name}'\] do not fit the images table"):
            read_table(table, IMAGES, ["source_id"])
    pq.write_table(whole.append_column("plane", whole["plane"]), table)
    with pytest.raises(SonoError, match=r"columns \['plane'\] do not fit"):
        read_table(table, IMAGES)


def test_a_table_of_another_study_is_refused_and_one_without_a_mark_is_read(tmp_path: Path) -> None:
    path, frame = tmp_path / "t.parquet", from_rows(IMAGES, [image("a")])
    write_table(path, frame, IMAGES, study="0a1b2c3d")
    assert len(read_table(path, IMAGES, study="0a1b2c3d")) == len(read_table(path, IMAGES)) == 1
    with pytest.raises(SonoError, match=r"t\.parquet: a table of another study"):
        read_table(path, IMAGES, study="ffffffff")
    write_table(path, frame, IMAGES)
    assert len(read_table(path, IMAGES, study="ffffffff")) == 1


def test_text_that_is_no_text_is_refused(table: Path) -> None:
    whole = pq.read_table(table)
    bad = pa.array([b"Voluson", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(whole.set_column(whole.schema.get_field_index("machine"), "machine", bad), table)
    with pytest.raises(SonoError, match="not a readable Parquet table"):
        read_table(table, IMAGES)


def runs(*lengths: int) -> str:
    """Run lengths as COCO's text, by another way than the product."""
    from pycocotools import mask as coco

    height = sum(lengths)
    return str(
        coco.frPyObjects({"size": [height, 1], "counts": list(lengths)}, height, 1)[
            "counts"
        ].decode()
    )


@pytest.mark.parametrize(
    "lengths",
    [
        (30,),
        (3, 4, 23),
        (0, 30),
        (1, 2, 3, 4, 20),
        (5, 5, 1, 9, 1, 9),
        (1_000_000, 3, 99),
        (70, 1, 2, 68, 70, 40_000),
    ],
)
def test_the_pixels_of_run_lengths_are_counted_without_unpacking(lengths: tuple[int, ...]) -> None:
    assert pixels_of(pd.Series([runs(*lengths), runs(7), runs(*lengths)])).tolist() == [
        sum(lengths),
        7,
        sum(lengths),
    ]


@pytest.mark.parametrize("text", ["", "abc\x7f", "é", "P", "5`", "\x20", "5" + "o" * 12])
def test_a_text_that_is_no_run_lengths_has_no_pixels(text: str) -> None:
    assert pixels_of(pd.Series([runs(7), text, runs(9)])).tolist() == [7, -1, 9]


def masks_of(**cells: object) -> pd.DataFrame:
    row = {
        "mask_id": "m",
        "image_id": "a1",
        "structure": "femur",
        "height": 5,
        "width": 6,
        "counts": runs(3, 4, 23),
    }
    row |= {
        "box_x": 0,
        "box_y": 1,
        "box_width": 2,
        "box_height": 4,
        "area": 4,
        "source": "manual",
        "state": "accepted",
    }
    return from_rows(MASKS, [{**row, "mask_id": "a"}, {**row, **cells}])


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        ({"counts": runs(3, 4, 22)}, "counts"),
        ({"counts": runs(3, 4, 24)}, "counts"),
        ({"counts": "~"}, "counts"),
        ({"box_x": 5}, "box_width"),
        ({"box_width": 7}, "box_width"),
        ({"box_y": 2}, "box_height"),
        ({"height": 6}, "height"),
        ({"width": 5}, "width"),
        ({"height": 6, "width": 5}, "height"),
    ],
)
def test_a_mask_that_does_not_fit_its_frame_is_named(
    tmp_path: Path, cells: dict[str, object], name: str
) -> None:
    study = Workspace.create(tmp_path / "study")
    study.write(IMAGES, from_rows(IMAGES, [image("a", image_id="a1", height=5, width=6)]))
    study.write(MASKS, masks_of())
    assert len(study.masks()) == 2
    study.write(MASKS, masks_of(**cells))
    with pytest.raises(SonoError, match=rf"masks\.parquet: row 2: column '{name}' has ") as refused:
        study.masks()
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["sources", "released"])
def test_a_vault_table_of_another_study_is_refused_and_one_without_a_mark_is_read(
    tmp_path: Path, name: str
) -> None:
    mine, other = (Workspace.create(tmp_path / folder) for folder in ("mine", "other"))
    row = {
        "path": b"/raw/1",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "s",
        "frame": 0,
        "status": "accepted",
        "private": [],
    }
    note = {"picture": "p", "reviewer": "KM", "reviewed_at": "2024"}
    spec, cells = (RELEASED, note) if name == "released" else (SOURCES, row)
    path = mine.released_path if name == "released" else mine.sources_path
    read = mine.released if name == "released" else mine.sources
    other.write_vault(path, spec, from_rows(spec, [cells]))
    with pytest.raises(SonoError, match=rf"{path.name}: a table of another study"):
        read()
    write_table(path, from_rows(spec, [cells]), spec)
    assert len(read()) == 1
    mine.write_vault(path, spec, from_rows(spec, [cells]))
    assert len(read()) == 1 and path.stat().st_mode & 0o777 == 0o600
