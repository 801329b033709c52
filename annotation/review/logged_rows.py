"""Check the rows of a review's log as those of the tables that they are written to."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sono.annotation.masks import pixels
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import bounding_box
from sono.curation.core.mask_table import check_fit
from sono.curation.core.reasons import EXCLUSIONS, WITHDRAWABLE
from sono.curation.core.table_checks import TableSpec
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, empty_table, from_rows, rows_of

if TYPE_CHECKING:
    from sono.annotation.review.decisions import Decision

Row = Mapping[str, Any]
Damaged = Callable[[int, str], SonoError]
BOX = ("box_x", "box_y", "box_width", "box_height")
NEWER = frozenset(("doubt",))  # columns that the log of an earlier version may lack


def check_logged_rows(decisions: Sequence["Decision"], damaged: Damaged) -> None:
    """Raise the error of `damaged` for the first decision whose rows are none of their table."""
    rows: dict[str, list[tuple[int, Row]]] = {}
    for place, one in enumerate(decisions):
        both = [(place, one.before), (place, one.after)]
        rows.setdefault(one.kind if one.kind in ("frame", "caption") else "mask", []).extend(both)
    for place, row in rows.get("frame", ()):
        if problem := _verdict_problem(row):
            raise damaged(place, problem)
    for kind, spec in (("mask", MASKS), ("caption", CAPTIONS)):
        found = rows.get(kind, [])
        for place, row in found:
            if missing := set(spec.columns) - NEWER - row.keys():
                raise damaged(place, f"its row lacks '{min(missing)}'")
        _check_table(found, spec, damaged)


def _verdict_problem(row: Row) -> str:
    """What is wrong with a decision on a frame; "" for nothing."""
    missing = {"excluded", "withdrawn", "reviewer", "reviewed_at"} - row.keys()
    if missing:
        return f"its row lacks '{min(missing)}'"
    if row["excluded"] not in (None, *EXCLUSIONS):
        return f"'excluded' is {row['excluded']!r:.40}"
    withdrawn = row["withdrawn"]
    if not isinstance(withdrawn, list) or not all(one in WITHDRAWABLE for one in withdrawn):
        return f"'withdrawn' is {withdrawn!r:.40}"
    signed = (row["reviewer"], row["reviewed_at"])
    return "" if all(isinstance(one, str | None) for one in signed) else "it is not signed"


def _check_table(rows: Sequence[tuple[int, Row]], spec: TableSpec, damaged: Damaged) -> None:
    """Check rows at once, and where they do not fit, one half after the other."""
    if not rows:
        return
    try:
        # a mask may be in several decisions
        table = from_rows(replace(spec, key=()), [dict(row) for _, row in rows])
        if spec is MASKS:
            check_fit(Path("row"), table, empty_table(IMAGES))
    except SonoError as error:
        if len(rows) == 1:
            why = "; ".join(str(error).split("; ")[:2]).rpartition("row 1: ")[2]
            raise damaged(rows[0][0], why) from error
        middle = len(rows) // 2
        _check_table(rows[:middle], spec, damaged)
        _check_table(rows[middle:], spec, damaged)
        raise


def check_decided(
    masks: pd.DataFrame,
    decisions: Iterable[tuple[int, "Decision"]],
    images: pd.DataFrame,
    structures: Collection[str],
    damaged: Damaged,
) -> None:
    """Raise the error of `damaged` for a mask of `masks` that `decisions` made and that is none.

    The decisions are given with their places in the log. A mask is of a frame of `images` and one
    of `structures`, and its box and area are its pixels'.
    """
    last = {str(one.after["mask_id"]): place for place, one in decisions}
    sizes = {
        row["image_id"]: (row["height"], row["width"])
        for row in rows_of(images[["image_id", "height", "width"]].dropna())
    }
    for row in rows_of(masks[masks["mask_id"].isin(last)]):
        problem = ""
        if row["image_id"] not in sizes:
            problem = f"the study has no frame {row['image_id']}"
        elif sizes[row["image_id"]] != (row["height"], row["width"]):
            problem = f"frame {row['image_id']} has another size"
        elif row["structure"] not in structures:
            problem = f"unknown structure {row['structure']!r:.80}"
        else:
            mask = pixels(row)
            if (*bounding_box(mask), int(mask.sum())) != (
                *(row[name] for name in BOX),
                row["area"],
            ):
                problem = "its box or area is not that of its pixels"
        if problem:
            raise damaged(last[str(row["mask_id"])], problem)
