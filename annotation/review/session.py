"""One review: the masks in the order of doubt, and each decision saved before it is confirmed."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sono.annotation.mask_labels import structure_name
from sono.annotation.masks import mask_row, pixels
from sono.annotation.proposers import Proposal
from sono.annotation.review.counts import Counts
from sono.annotation.review.decisions import Action, Decision, DecisionLog, Kind, Row, last_standing
from sono.annotation.review.frames import Frames
from sono.annotation.review.keys import ReviewConfig
from sono.annotation.review.missing import drawable, missing_items, new_item
from sono.annotation.review.prompter import Prompter
from sono.annotation.review.queue import Item, Wanted, competes, make_queue
from sono.annotation.review.reviewer import check_reviewer
from sono.annotation.review.summary import ReviewSummary, summarize
from sono.annotation.review.writing import WRITTEN, write_pending
from sono.curation.core.errors import SonoError, typed_name
from sono.curation.core.frame_files import read_stored
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_file, check_privacy

STATES: dict[Action, str] = {"accept": "accepted", "edit": "edited", "reject": "rejected"}
MOST_RIVALS = 3  # proposals that are shown next to another one
PICKS: tuple[Action, ...] = ("pick_a", "pick_b")
KEPT = ("mask_id", "structure", "state", "source", "score", "width", "height", "reviewer")


class StaleError(Exception):
    """The mask was decided elsewhere since it was shown; `version` is the current one."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


@dataclass
class ReviewSession:
    """The state of a running review. All methods may be called from several threads."""

    workspace: Workspace
    reviewer: str
    log: DecisionLog
    items: list[Item]
    frames: Frames
    planes: PlaneTable
    first: int  # decisions in the log before this review
    prompter: Prompter
    keys: Mapping[str, str]  # of the page, by what they do
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _prompted: dict[int, Proposal] = field(default_factory=dict)  # the last answers, by place

    def __post_init__(self) -> None:
        """Count the queue."""
        self._counts = Counts.of(self.items)
        _ = self._places_of  # not while the reviewer waits for a mask
        self._place = {one.key: place for place, one in enumerate(self.items)}

    @classmethod
    def open(cls, workspace: Workspace, wanted: Wanted) -> "ReviewSession":
        """Queue the masks that are wanted.

        What an interrupted review has not written yet is applied to the masks table first. Raises
        SonoError if there is nothing to review, and PrivacyError if the reviewer's name is private.
        """
        reviewer = typed_name("--reviewer", wanted.reviewer)
        check_reviewer(workspace, reviewer)
        log = DecisionLog(workspace.reviews_path)
        if log.pending():
            check_file(workspace, log.path, log.path.name)
            write_pending(workspace, log)
            check_privacy(workspace)
        frames = Frames.open(workspace)
        planes = workspace.planes()
        if wanted.which == "missing":
            items = missing_items(frames, planes, log, wanted)
        else:
            items = make_queue(workspace, frames.places, log, replace(wanted, reviewer=reviewer))
        prompter = Prompter.load(workspace, wanted.checkpoint)
        keys = workspace.settings("review", ReviewConfig).all_keys()
        first = len(log.decisions)
        return cls(workspace, reviewer, log, items, frames, planes, first, prompter, keys)

    def item(self, place: int) -> dict[str, Any]:
        """What the page shows of the mask at `place` in the queue."""
        with self._guard:
            one = self.items[place]
            return {
                "place": place,
                "version": one.version,
                "decided": one.decided,
                "plane": self.frames.plane(one.image_id),
                "blind": one.hidden,
                "empty": one.empty,
                "added": one.added,
                **self.prompter.offer(one.structure),
                "rivals": [
                    {"place": at, "version": rival.version, **_named(rival.row)}
                    for at, rival in self._rivals(one)
                ],
                "frame": self.frames.shown(one.image_id, self._captions_of(one)),
                "versions": [
                    {"state": row["state"], "own": row["reviewer"] == self.reviewer}
                    for row in one.versions
                ],
                **{name: one.row[name] for name in KEPT},
            }

    def mask(self, place: int, version: int | None = None) -> NDArray[np.bool_]:
        """The mask [H, W] at `place`, empty if it is blind, or one of its two versions."""
        one = self.items[place]
        whole = pixels(one.row if version is None else one.versions[version])
        return np.zeros_like(whole) if one.hidden else whole

    def frame(self, place: int) -> bytes:
        """The stored frame of the mask at `place`, as PNG; raises SonoError if it is damaged."""
        path = self.frames.path(self.items[place].image_id)
        read_stored(path)
        return path.read_bytes()

    def prompt(
        self,
        place: int,
        box: tuple[int, int, int, int] | None,
        point: tuple[int, int] | None,
    ) -> NDArray[np.bool_]:
        """A new mask [H, W] of the structure at `place`, from a box or a point of the reviewer.

        Nothing is decided. An `edit` with these very pixels is stored with their prompt.
        """
        one = self.items[place]
        gray = read_stored(self.frames.path(one.image_id))
        found = self.prompter.propose(gray, one.structure, box, point)
        with self._guard:
            self._prompted[place] = found
        return found.mask

    def structures(self, place: int) -> dict[str, list[str]]:
        """What can be drawn on the frame at `place`."""
        return drawable(self.frames, self.planes, self.items[place].image_id)

    def add(self, place: int, structure: str) -> dict[str, Any]:
        """Ask for a new mask of a structure on the frame at `place`; nothing is decided."""
        structure = structure_name(structure, self.planes)
        with self._guard:
            image_id = self.items[place].image_id
            for at in self._places_of[image_id]:
                one = self.items[at]
                if (one.kind, one.structure, one.decided) == ("new", structure, None):
                    return self.item(at)
            one, at = new_item(self.frames, image_id, structure, added=True), len(self.items)
            self.items.append(one)
            self._place[one.key] = at
            self._places_of[image_id].append(at)
            return self.item(at)

    def decide(
        self,
        place: int,
        version: int,
        action: Action,
        drawn: NDArray[np.bool_] | None = None,
        over: Sequence[tuple[int, int]] = (),
    ) -> dict[str, Any]:
        """Save a decision on the mask at `place`; `drawn` [H, W] is the mask of an `edit`.

        `over` are the places and versions of other proposals of the structure, which are rejected.
        All is on disk when this returns. Raises StaleError if a mask is at another version, and
        SonoError for an empty mask or one of another size.
        """
        with self._guard:
            one = self.items[place]
            for at, shown in ((place, version), *over):
                if self.items[at].version != shown:
                    raise StaleError(self.items[at].version)
            for at, _ in over:
                if at == place or not competes(self.items[at], one):
                    raise SonoError("only other proposals of this structure are rejected with it")
            after = self._decided(one, action, drawn)
            # a wrong mask shown on purpose rejects no real one; they come again
            for at, _ in () if one.kind == "planted" else over:
                self._save(self.items[at], "reject", self._decided(self.items[at], "reject", None))
            self._save(one, action, after)
            return self.item(place)

    def judge_frame(
        self, place: int, version: int, excluded: str | None, withdrawn: Collection[str]
    ) -> dict[str, Any]:
        """Save whether the frame of the mask at `place` is excluded and which remarks are wrong.

        `version` is that of the frame; as for `decide`.
        """
        with self._guard:
            image_id = self.items[place].image_id
            self._check_frame(image_id, version)
            after = self.frames.judged(image_id, excluded, withdrawn)
            before = self.frames.verdict(image_id)
            self._log(image_id, "frame", before, {**after, **self._signed()}, "frame")
            return self.item(place)

    def judge_caption(
        self,
        place: int,
        version: int,
        level: Literal["global", "region"],
        state: Literal["corrected", "wrong"],
        text: str = "",
    ) -> dict[str, Any]:
        """Save the corrected `text` of a caption of the mask at `place`, or that it is wrong.

        `version` is that of the frame; as for `decide`.
        """
        one = self.items[place]
        shown = [row for row in self._captions_of(one) if row["level"] == level]
        if not shown:
            raise SonoError("no such caption; run `sono captions build` after the review")
        (before,) = shown
        structure = one.structure if level == "region" else None
        after = (
            self.frames.corrected(before, structure, text.strip())
            if state == "corrected"
            else self.frames.marked(before, structure)
        )
        with self._guard:
            self._check_frame(one.image_id, version)
            self._log(one.image_id, "caption", before, {**after, **self._signed()}, "caption")
            return self.item(place)

    def _check_frame(self, image_id: str, version: int) -> None:
        if self.frames.versions[image_id] != version:
            raise StaleError(self.frames.versions[image_id])

    def _signed(self) -> dict[str, str]:
        return {"reviewer": self.reviewer, "reviewed_at": _now()}

    def _captions_of(self, one: Item) -> list[Row]:
        """The captions of the frame and of a mask, with the id that the mask has now."""
        key = one.host or one.key
        masks = (None, key, str(self.items[self._place[key]].row["mask_id"]))
        found = {mask_id: self.frames.caption((one.image_id, mask_id)) for mask_id in masks}
        region = found[masks[2]] or found[key]
        whole = found[None]
        return [row for row in (whole, region and {**region, "mask_id": masks[2]}) if row]

    def _rivals(self, one: Item) -> list[tuple[int, Item]]:
        """Undecided proposals of other sources for the same structure, with their places.

        A wrong mask shown on purpose has those of the mask in whose place it stands.
        """
        if one.decided:
            return []
        own = self.items[self._place[one.host or one.key]]
        found = [
            (place, rival)
            for place in self._places_of[one.image_id]
            if (rival := self.items[place]) is not own
            and rival.kind == "first"
            and competes(rival, one)
            and rival.row["source"] != own.row["source"]
        ]
        return found[:MOST_RIVALS]

    @cached_property
    def _places_of(self) -> dict[str, list[int]]:
        """The places of the masks of each frame."""
        found: dict[str, list[int]] = {}
        for place, one in enumerate(self.items):
            found.setdefault(one.image_id, []).append(place)
        return found

    def undo(self) -> dict[str, Any] | None:
        """Take back this reviewer's last decision of this review; None if there is none left."""
        with self._guard:
            last = last_standing(self.log.decisions[self.first :], self.reviewer)
            return None if last is None else self.item(self._undo(last))

    def _undo(self, decision: Decision) -> int:
        """Take a decision back; returns the place of its mask."""
        before = dict(decision.before)
        if decision.kind in ("frame", "caption"):
            self._log(decision.item, "undo", decision.after, before, decision.kind)
            return self._places_of[decision.item][0]
        place = self._place[decision.item]
        self._save(self.items[place], "undo", before)
        return place

    def progress(self) -> dict[str, Any]:
        """Counts of all masks of the queue and of the decided ones, also by structure."""
        with self._guard:
            aside = sum(
                one.decided is None and not one.added
                for image_id in self.frames.excluded()
                for one in map(self.items.__getitem__, self._places_of[image_id])
            )
            return {"reviewer": self.reviewer, "set_aside": aside, **self._counts.shown()}

    def next_open(self, place: int, other_structure: bool = False) -> int | None:
        """The first mask after `place` that is not decided, from the beginning at the end.

        Masks of excluded frames are passed over, and those of the structure at `place` if another
        one is asked for.
        """
        with self._guard:
            excluded = set(self.frames.excluded())
            shown = self.items[place].structure if other_structure and place >= 0 else None
            order = chain(range(place + 1, len(self.items)), range(place + 1))
            return next((one for one in order if self._is_open(one, excluded, shown)), None)

    def _is_open(self, place: int, excluded: Collection[str], shown: str | None) -> bool:
        one = self.items[place]
        if one.decided is not None or one.added:
            return False
        return one.image_id not in excluded and one.structure != shown

    def write(self) -> None:
        """Write the decisions into the tables."""
        with self._guard:
            write_pending(self.workspace, self.log)

    def finish(self) -> None:
        """Write the decisions and search the workspace, as every command does at its end."""
        try:
            self.write()
        except SonoError as error:
            raise SonoError(
                f"{error}; decisions that the tables do not have yet are in "
                f"{self.log.path.name}, and the next `sono masks review` writes them"
            ) from error
        if len(self.log.decisions) > self.first:
            check_privacy(self.workspace)

    def summary(self) -> ReviewSummary:
        """What this review decided, and how well all reviews agree so far."""
        counts = self.progress()["actions"]
        return summarize(self.workspace, self.log, self.first, self.reviewer, self.items, counts)

    def _decided(
        self, one: Item, action: Action, drawn: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        row: Mapping[str, Any] = one.row
        signed: dict[str, Any] = {**self._signed()}
        if action in PICKS:
            if len(one.versions) <= PICKS.index(action):
                raise SonoError(f"{action}: this mask has no second version; accept or reject it")
            return {**one.versions[PICKS.index(action)], **signed}
        if action not in STATES:
            return dict(row)
        if action == "accept" and (one.hidden or one.empty):
            why = "its proposal is not shown" if one.hidden else "there is none yet"
            raise SonoError(f"draw this mask: {why}, so it cannot be accepted")
        signed["state"] = STATES[action]
        if action != "edit":
            return {**row, **signed}
        if drawn is None:
            raise SonoError("an edited mask without its pixels; draw it again")
        found = self._prompted.get(self._place[one.key])
        if found is not None and np.array_equal(found.mask, drawn):
            signed |= {"prompt": found.prompt, "model_hash": self.prompter.proposer.model_hash}
            signed |= {"score": found.score, "stability": found.stability}
            source = self.prompter.proposer.source
        else:
            source = str(row["source"])
        made = mask_row(row, drawn, str(row["structure"]), source)
        return {**row, **made, **signed}

    def _save(self, one: Item, action: Action, after: dict[str, Any]) -> None:
        self._log(one.key, action, one.row, after, one.kind)
        self._counts.add(one, -1)
        one.row, one.version = after, one.version + 1
        one.decided = None if action in ("skip", "undo") else action
        self._counts.add(one, 1)

    def _log(self, item: str, action: Action, before: Row, after: Row, kind: Kind) -> None:
        """Write a decision to the log, and note it where the page reads it."""
        number = len(self.log.decisions) + 1
        self.log.append(Decision(number, item, action, self.reviewer, _now(), before, after, kind))
        if kind == "frame":
            self.frames.keep_verdict(item, after)
        elif kind == "caption":
            self.frames.keep_caption(after)
        elif kind in WRITTEN:
            self.frames.keep_mask(before, after)


def _named(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("source", "score")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
