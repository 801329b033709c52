"""A record gives spacing and machine only to files without them."""

import json
from typing import Any

import pytest

from sono.curation.records.join_messages import Joined, join_remarks
from sono.curation.records.record_fields import forget_records, join_records
from sono.curation.records.table import Record, RecordsTable


def joined(record: dict[str, Any], **file: Any) -> tuple[dict[str, Any], str]:
    """The row of a file that a record names, and what `sono qc` says of it."""
    row: dict[str, Any] = dict.fromkeys(
        (
            "file_patient",
            "file_study",
            "raw_exam_date",
            "file_sha256",
            "header_facts",
            "namespace",
            "raw_patient",
            "raw_study",
            "center",
            "machine",
            "row_spacing_mm",
            "col_spacing_mm",
            "spacing_reason",
            "file_height",
        )
    )
    row |= {
        "path": b"/raw/a.dcm",
        "root": b"/raw",
        "file": "frames/a/b.png",
        "status": "accepted",
        "reasons": [],
    }
    row |= {"private": [], "persons": [], **file}
    table = RecordsTable((Record("a.dcm", kind="image", line=2, **record),), (), "table")
    matches = join_records([row], table, {})
    remarks = join_remarks(
        Joined.of(table, matches, b"/raw", False), dict.fromkeys(row["reasons"], 1)
    )
    return row, " ".join(remarks)


def spacing(down: float, across: float) -> dict[str, float]:
    return {"row_spacing_mm": down, "col_spacing_mm": across}


@pytest.mark.parametrize(
    ("said", "own", "kept", "codes", "told"),
    [
        (spacing(0.2, 0.2), {}, (0.2, 0.2), [], ""),
        (
            spacing(0.2, 0.2),
            spacing(0.1, 0.1),
            (0.1, 0.1),
            ["record_differs"],
            "0.2 x 0.2 mm and the header 0.1 x 0.1",
        ),
        (spacing(0.1005, 0.1), spacing(0.1, 0.1), (0.1, 0.1), [], ""),
        (
            spacing(0.1, 0.2),
            spacing(0.1, 0.1),
            (0.1, 0.1),
            ["record_differs"],
            "0.1 x 0.2 mm and the header 0.1 x 0.1",
        ),
        (
            spacing(0.2, 0.1),
            spacing(0.1, 0.1)
            | {"file_height": 50, "source_height": 100, "file_width": 80, "source_width": 80},
            (0.1, 0.1),
            [],
            "",
        ),
    ],
)
def test_the_spacing_of_the_header_is_kept_and_a_difference_is_told(
    said: dict[str, float],
    own: dict[str, Any],
    kept: tuple[float, float],
    codes: list[str],
    told: str,
) -> None:
    row, remark = joined(said, **own)
    assert ((row["row_spacing_mm"], row["col_spacing_mm"]), row["reasons"]) == (kept, codes)
    assert told in remark and bool(told) == bool(remark)
    forget_records([row])
    assert row["reasons"] == [] and row["row_spacing_mm"] == own.get("row_spacing_mm")


@pytest.mark.parametrize(
    ("said", "own", "kept", "told"),
    [
        ("Aloka", None, "Aloka", ""),
        ("Voluson E8", "GE Medical Systems Voluson E8", "GE Medical Systems Voluson E8", ""),
        (
            "Aloka",
            "GE Voluson E8",
            "GE Voluson E8",
            "line 2 gives the machine 'Aloka' and the header 'GE Voluson E8'",
        ),
        (
            "Anna",
            "GE Voluson E8",
            "GE Voluson E8",
            "line 2 gives the machine 'Aa' and the header 'GE Voluson E8'",
        ),
    ],
)
def test_the_machine_of_the_header_is_kept_and_a_difference_is_told(
    said: str, own: str | None, kept: str, told: str
) -> None:
    row, remark = joined({"machine": said, "persons": ("Anna Doe",)}, machine=own)
    assert row["machine"] == kept and row["reasons"] == (["record_differs"] if told else [])
    assert told in remark and bool(told) == bool(remark)
    assert json.loads(row["replaced"])["machine"] == own


def test_a_spacing_that_cannot_be_is_not_taken() -> None:
    row, told = joined(spacing(1.9, 1.9), source_height=600, source_width=800)
    assert (
        row["row_spacing_mm"] is None
        and row["reasons"] == ["record_differs"]
        and "wider than 1000 mm" in told
    )
    row, told = joined(spacing(0.9, 0.9), source_height=600, source_width=800)
    assert row["row_spacing_mm"] == 0.9 and not row["reasons"]


def test_a_spacing_by_axis_of_a_picture_that_was_turned_is_not_guessed() -> None:
    row, told = joined(spacing(0.1, 0.3), reasons=["rotated_by_exif"])
    assert (
        row["row_spacing_mm"] is None
        and "record_differs" in row["reasons"]
        and "rotates the image" in told
    )
    row, told = joined(spacing(0.2, 0.2), reasons=["rotated_by_exif"])
    assert row["row_spacing_mm"] == 0.2 and row["reasons"] == ["rotated_by_exif"]
