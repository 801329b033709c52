"""One review: the masks in the order of doubt, and each decision saved before it is confirmed."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.masks import mask_row
from sono.annotation.review.decisions import Action, Decision, DecisionLog, apply_decisions
from sono.curation.core.console import warn
from sono.curation.core.errors import SonoError, did_you_mean, typed_name
from sono.curation.core.frame_files import read_stored
from sono.curation.core.rle import decode
from sono.curation.core.tables import MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy, check_texts

NO_SCORE = 0.5  # of a proposal without one
STATES: dict[Action, str] = {"accept": "accepted", "edit": "edited", "reject": "rejected"}
KEPT = ("mask_id", "structure", "state", "source", "score", "width", "height", "reviewer")


class StaleError(Exception):
    """The mask was decided elsewhere since it was shown; `version` is the current one."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


@dataclass
class Item:
    """A mask in the queue: its row now, how often it was decided, and by what action last."""

    key: str  # the id of the mask as it was queued
    row: dict[str, Any]
    version: int = 0
    decided: Action | None = None


@dataclass(frozen=True)
class ReviewSummary:
    """Masks in the queue, how many of them were decided in this review and how, and remarks."""

    queued: int
    decided: dict[str, int]
    seconds_per_mask: float | None  # median between two decisions
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
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _total: Counter[str] = field(default_factory=Counter)  # by structure, as are the decided ones
    _done: Counter[str] = field(default_factory=Counter)
    _actions: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Count the queue."""
        self._total.update(sorted(str(one.row["structure"]) for one in self.items))
        self._place = {one.key: place for place, one in enumerate(self.items)}

    @classmethod
    def open(
        cls,
        workspace: Workspace,
        reviewer: str,
        structure: str | None = None,
        which: Literal["proposed", "decided", "all"] = "proposed",
    ) -> "ReviewSession":
        """Queue the masks of accepted frames, the most doubtful (lowest score) first.

        What an interrupted review has not written yet is applied to the masks table first. Raises
        SonoError if there is nothing to review, and PrivacyError if the reviewer's name is private.
        """
        reviewer = typed_name("--reviewer", reviewer)
        check_texts(workspace, workspace.reviews_path.name, [reviewer])
        log = DecisionLog(workspace.reviews_path)
        if log.pending():
            write_pending(workspace, log)
            check_privacy(workspace)
        images = workspace.accepted_images().drop_duplicates("image_id").set_index("image_id")
        masks = workspace.masks()
        masks = masks[masks["image_id"].isin(images.index)]
        if structure is not None and structure not in set(masks["structure"]):
            known = did_you_mean(structure, masks["structure"])
            raise SonoError(f"--structure '{structure}': no mask has it{known}")
        wanted = masks if structure is None else masks[masks["structure"] == structure]
        proposed = wanted["state"] == "proposed"
        wanted = wanted if which == "all" else wanted[proposed == (which == "proposed")]
        if wanted.empty:
            raise SonoError(
                f"{workspace.root}: no {'' if which == 'all' else which + ' '}masks to review; "
                + (
                    "run `sono masks propose`, or look at decided ones with --which decided"
                    if which == "proposed"
                    else "run `sono masks propose` or `sono masks import`"
                )
            )
        shown = set(wanted["image_id"])
        return cls(
            workspace,
            reviewer,
            log,
            [Item(str(row["mask_id"]), row) for row in rows_of(_by_doubt(wanted))],
            {
                str(name): {"file": row["file"], "plane": row["plane"]}
                for name, row in images.loc[images.index.isin(shown)].iterrows()
            },
            len(log.decisions),
        )

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
                **{name: one.row[name] for name in KEPT},
            }

    def mask(self, place: int) -> NDArray[np.bool_]:
        """The mask [H, W] at `place`."""
        row = self.items[place].row
        return decode(row["counts"], int(row["height"]), int(row["width"]))

    def frame(self, place: int) -> bytes:
        """The stored frame of the mask at `place`, as PNG; raises SonoError if it is damaged."""
        file = self.frames[self.items[place].row["image_id"]]["file"]
        path = self.workspace.root / str(file)
        read_stored(path)
        return path.read_bytes()

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
            after = self._decided(one.row, action, drawn)
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
        """What this review decided."""
        own = self.log.decisions[self.first :]
        times = pd.to_datetime([one.at for one in own if one.action != "undo"], format="ISO8601")
        pauses = np.diff(times.to_numpy()) / np.timedelta64(1, "s")
        return ReviewSummary(
            queued=len(self.items),
            decided=self.progress()["actions"],
            seconds_per_mask=round(float(np.median(pauses)), 1) if len(pauses) else None,
        )

    def _decided(
        self, row: Mapping[str, Any], action: Action, drawn: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        if action not in STATES:
            return dict(row)
        signed = {"state": STATES[action], "reviewer": self.reviewer, "reviewed_at": _now()}
        if action != "edit":
            return {**row, **signed}
        if drawn is None:
            raise SonoError("an edited mask without its pixels; draw it again")
        size = {"height": row["height"], "width": row["width"], "image_id": row["image_id"]}
        made = mask_row(size, drawn, str(row["structure"]), str(row["source"]))
        return {**row, **made, **signed}

    def _save(self, one: Item, action: Action, after: dict[str, Any]) -> None:
        number = len(self.log.decisions) + 1
        self.log.append(Decision(number, one.key, action, self.reviewer, _now(), one.row, after))
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


def _by_doubt(masks: pd.DataFrame) -> pd.DataFrame:
    """The lowest score first; of equal ones in the order of their ids, which is a random draw."""
    doubt = masks["score"].fillna(NO_SCORE).astype(float)
    return masks.assign(doubt=doubt).sort_values(["doubt", "mask_id"]).drop(columns="doubt")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
