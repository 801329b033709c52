"""What the decisions of a review make of the tables of the study."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sono.annotation.review.decisions import Decision, DecisionLog, Kind
from sono.annotation.review.logged_rows import check_decided
from sono.annotation.reviewed_captions import REVIEWED, Place, place_of, set_of
from sono.curation.core.console import warn
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.quarantine import apply_verdicts

WRITTEN: tuple[Kind, ...] = ("first", "adjudication", "blind", "new")  # into the masks table


def write_pending(workspace: Workspace, log: DecisionLog) -> None:
    """Write the decisions of `log` that are not in the tables yet."""
    pending = log.pending()
    if not pending:
        return
    with workspace.lock():
        before = workspace.read(MASKS)
        masks, lost = apply_decisions(before, pending)
        images = workspace.read(IMAGES, ["image_id", "height", "width"])
        structures = {*workspace.planes().structures, *before["structure"]}
        drawn = [
            (place, one)
            for place, one in enumerate(pending, start=log.applied)
            if one.kind in WRITTEN and one.before != one.after
        ]
        check_decided(masks, drawn, images, structures, log.damaged)
        changed = apply_to_captions(workspace.read(CAPTIONS), pending)
        workspace.write(MASKS, masks)
        if changed is not None:
            workspace.write(CAPTIONS, changed)
        verdicts = {one.item: one.after for one in pending if one.kind == "frame"}
        if verdicts:
            apply_verdicts(workspace, verdicts)
        log.mark_applied()
    if lost:
        warn(
            f"{workspace.root}: {len(lost)} decided masks are not in the masks table any more (the "
            f"first is {lost[0]}), because they were proposed or imported again since; review "
            "those that are there now"
        )


def apply_decisions(
    masks: pd.DataFrame, decisions: Iterable[Decision]
) -> tuple[pd.DataFrame, list[str]]:
    """The masks table with the decisions, and the ids of decided masks that it has no more.

    Applying a decision again changes nothing. Decisions of second reviewers and on planted masks
    are passed over. A row without pixels, before a mask was drawn, is not in the table.
    """
    rows = {str(row["mask_id"]): row for row in rows_of(masks)}
    lost = []
    for decision in decisions:
        if decision.kind not in WRITTEN:
            continue
        before, after = str(decision.before["mask_id"]), str(decision.after["mask_id"])
        if before not in rows and after not in rows and decision.before["area"]:
            lost.append(before)
            continue
        if decision.before != decision.after:
            rows.pop(before, None)
            if decision.after["area"]:
                rows[after] = dict(decision.after)
    return from_rows(MASKS, list(rows.values())), lost


def apply_to_captions(captions: pd.DataFrame, decisions: Sequence[Decision]) -> pd.DataFrame | None:
    """The captions table with the decisions; None if they do not change it.

    The captions of a mask stay with it when its pixels are edited. A decision on the caption of one
    template set sets aside those of the others, which state the same facts; undone, they are back.
    """
    steps = [
        one
        for one in decisions
        if one.kind == "caption"
        or (one.kind in WRITTEN and one.before["mask_id"] != one.after["mask_id"])
    ]
    frames = {str(one.after["image_id"]) for one in steps}
    own = np.array([image_id in frames for image_id in captions["image_id"]], bool)
    rows: dict[Place, dict[str, dict[str, Any]]] = {}  # by the template set
    for row in rows_of(captions[own]):
        rows.setdefault(place_of(row), {})[set_of(row)] = dict(row)
    if not any(one.kind == "caption" for one in steps) and not rows:
        return None
    for one in steps:
        before = rows.pop(place_of(one.before), {})
        if one.kind == "caption":
            decided = {name: one.after[name] for name in REVIEWED}
            if decided["state"] is not None:
                decided["state"] = "wrong"
            others = {name: {**row, **decided} for name, row in before.items()}
            rows[place_of(one.after)] = {**others, set_of(one.after): dict(one.after)}
        elif before:
            moved = {"mask_id": one.after["mask_id"]}
            rows[place_of(one.after)] = {name: {**row, **moved} for name, row in before.items()}
    changed = [row for some in rows.values() for row in some.values()]
    return pd.concat([captions[~own], from_rows(CAPTIONS, changed)])
