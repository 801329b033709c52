"""The append-only log of decisions on masks, frames and captions.

A decision counts once its line is on disk. The tables are written when the review ends; a line
`applied` says up to which decision they have been. What a killed review left is applied when the
next one starts.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sono.curation.core.atomic import read_regular
from sono.curation.core.errors import SonoError

MaskAction = Literal["accept", "edit", "reject", "skip", "flag", "pick_a", "pick_b"]
Action = MaskAction | Literal["undo", "frame", "caption"]
ACTIONS = (*get_args(MaskAction), "undo", "frame", "caption")
# A decision of a second reviewer and one on a wrong mask shown on purpose stay out of the table.
# One on the frame itself (excluded, remarks that are wrong) or a caption has a row of its own form.
# A `new` mask was drawn where there was none: the row before has no pixels.
Kind = Literal["first", "second", "adjudication", "planted", "blind", "new", "frame", "caption"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """A decision of one reviewer: the row of the mask or caption before it and after it.

    The rows are equal for `skip` and `flag`. `undo` is the decision before with its rows exchanged.
    A `blind` decision is a first one on a mask that was not shown; `pick_a` and `pick_b` are those
    of an adjudication, where A is the mask of the first reviewer.
    """

    number: int
    # the id of the mask as it was queued (edits change the id of the row), or of the frame
    item: str
    action: Action
    reviewer: str
    at: str  # ISO 8601, UTC
    before: Row
    after: Row
    kind: Kind = "first"

    @property
    def of_mask(self) -> bool:
        """Whether it is on a mask of the study."""
        return self.kind not in ("planted", "frame", "caption")


def last_standing(decisions: Sequence[Decision], reviewer: str) -> Decision | None:
    """The last decision of a reviewer that was not taken back."""
    taken = 0
    for decision in reversed(decisions):
        if decision.reviewer != reviewer:
            continue
        if decision.action == "undo":
            taken += 1
        elif taken:
            taken -= 1
        else:
            return decision
    return None


class DecisionLog:
    """The log of a study, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        """Read the log at `path`, if there is one; an unfinished last line is cut off."""
        self.path = path
        self.decisions: list[Decision] = []
        self.applied = 0
        self._size = 0  # bytes
        if path.exists():
            self._read()

    def append(self, decision: Decision) -> None:
        """Write a decision; it is on disk when this returns."""
        self._write(asdict(decision))
        self.decisions.append(decision)

    def mark_applied(self) -> None:
        """Note that the tables contain every decision."""
        if self.applied < len(self.decisions):
            self._write({"applied": len(self.decisions)})
            self.applied = len(self.decisions)

    def pending(self) -> list[Decision]:
        """The decisions that the tables do not contain yet."""
        return self.decisions[self.applied :]

    def _write(self, content: Mapping[str, Any]) -> None:
        line = json.dumps(content, separators=(",", ":")).encode() + b"\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            whole = os.fstat(descriptor).st_size
            if whole != self._size:
                raise SonoError(
                    f"{self.path}: removed or changed by another program during the review, so "
                    "this could not be saved; end the review, which writes the decisions before it "
                    "into the tables, and restore the file"
                )
            try:
                written = os.write(descriptor, line)
                if written < len(line):
                    raise OSError(28, os.strerror(28))
                os.fsync(descriptor)
                self._size += written
            except OSError as error:
                os.ftruncate(descriptor, whole)
                raise SonoError(
                    f"{self.path}: this decision could not be saved ({error.strerror}); make room "
                    "on the disk and decide again"
                ) from error
        finally:
            os.close(descriptor)

    def _read(self) -> None:
        content = read_regular(self.path)
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)
        self._size = whole
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                if "applied" in entry:
                    self.applied = int(entry["applied"])
                else:
                    self.decisions.append(Decision(**entry))
                    for name, known in (("action", ACTIONS), ("kind", get_args(Kind))):
                        if getattr(self.decisions[-1], name) not in known:
                            raise ValueError(f"unknown {name} {entry[name]}")
            except (ValueError, TypeError) as error:
                raise SonoError(
                    f"{self.path}: line {number} is no decision ({error}); restore the file from a "
                    "backup, or move it away to begin a new log"
                ) from error
        if self.applied > len(self.decisions):
            raise SonoError(
                f"{self.path}: {self.applied - len(self.decisions)} of {self.applied} decisions "
                "are missing; restore the file from a backup, or move it away to begin a new log"
            )
