"""Which masks a review shows, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sono.annotation.doubt import NO_SCORE
from sono.annotation.review.decisions import Action, Decision, DecisionLog, Kind, Row
from sono.annotation.review.planted import draw, planted_row
from sono.annotation.review.verdicts import DIFFERENT, Histories, as_proposed, differ
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.tables import rows_of
from sono.curation.core.workspace import Workspace

Which = Literal["proposed", "decided", "all", "second", "disputed"]


@dataclass
class Item:
    """A mask in the queue: its row now, how often it was decided, and by what action last."""

    key: str  # the id of the mask as it was queued
    row: dict[str, Any]
    kind: Kind = "first"
    versions: tuple[Row, ...] = ()  # the two verdicts that an adjudicator compares
    version: int = 0
    decided: Action | None = None


@dataclass(frozen=True)
class Wanted:
    """What a reviewer asked for; `planted` and `blind` are shares of the queue."""

    reviewer: str
    structure: str | None = None
    which: Which = "proposed"
    planted: float = 0.0
    blind: float = 0.0
    checkpoint: Path | None = None  # of a SAM that answers prompts


def chosen_masks(
    which: Literal["proposed", "decided", "all"], second: bool, adjudicate: bool
) -> Which:
    """What the options ask for; raises SonoError if they ask for two things."""
    given = [name for name, on in (("--second", second), ("--adjudicate", adjudicate)) if on]
    if which != "proposed":
        given.append(f"--which {which}")
    if len(given) > 1:
        raise SonoError(f"{' and '.join(given)}: these are different reviews; give one of them")
    return "second" if second else "disputed" if adjudicate else which


def make_queue(
    workspace: Workspace, images: pd.DataFrame, log: DecisionLog, wanted: Wanted
) -> list[Item]:
    """The masks of accepted frames, the most doubtful first.

    `images` are the accepted ones, indexed by id. Raises SonoError if there is nothing to review.
    """
    masks = workspace.masks()
    masks = masks[masks["image_id"].isin(images.index)]
    if wanted.structure is not None and wanted.structure not in set(masks["structure"]):
        known = did_you_mean(wanted.structure, masks["structure"])
        raise SonoError(f"--structure '{wanted.structure}': no mask has it{known}")
    rows = rows_of(masks)
    items = _chosen(rows, log, wanted)
    items = [one for one in items if wanted.structure in (None, one.row["structure"])]
    if not items:
        raise SonoError(f"{workspace.root}: {_nothing(wanted)}")
    items.sort(key=_doubt)
    if wanted.which in ("proposed", "second"):
        seed = workspace.study().key_check
        _hide_some(seed, items, wanted.blind)
        return _with_planted(seed, items, rows, log.decisions, wanted)
    return items


def _chosen(rows: Sequence[dict[str, Any]], log: DecisionLog, wanted: Wanted) -> list[Item]:
    if wanted.which in ("second", "disputed"):
        return list(_of_two(rows, log, wanted))
    return [
        Item(str(row["mask_id"]), row)
        for row in rows
        if wanted.which == "all" or (row["state"] == "proposed") == (wanted.which == "proposed")
    ]


def _of_two(rows: Sequence[dict[str, Any]], log: DecisionLog, wanted: Wanted) -> list[Item]:
    """Masks that another reviewer decided, or those on which two reviewers differ."""
    table = {str(row["mask_id"]): row for row in rows}
    items = []
    for history in Histories.read(log.decisions).by_origin.values():
        now = table.get(str(history.current["mask_id"]))
        if now is None or history.first is None or history.adjudicated:
            continue
        if wanted.which == "second":
            if wanted.reviewer not in {*history.seconds, history.first["reviewer"]}:
                row = as_proposed(history.proposal)
                items.append(Item(str(row["mask_id"]), row, "second"))
        elif (pair := history.pair()) is not None and differ(*pair):
            items.append(Item(str(now["mask_id"]), now, "adjudication", pair))
    return items


def _nothing(wanted: Wanted) -> str:
    """Why the queue is empty, and what to do."""
    if wanted.which == "second":
        return (
            f"no mask was decided by another reviewer than '{wanted.reviewer}' and not by this one "
            "yet; a second reviewer comes after the first `sono masks review`, with another "
            "--reviewer"
        )
    if wanted.which == "disputed":
        return (
            f"nothing to adjudicate: no mask has two different verdicts (a Dice below {DIFFERENT}, "
            "or kept by one reviewer only); a second reviewer decides with `sono masks review "
            "--second`"
        )
    if wanted.which == "proposed":
        return (
            "no proposed masks to review; run `sono masks propose`, or look at decided ones with "
            "--which decided"
        )
    kind = "" if wanted.which == "all" else f"{wanted.which} "
    return f"no {kind}masks to review; run `sono masks propose` or `sono masks import`"


def _doubt(item: Item) -> tuple[float, str]:
    """The highest doubt first; of equal ones in the order of their ids, which is a random draw."""
    doubt, score = item.row.get("doubt"), item.row["score"]
    if doubt is None:  # of an import, or of a table of an earlier version
        doubt = 1 - (NO_SCORE if score is None else float(score))
    return (-float(doubt), item.key)


def _hide_some(seed: str, items: Sequence[Item], share: float) -> None:
    """Make a share of the first reviewer's items blind."""
    for one in items:
        if one.kind == "first" and draw(seed, "blind", one.key) < share:
            one.kind = "blind"


def _with_planted(
    seed: str,
    items: list[Item],
    rows: Sequence[dict[str, Any]],
    decisions: Sequence[Decision],
    wanted: Wanted,
) -> list[Item]:
    """The queue with wrong masks, each before the mask in whose place it stands.

    Those that this reviewer has decided do not come again.
    """
    hosts = [
        (place, one)
        for place, one in enumerate(items)
        if one.kind != "blind" and draw(seed, "planted", one.key) < wanted.planted
    ]
    if not hosts:
        return items
    last = {
        one.item: one.action
        for one in decisions
        if one.kind == "planted" and one.reviewer == wanted.reviewer
    }
    frames = {one.row["image_id"] for _, one in hosts}
    others: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["image_id"] in frames:
            others.setdefault(row["image_id"], []).append(row)
    planted: dict[int, list[Item]] = {}
    for place, host in hosts:
        wrong = planted_row(seed, host.row, others[host.row["image_id"]])
        if wrong is None or last.get(wrong["mask_id"], "skip") not in ("skip", "undo"):
            continue
        before = int(draw(seed, "place", host.key) * (place + 1))
        wrong["score"] = _between(items, before)
        planted.setdefault(before, []).append(Item(str(wrong["mask_id"]), wrong, "planted"))
    return [one for place, item in enumerate(items) for one in (*planted.get(place, ()), item)]


def _between(items: Sequence[Item], place: int) -> float | None:
    """A score that fits at `place` of the queue."""
    score, before = (items[at].row["score"] for at in (place, max(place - 1, 0)))
    return None if score is None or before is None else float(score + before) / 2
