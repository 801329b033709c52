"""Ids that differ only in signs join nothing; `sono qc` and `records check` report them."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom

from sono.curation.core.planes import PlaneTable
from sono.curation.records.check import RecordsReport, check_records
from sono.curation.records.evidence import FileFacts
from sono.curation.records.join_messages import Joined, join_remarks
from sono.curation.records.joins import join
from sono.curation.records.like_ids import LikeIds
from sono.curation.records.read import RecordsConfig, read_records


@pytest.mark.parametrize(
    ("of_file", "of_row", "example"),
    [
        ("MB486770", "MB-486770", "A999999 in a file, A-999999 in the table"),
        ("MB-486770", "mb 486770", "A-999999 in a file, a 999999 in the table"),
        ("00012", "12", "99999 in a file, 99 in the table"),
        ("MB0486770", "MB-486770", "A9999999 in a file, A-999999 in the table"),
        ("88-77-66", "887766", "99-99-99 in a file, 999999 in the table"),
    ],
)
def test_ids_that_differ_only_in_signs_are_counted_with_masked_examples(
    of_file: str, of_row: str, example: str
) -> None:
    assert LikeIds.of([of_file, "X1", None], [of_row, "Y2", None]) == LikeIds(1, (example,))


@pytest.mark.parametrize(
    ("of_file", "of_row"),
    [
        ("mb486770 ", "MB486770"),
        ("MB486770", "MB486771"),
        ("W1", "W10"),
        ("0000", "0-0"),
        ("-", "/"),
    ],
)
def test_other_ids_spellings_that_join_and_placeholders_are_not_counted(
    of_file: str, of_row: str
) -> None:
    assert LikeIds.of([of_file], [of_row]) == LikeIds() and LikeIds().remark() == ""


@pytest.mark.parametrize("image", ["", "a.dcm"])
def test_they_are_not_joined_and_the_advice_is_to_write_them_alike(
    tmp_path: Path, image: str
) -> None:
    path = tmp_path / "raw/a.dcm"
    write_dicom(path, np.zeros((8, 8), np.uint8), PatientID="MB486770", StudyDate="20240110")
    table_path = tmp_path / "records.csv"
    table_path.write_text(f"file,MRN,exam date,GA\n{image},MB-486770,2024-01-10,22w3d\n")
    table = read_records(table_path, RecordsConfig(), PlaneTable())
    facts = FileFacts(bytes(path), "MB486770", exam_date="2024-01-10", root=bytes(path.parent))
    matches = join([facts], table)
    assert matches[0].record is None and matches[0].ga_days is None
    counts = dict.fromkeys(matches[0].codes, 1)
    told = join_remarks(Joined.of(table, matches, facts.root, False), counts)
    (remark,) = [text for text in told if "only in signs" in text]
    assert (
        remark.startswith("1 patient id of files differs") and "write them in the table" in remark
    )
    assert "A999999 in a file, A-999999 in the table" in remark and "486770" not in str(told)
    assert not any("patient = " in text for text in told)
    report = check_records(table_path, RecordsConfig(), PlaneTable(), path.parent)
    assert isinstance(report, RecordsReport) and report.raw is not None
    assert report.raw.like_ids.remark() == remark
