"""One review: the masks in the order of doubt, and each decision saved before it is confirmed."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.masks import mask_row, pixels
from sono.annotation.proposers import Proposal
from sono.annotation.review.decisions import Action, Decision, DecisionLog, apply_decisions
from sono.annotation.review.prompter import Prompter
from sono.annotation.review.quality import AgreementRow, agreement_rows, patients_of, reviewer_rows
from sono.annotation.review.queue import Item, Wanted, make_queue
from sono.annotation.review.verdicts import Histories
from sono.curation.core.console import warn
from sono.curation.core.errors import PrivacyError, SonoError, typed_name
from sono.curation.core.frame_files import read_stored
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy, check_texts

STATES: dict[Action, str] = {"accept": "accepted", "edit": "edited", "reject": "rejected"}
PICKS: tuple[Action, ...] = ("pick_a", "pick_b")
KEPT = ("mask_id", "structure", "state", "source", "score", "width", "height", "reviewer")


class StaleError(Exception):
    """The mask was decided elsewhere since it was shown; `version` is the current one."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


@dataclass(frozen=True)
class ReviewSummary:
    """Masks in the queue, how many of them were decided in this review and how, and remarks."""

    queued: int
    decided: dict[str, int]
    seconds_per_mask: float | None  # median between two decisions
    accepted_unchanged: float | None = None  # share of the masks that were kept
    planted: str | None = None  # how many wrong masks were accepted
    agreement: tuple[str, ...] = ()  # a line for each structure
    remarks: tuple[str, ...] = ()


@dataclass
class ReviewSession:
    """The state of a running review. All methods may be called from several threads."""

    workspace: Workspace
    reviewer: str
    log: DecisionLog
    items: list[Item]
    frames: Mapping[str, Mapping[str, Any]]  # rows of the images table by image id
    first: int  # decisions in the log before this review
    prompter: Prompter
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _prompted: dict[int, Proposal] = field(default_factory=dict)  # the last answers, by place
    _total: Counter[str] = field(default_factory=Counter)  # by structure, as are the decided ones
    _done: Counter[str] = field(default_factory=Counter)
    _actions: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Count the queue."""
        self._total.update(sorted(str(one.row["structure"]) for one in self.items))
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
            write_pending(workspace, log)
            check_privacy(workspace)
        images = workspace.accepted_images().drop_duplicates("image_id").set_index("image_id")
        items = make_queue(workspace, images, log, replace(wanted, reviewer=reviewer))
        shown = {one.row["image_id"] for one in items}
        files = images.loc[images.index.isin(shown), ["file", "plane"]]
        frames = dict(zip(files.index, files.to_dict("records"), strict=True))
        prompter = Prompter.load(workspace, wanted.checkpoint)
        return cls(workspace, reviewer, log, items, frames, len(log.decisions), prompter)

    def item(self, place: int) -> dict[str, Any]:
        """What the page shows of the mask at `place` in the queue."""
        with self._guard:
            one = self.items[place]
            plane = self.frames[one.row["image_id"]]["plane"]
            return {
                "place": place,
                "version": one.version,
                "decided": one.decided,
                "plane": None if pd.isna(plane) else plane,
                "blind": _is_hidden(one),
                **self.prompter.offer(str(one.row["structure"])),
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
        return np.zeros_like(whole) if _is_hidden(one) else whole

    def frame(self, place: int) -> bytes:
        """The stored frame of the mask at `place`, as PNG; raises SonoError if it is damaged."""
        path = self._path(place)
        read_stored(path)
        return path.read_bytes()

    def _path(self, place: int) -> Path:
        return self.workspace.root / str(self.frames[self.items[place].row["image_id"]]["file"])

    def prompt(
        self,
        place: int,
        box: tuple[int, int, int, int] | None,
        point: tuple[int, int] | None,
    ) -> NDArray[np.bool_]:
        """A new mask [H, W] of the structure at `place`, from a box or a point of the reviewer.

        Nothing is decided. An `edit` with these very pixels is stored with their prompt.
        """
        structure = str(self.items[place].row["structure"])
        found = self.prompter.propose(read_stored(self._path(place)), structure, box, point)
        with self._guard:
            self._prompted[place] = found
        return found.mask

    def decide(
        self, place: int, version: int, action: Action, drawn: NDArray[np.bool_] | None = None
    ) -> dict[str, Any]:
        """Save a decision on the mask at `place`; `drawn` [H, W] is the mask of an `edit`.

        It is on disk when this returns. Raises StaleError if the mask is at another version, and
        SonoError for an empty mask or one of another size.
        """
        with self._guard:
            one = self.items[place]
            if one.version != version:
                raise StaleError(one.version)
            after = self._decided(one, action, drawn)
            self._save(one, action, after)
            return self.item(place)

    def undo(self) -> dict[str, Any] | None:
        """Take back this reviewer's last decision of this review; None if there is none left."""
        with self._guard:
            taken = 0
            for decision in reversed(self.log.decisions[self.first :]):
                if decision.reviewer != self.reviewer:
                    continue
                if decision.action == "undo":
                    taken += 1
                elif taken:
                    taken -= 1
                else:
                    place = self._place[decision.item]
                    self._save(self.items[place], "undo", dict(decision.before))
                    return self.item(place)
            return None

    def progress(self) -> dict[str, Any]:
        """Counts of all masks of the queue and of the decided ones, also by structure."""
        with self._guard:
            return {
                "reviewer": self.reviewer,
                "total": len(self.items),
                "decided": self._actions.total(),
                "actions": dict(+self._actions),
                "structures": {name: [self._done[name], self._total[name]] for name in self._total},
            }

    def next_open(self, place: int) -> int | None:
        """The first mask after `place` that is not decided, from the beginning at the end."""
        with self._guard:
            order = chain(range(place + 1, len(self.items)), range(place + 1))
            return next((one for one in order if self.items[one].decided is None), None)

    def write(self) -> None:
        """Write the decisions into the masks table."""
        with self._guard:
            write_pending(self.workspace, self.log)

    def finish(self) -> None:
        """Write the decisions and search the workspace, as every command does at its end."""
        try:
            self.write()
        except SonoError as error:
            raise SonoError(
                f"{error}; decisions that the masks table does not have yet are in "
                f"{self.log.path.name}, and the next `sono masks review` writes them"
            ) from error
        if len(self.log.decisions) > self.first:
            check_privacy(self.workspace)

    def summary(self) -> ReviewSummary:
        """What this review decided, and how well all reviews agree so far."""
        own = reviewer_rows(self.log.decisions[self.first :])
        mine = [one for one in own if one.reviewer == self.reviewer]
        return ReviewSummary(
            queued=len(self.items),
            decided=self.progress()["actions"],
            seconds_per_mask=mine[0].seconds if mine else None,
            accepted_unchanged=mine[0].unchanged if mine else None,
            planted=mine[0].planted_text() if mine else None,
            agreement=tuple(f"{one.structure}: {one.text()}" for one in self.agreement()),
            remarks=self._own_adjudications(),
        )

    def agreement(self) -> list[AgreementRow]:
        """The agreement of two reviewers by structure, over all reviews of this study."""
        return agreement_rows(Histories.read(self.log.decisions), patients_of(self.workspace))

    def _own_adjudications(self) -> tuple[str, ...]:
        own = [
            one
            for one in self.items
            if one.decided and any(row["reviewer"] == self.reviewer for row in one.versions)
        ]
        if not own:
            return ()
        return (
            f"{len(own)} of the adjudicated masks had been decided by {self.reviewer} before; a "
            "third person should adjudicate them",
        )

    def _decided(
        self, one: Item, action: Action, drawn: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        row: Mapping[str, Any] = one.row
        signed: dict[str, Any] = {"reviewer": self.reviewer, "reviewed_at": _now()}
        if action in PICKS:
            if len(one.versions) <= PICKS.index(action):
                raise SonoError(f"{action}: this mask has no second version; accept or reject it")
            return {**one.versions[PICKS.index(action)], **signed}
        if action not in STATES:
            return dict(row)
        if action == "accept" and _is_hidden(one):
            raise SonoError("draw this mask: its proposal is not shown, so it cannot be accepted")
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
        number = len(self.log.decisions) + 1
        self.log.append(
            Decision(number, one.key, action, self.reviewer, _now(), one.row, after, one.kind)
        )
        self._count(one, -1)
        one.row, one.version = after, one.version + 1
        one.decided = None if action in ("skip", "undo") else action
        self._count(one, 1)

    def _count(self, one: Item, change: int) -> None:
        if one.decided is not None:
            self._done[str(one.row["structure"])] += change
            self._actions[one.decided] += change


def write_pending(workspace: Workspace, log: DecisionLog) -> None:
    """Write the decisions of `log` that are not in the masks table yet."""
    if not log.pending():
        return
    with workspace.lock():
        masks, lost = apply_decisions(workspace.read(MASKS), log.pending())
        workspace.write(MASKS, masks)
        log.mark_applied()
    if lost:
        warn(
            f"{workspace.root}: {len(lost)} decided masks are not in the masks table any more (the "
            f"first is {lost[0]}), because they were proposed or imported again since; review "
            "those that are there now"
        )


def check_reviewer(workspace: Workspace, reviewer: str) -> None:
    """Raise PrivacyError if the reviewer's name is a private string of the study."""
    try:
        check_texts(workspace, "--reviewer", [reviewer])
    except PrivacyError as error:
        if "--reviewer:" not in str(error):
            raise
        raise PrivacyError(
            "--reviewer: this name is a private string of the study, such as a patient's name; "
            "sign with another one, for example initials, or add it to public_words under [study] "
            "in sono.toml if it is not secret"
        ) from error


def _is_hidden(one: Item) -> bool:
    """Whether the reviewer is to draw this mask without seeing the proposal."""
    return one.kind == "blind" and one.row["state"] == "proposed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
