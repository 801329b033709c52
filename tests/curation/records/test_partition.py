"""A published partition is used only if it is set, and reported otherwise."""

from pathlib import Path

import pytest
from phantom_frames import write_frames

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.split_checks import check_splits
from sono.curation.dataset.split_stage import split_workspace
from sono.curation.dataset.splits import SplitConfig, assign_splits
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.records.check import check_records
from sono.curation.records.file_matching import MatchOptions
from sono.curation.records.partition import looks_like_partition, read_partition
from sono.curation.records.read import RecordsConfig, read_rows
from sono.curation.records.table_reading import TableReading


def read(path: Path) -> TableReading:
    return read_rows(path, RecordsConfig(), PlaneTable())


def table(folder: Path, title: str, *rows: tuple[str, str], name: str = "records.csv") -> Path:
    """Patient and cell of each row; row N is about the frame IM_N."""
    lines = [
        f"file,patient,{title}",
        *(f"IM_{n}.png,{who},{cell}" for n, (who, cell) in enumerate(rows)),
    ]
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("title", "cells", "values", "expected"),
    [
        ("Train ", ["1", "0", "1"], {}, ["train", "test", "train"]),
        ("Train", ["1.0", "0.0", ""], {"1": "train", "0": "val"}, ["train", "val"]),
        ("Split", ["Training", "VALID", "test"], {}, ["train", "val", "test"]),
        (
            "Fold",
            ["A", "B", "C"],
            {"a": "train", "B": "val", "C": "test"},
            ["train", "val", "test"],
        ),
        ("is_test", ["yes", "no", "TRUE"], {}, ["test", "train", "test"]),
    ],
)
def test_the_cells_of_a_partition_are_understood(
    tmp_path: Path, title: str, cells: list[str], values: dict[str, str], expected: list[str]
) -> None:
    path = table(tmp_path, title, *(("P" + str(n), cell) for n, cell in enumerate(cells)))
    found = read_partition(read(path), title.strip().lower(), values)
    assert found is not None and list(found.values()) == expected


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("file,Split\na.png,train\nb.png,test\nA,test\n", "image of line 2"),
        ("file,study,Split\na.png,E1,train\nb.png,E2,test\nc.png,e1,test\n", "study of line 2"),
    ],
)
def test_an_image_or_a_study_without_a_patient_in_two_parts_is_an_error(
    tmp_path: Path, rows: str, what: str
) -> None:
    path = tmp_path / "records.csv"
    path.write_text(rows)
    with pytest.raises(
        SonoError, match=rf"records.csv:4: the {what} again, in test instead of train"
    ):
        read_partition(read(path), "Split", {})


def test_a_cell_without_a_meaning_and_a_patient_in_two_parts_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"records.csv:3: column 'Split' has 'third'.*values"):
        read_partition(
            read(table(tmp_path, "Split", ("P1", "train"), ("P2", "third"))), "Split", {}
        )
    crossed = table(tmp_path, "Train", ("Doe", "1"), ("Roe", "0"), ("Doe", "0"))
    with pytest.raises(
        SonoError, match=r"records.csv:4: the patient of line 2 again, in test instead of train"
    ) as error:
        read_partition(read(crossed), "Train", {})
    assert "Doe" not in str(error.value)
    assert read_partition(read(crossed), "Split", {}) is None


@pytest.mark.parametrize(
    ("title", "cells", "found"),
    [
        ("Train", ["1", "0"], "Train"),
        ("subset", ["train", "test"], "subset"),
        ("Data Split", ["Training", "Validation", "Test"], "Data Split"),
        ("Train", ["1", "1"], ""),
        ("Train", ["12", "80"], ""),
        ("notes", ["train", "test"], ""),
        ("set", ["A", "B"], ""),
    ],
)
def test_a_column_that_looks_like_a_partition_is_seen(
    tmp_path: Path, title: str, cells: list[str], found: str
) -> None:
    path = table(tmp_path, title, *(("P" + str(n), cell) for n, cell in enumerate(cells)))
    assert looks_like_partition(read(path).sheet) == found


def test_components_follow_the_partition_and_a_crossing_is_an_error() -> None:
    rows: list[dict[str, object]] = [
        {"patient_id": f"p{n // 2}", "partition": ("train", "test")[n // 10] if n % 2 else None}
        for n in range(20)
    ]
    rows += [{"patient_id": f"q{n}"} for n in range(40)]
    images = from_rows(
        IMAGES,
        [
            {"frame": 0, "status": "accepted", "source_id": f"s{n:02}", **row}
            for n, row in enumerate(rows)
        ],
    )
    for seed in range(5):
        splits = assign_splits(images, SplitConfig(column="Train", seed=seed))
        assert splits.iloc[:20].tolist() == ["train"] * 10 + ["test"] * 10
        assert splits.iloc[20:].nunique() == 3
    free = assign_splits(images, SplitConfig())
    assert free.iloc[:20].tolist() != splits.iloc[:20].tolist()
    standing = free.map({"train": "test", "test": "val", "val": "train"})
    assert assign_splits(images, SplitConfig(column="x"), standing).iloc[:10].eq("train").all()
    images.loc[0, "partition"] = "test"
    with pytest.raises(SonoError, match=r"1 patient crosses the published partition \(p0\)"):
        assign_splits(images, SplitConfig(column="Train"))
    images.loc[0, "partition"] = None
    images.loc[[0, 19], "duplicate_group"] = "g"
    with pytest.raises(
        SonoError, match="4 files that belong together cross the published partition"
    ):
        assign_splits(images, SplitConfig(column="Train"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partition") / "raw"
    write_frames(folder, range(8))
    return folder


def graded(study: Workspace, raw: Path, records: Path, settings: str = "") -> QcSummary:
    if settings:
        study.config_path.write_text(f"{study.config_path.read_text()}\n[splits]\n{settings}\n")
    return run_qc(study, QcOptions(raw, records), Engine(jobs=1))


def test_qc_and_split_honor_the_partition_of_a_table(raw: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    rows = [(f"W{number // 2}", str(int(number < 4))) for number in range(8)]
    path = table(tmp_path, "Train ", *rows)
    remark = next(one for one in graded(study, raw, path).remarks if "partition" in one)
    assert "column 'Train' of the records table" in remark and '[splits] column = "Train"' in remark
    assert not any("unused columns" in one for one in graded(study, raw, path).remarks)
    report = check_records(path, RecordsConfig(), PlaneTable())
    assert [one for one in report.remarks if "partition" in one] == [remark]
    chosen = MatchOptions(partition="Train")
    report = check_records(path, RecordsConfig(), PlaneTable(), options=chosen)
    assert not any("partition" in one for one in report.remarks)
    summary = graded(study, raw, path, 'column = "Train"\nvalues = { "1" = "train", "0" = "test" }')
    assert not any("unused columns" in remark for remark in summary.remarks)
    assert not any("partition" in one or "split as usual" in one for one in summary.remarks)
    for seed in (None, 1, 2):
        if seed is not None:
            split_workspace(study, None, 0, seed)
        images = study.accepted_images()
        assert (images["split"] == images["partition"]).all() and images[
            "split"
        ].value_counts().to_dict() == {
            "train": 4,
            "test": 4,
        }


def test_a_column_that_no_table_has_is_an_error_until_one_had_it(raw: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    rows = [(f"W{number}", "train" if number else "") for number in range(8)]
    with pytest.raises(SonoError, match="no column 'Spilt' for the splits; did you mean 'Split'"):
        graded(study, raw, table(tmp_path, "Split", *rows), 'column = "Spilt"')
    study.config_path.write_text(study.config_path.read_text().replace("Spilt", "Split"))
    summary = graded(study, raw, table(tmp_path, "Split", *rows))
    assert "1 accepted frame has no value in 'Split' and is split as usual" in summary.remarks
    plain = table(tmp_path, "Notes", *rows, name="other.csv")
    assert any(
        "no column 'Split' for the splits" in one for one in graded(study, raw, plain).remarks
    )
    with pytest.raises(SonoError, match="no frame has a value of 'Split'"):
        split_workspace(study, None, 0, None)


def test_a_mapping_to_something_else_than_a_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'tset' is no split; map a cell to train, val or test"):
        SplitConfig(column="Train", values={"0": "tset"})


def test_a_partition_decides_where_frames_without_patients_share_a_folder() -> None:
    parts = ["train", "val", "test", "test", None]
    rows = [
        {"source_id": f"s{n}", "exam_id": "e", "partition": part} for n, part in enumerate(parts)
    ]
    images = from_rows(IMAGES, [{"frame": 0, "status": "accepted", **row} for row in rows])
    for exam in ("e", None):
        images["exam_id"] = exam
        images["split"] = assign_splits(images, SplitConfig(column="Split"))
        check_splits(images)
        assert images["split"].tolist()[:4] == parts[:4] and (
            exam or images["split"].iloc[4] == "train"
        )
    # not asked for: nobody knows whose frames these are
    assert assign_splits(images, SplitConfig()).eq("train").all()


@pytest.mark.parametrize("other", ["w12", " W12", "Ｗ12"])
def test_a_patient_in_two_parts_under_two_spellings_is_an_error(tmp_path: Path, other: str) -> None:
    path = tmp_path / "records.csv"
    path.write_text(f"file,patient,Split\na.png,W12,train\nb.png,{other},test\n")
    with pytest.raises(SonoError, match=r"records.csv:3: the patient of line 2 again"):
        read_partition(read(path), "Split", {})
    path.write_text("file,patient,Split\na.png,0012,train\nb.png,12,test\n")
    with pytest.raises(SonoError, match=r"records.csv:3: the patient of line 2 again"):
        read_partition(read(path), "Split", {})
    path.write_text("file,patient,Split\na.png,unknown,train\nb.png,unknown,test\n")
    assert read_partition(read(path), "Split", {}) == {2: "train", 3: "test"}


@pytest.mark.parametrize("values", [{"a": "train", "A": "test"}, {"1": "train", "1.0": "val"}])
def test_two_spellings_of_a_cell_that_mean_two_splits_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="are the same cell, but map to train and"):
        SplitConfig(values=values)
