"""The remarks at the end of `sono qc` say what to do."""

import pandas as pd
import pytest

from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.qc_messages import frame_remarks
from sono.curation.records.evidence import FileFacts
from sono.curation.records.join_messages import Joined, join_remarks, list_paths
from sono.curation.records.joins import join
from sono.curation.records.table import Record, RecordsTable


def accepted_without_record() -> pd.DataFrame:
    row = {
        "source_id": "s", "frame": 0, "image_id": "a", "status": "accepted",
        "reasons": ["no_record"], "exam_id": "e", "split": "train",
    }  # fmt: skip
    return from_rows(IMAGES, [row])


def test_a_table_of_which_nothing_is_applied_is_the_first_remark_with_what_to_do() -> None:
    images = accepted_without_record()
    table = RecordsTable(
        (Record("b.dcm", kind="image", line=2),), (), "table",
        unused=("Bild", "SSW"), suggested={"image": ("Bild",), "ga": ("SSW",)},
    )  # fmt: skip
    remarks = frame_remarks(images, images, table, Joined(1, {}))
    assert remarks[0] == (
        "no row of the table is applied to any accepted frame (1); contents of columns "
        'suggest image = "Bild", ga = "SSW" in [records.columns]; `sono records check TABLE --raw '
        "FOLDER` shows why"
    )
    assert "so that a row with a patient matches" in remarks[1]
    (unused,) = [remark for remark in remarks if remark.startswith("unused columns: Bild, SSW;")]
    assert 'image = "Bild"' in unused
    assert (
        "give --records with a patient column"
        in frame_remarks(images, images, None, Joined(0, {}))[0]
    )


@pytest.mark.parametrize(("header", "advised"), [("St. Walburga", True), ("", False)])
def test_another_name_of_the_hospital_is_told_with_the_way_out(header: str, advised: bool) -> None:
    record = Record("a.dcm", kind="image", line=2, site="Klinik Nord", sex="M")
    table = RecordsTable((record,), (), "table")
    facts = FileFacts(
        b"/raw/a.dcm", "W1", header={"InstitutionName": header, "PatientSex": "F"}, root=b"/raw"
    )
    joined = Joined.of(table, join([facts], table), b"/raw", names=False)
    remark = " ".join(join_remarks(joined, {"record_conflict": 1}))
    assert "1 accepted frame matches a row that the header" in remark
    assert ('set center = "" in [records.columns] and give --center-from' in remark) is advised


def test_masked_paths_that_look_alike_are_listed_once() -> None:
    assert list_paths(["a/9.a", "a/9.a", "b.a"]) == ["a/9.a (2 files)", "b.a"]
