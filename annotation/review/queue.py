"""Which masks a review shows, and in which order."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from sono.annotation.doubt import NO_SCORE
from sono.annotation.review.decisions import Action, Decision, DecisionLog, Kind, Row
from sono.annotation.review.planted import LEAST, draw, planted_key, planted_row
from sono.annotation.review.verdicts import DIFFERENT, Histories, as_proposed, differ
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.workspace import Workspace

Which = Literal["proposed", "decided", "all", "missing", "second", "disputed"]


@dataclass
class Item:
    """A mask in the queue, how often it was decided, and by what action last."""

    key: str  # the id of the mask as it was queued
    image_id: str
    structure: str
    score: float | None
    given: dict[str, Any] | Callable[[], dict[str, Any]]  # its row, made when it is first needed
    kind: Kind = "first"
    versions: tuple[Row, ...] = ()  # the two verdicts that an adjudicator compares
    version: int = 0
    decided: Action | None = None
    host: str = ""  # of a planted mask: the mask in whose place it stands
    doubt: float | None = None  # of the masks table; the highest comes first
    added: bool = False  # by the reviewer, in this review

    @classmethod
    def of(
        cls, row: dict[str, Any], kind: Kind = "first", versions: tuple[Row, ...] = ()
    ) -> "Item":
        """The item of a row of the masks table."""
        mask_id, image_id, structure = (
            str(row[name]) for name in ("mask_id", "image_id", "structure")
        )
        item = cls(mask_id, image_id, structure, row["score"], row, kind, versions)
        item.doubt = row.get("doubt")
        return item

    @property
    def row(self) -> dict[str, Any]:
        """The row of the mask now."""
        if callable(self.given):
            self.given = self.given()
        return self.given

    @row.setter
    def row(self, row: dict[str, Any]) -> None:
        self.given = row

    @property
    def hidden(self) -> bool:
        """Whether the reviewer is to draw this mask without seeing the proposal."""
        return self.kind == "blind" and bool(self.row["state"] == "proposed")

    @property
    def empty(self) -> bool:
        """Whether there is no mask yet."""
        return not self.row["area"]


def competes(one: Item, other: Item) -> bool:
    """Whether two masks are undecided proposals of one structure on one frame."""
    return (
        (one.image_id, one.structure) == (other.image_id, other.structure)
        and one.decided is None
        and {one.kind, other.kind} <= {"first", "planted"}
        and one.row["state"] == "proposed"
    )


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
    which: Literal["proposed", "decided", "all", "missing"], second: bool, adjudicate: bool
) -> Which:
    """What the options ask for; raises SonoError if they ask for two things."""
    given = [name for name, on in (("--second", second), ("--adjudicate", adjudicate)) if on]
    if which != "proposed":
        given.append(f"--which {which}")
    if len(given) > 1:
        raise SonoError(f"{' and '.join(given)}: these are different reviews; give one of them")
    return "second" if second else "disputed" if adjudicate else which


def rows_at(table: pa.Table, places: Iterable[int]) -> list[dict[str, Any]]:
    """Some rows of a large table as dictionaries, much faster than by pandas."""
    rows: list[dict[str, Any]] = table.take(list(places)).to_pylist()
    return rows


def make_queue(
    workspace: Workspace, images: Collection[str], log: DecisionLog, wanted: Wanted
) -> list[Item]:
    """The masks of accepted frames, the most doubtful first.

    `images` are the ids of the accepted ones. Raises SonoError if there is nothing to review.
    """
    table = _MaskRows(workspace.masks())
    if wanted.structure is not None and wanted.structure not in set(table.structures):
        known = did_you_mean(wanted.structure, table.structures)
        raise SonoError(f"--structure '{wanted.structure}': no mask has it{known}")
    items = [
        one
        for one in _chosen(table, log, wanted)
        if one.image_id in images and wanted.structure in (None, one.structure)
    ]
    if not items:
        raise SonoError(f"{workspace.root}: {_nothing(wanted)}")
    items.sort(key=_doubt)
    if wanted.which in ("proposed", "second"):
        seed = workspace.study().key_check
        _hide_some(seed, items, wanted.blind)
        return _with_planted(seed, items, table, log.decisions, wanted)
    return items


class _MaskRows:
    """The masks table, whose rows are made one by one, because a queue may have many."""

    def __init__(self, masks: pd.DataFrame) -> None:
        self.masks = masks
        self.mask_ids: list[str] = masks["mask_id"].tolist()
        self.image_ids: list[str] = masks["image_id"].tolist()
        self.structures: list[str] = masks["structure"].tolist()

    @cached_property
    def arrow(self) -> pa.Table:
        return pa.Table.from_pandas(self.masks, preserve_index=False)

    def rows(self, places: Iterable[int]) -> list[dict[str, Any]]:
        return rows_at(self.arrow, places)

    @cached_property
    def by_id(self) -> dict[str, int]:
        return {mask_id: place for place, mask_id in enumerate(self.mask_ids)}

    @cached_property
    def by_image(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, image_id in enumerate(self.image_ids):
            found.setdefault(image_id, []).append(place)
        return found

    def items(self, state: str | None, but: str | None) -> list[Item]:
        """The masks in a `state`, or in any `but` one; both None: all."""
        scores, doubts = (
            self.masks[name].astype(object).where(self.masks[name].notna(), None)
            for name in ("score", "doubt")
        )
        columns = (self.mask_ids, self.image_ids, self.structures, scores, doubts)
        return [
            Item(mask_id, image_id, structure, score, partial(self._row, place), doubt=doubt)
            for place, (mask_id, image_id, structure, score, doubt, found) in enumerate(
                zip(*columns, self.masks["state"].tolist(), strict=True)
            )
            if state in (None, found) and found != but
        ]

    def _row(self, place: int) -> dict[str, Any]:
        return self.rows([place])[0]


def _chosen(table: _MaskRows, log: DecisionLog, wanted: Wanted) -> list[Item]:
    if wanted.which in ("second", "disputed"):
        return list(_of_two(table, log, wanted))
    state = "proposed" if wanted.which == "proposed" else None
    return table.items(state, but="proposed" if wanted.which == "decided" else None)


def _of_two(table: _MaskRows, log: DecisionLog, wanted: Wanted) -> list[Item]:
    """Masks that another reviewer decided, or those on which two reviewers differ."""
    items = []
    for history in Histories.read(log.decisions).by_origin.values():
        place = table.by_id.get(str(history.current["mask_id"]))
        if place is None or history.first is None or history.adjudicated:
            continue
        if wanted.which == "second":
            if wanted.reviewer not in {*history.seconds, history.first["reviewer"]}:
                items.append(Item.of(as_proposed(history.proposal), "second"))
        elif (pair := history.pair()) is not None and differ(*pair):
            items.append(Item.of(table.rows([place])[0], "adjudication", pair))
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
            "no proposed masks to review; run `sono masks propose`, look at decided ones with "
            "--which decided, or draw masks on frames that have none with --which missing"
        )
    kind = "" if wanted.which == "all" else f"{wanted.which} "
    return f"no {kind}masks to review; run `sono masks propose` or `sono masks import`"


def _doubt(item: Item) -> tuple[float, str]:
    """The highest doubt first; of equal ones in the order of their ids, which is a random draw."""
    doubt = item.doubt
    if doubt is None:  # of an import, or of a table of an earlier version
        doubt = 1 - (NO_SCORE if item.score is None else float(item.score))
    return (-float(doubt), item.key)


def _hide_some(seed: str, items: Sequence[Item], share: float) -> None:
    """Make a share of the first reviewer's items blind."""
    for one in items:
        if share and one.kind == "first" and draw(seed, "blind", one.key) < share:
            one.kind = "blind"


def _with_planted(
    seed: str,
    items: list[Item],
    table: _MaskRows,
    decisions: Sequence[Decision],
    wanted: Wanted,
) -> list[Item]:
    """The queue with wrong masks, each before the mask in whose place it stands.

    Those that this reviewer has decided do not come again.
    """
    last = {
        one.item: one.action
        for one in decisions
        if one.kind == "planted" and one.reviewer == wanted.reviewer
    }
    if wanted.planted:
        _ = table.by_id, table.by_image  # not while the reviewer waits for a mask
    areas = dict(zip(table.mask_ids, table.masks["area"].tolist(), strict=True))
    planted: dict[int, list[Item]] = {}
    for place, host in enumerate(items):
        if host.kind == "blind" or draw(seed, "planted", host.key) >= wanted.planted:
            continue
        key = planted_key(seed, host.key)
        area = areas[host.key] if host.key in areas else host.row["area"]
        if area < LEAST or last.get(key, "skip") not in ("skip", "undo"):
            continue
        before = int(draw(seed, "place", host.key) * (place + 1))
        score = _between(items, before)
        make = partial(_planted, seed, host, score, table)
        wrong = Item(key, host.image_id, host.structure, score, make, "planted", host=host.key)
        planted.setdefault(before, []).append(wrong)
    return [one for place, item in enumerate(items) for one in (*planted.get(place, ()), item)]


def _planted(seed: str, host: Item, score: float | None, table: _MaskRows) -> dict[str, Any]:
    """The row of the wrong mask in the place of `host`, as it was queued."""
    place = table.by_id.get(host.key)
    queued = host.row if place is None else table.rows([place])[0]
    others = table.rows(table.by_image.get(host.image_id, ()))
    return {**planted_row(seed, queued, others), "score": score}


def _between(items: Sequence[Item], place: int) -> float | None:
    """A score that fits at `place` of the queue."""
    score, before = (items[at].score for at in (place, max(place - 1, 0)))
    return None if score is None or before is None else float(score + before) / 2
