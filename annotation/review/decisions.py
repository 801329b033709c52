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
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sono.annotation.review.logged_rows import check_logged_rows
from sono.curation.core.atomic import read_regular
from sono.curation.core.config import format_problem
from sono.curation.core.console import warn
from sono.curation.core.errors import SonoError

MaskAction = Literal["accept", "edit", "reject", "skip", "flag", "pick_a", "pick_b"]
Action = Literal[MaskAction, "undo", "frame", "caption"]
# A decision of a second reviewer and one on a wrong mask shown on purpose stay out of the table.
# One on the frame itself (excluded, remarks that are wrong) or a caption has a row of its own form.
# A `new` mask was drawn where there was none: the row before has no pixels.
Kind = Literal["first", "second", "adjudication", "planted", "blind", "new", "frame", "caption"]
Row = Mapping[str, Any]
PRIVATE_MODE = 0o600
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Decision:
    """A decision of one reviewer: the row of the mask or caption before it and after it.

    The rows are equal for `skip` and `flag`. `undo` is the decision before with its rows exchanged.
    A `blind` decision is a first one on a mask that was not shown; `pick_a` and `pick_b` are those
    of an adjudication, where A is the mask of the first reviewer.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
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


_ENTRY = TypeAdapter(Decision)


class DecisionLog:
    """The log of a study, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        """Read and check the log at `path`, if there is one.

        An unfinished last line is moved to a file of its own. Raises SonoError for a line that
        this module does not write.
        """
        self.path = path
        self.decisions: list[Decision] = []
        self.applied = 0
        self._size = 0  # bytes
        self._lines: list[int] = []  # of the decisions
        self._end = 0  # the last line
        if path.is_symlink():
            raise SonoError(f"{path}: a link, not a file; put the file itself there")
        if path.exists():
            self._read()

    def append(self, decision: Decision) -> None:
        """Write a decision; it is on disk when this returns."""
        self._write(asdict(decision))
        self.decisions.append(decision)
        self._lines.append(self._end)

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
        descriptor = os.open(self.path, FLAGS, PRIVATE_MODE)
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
                self._end += 1
            except OSError as error:
                os.ftruncate(descriptor, whole)
                raise SonoError(
                    f"{self.path}: this decision could not be saved ({error.strerror}); make room "
                    "on the disk and decide again"
                ) from error
        finally:
            os.close(descriptor)

    def damaged(self, place: int, why: str) -> SonoError:
        """The error for the decision at `place`, which is not as this module writes it."""
        return self._no_decision(self._lines[place], why)

    def _no_decision(self, line: int, why: object) -> SonoError:
        return SonoError(
            f"{self.path}: line {line} is no decision ({why}); restore the file from a backup, or "
            "move it away to begin a new log"
        )

    def _read(self) -> None:
        for number, line in enumerate(self._whole_lines(), start=1):
            self._end = number
            try:
                self._take(json.loads(line))
            except ValidationError as error:
                raise self._no_decision(number, format_problem(error)) from error
            except (ValueError, RecursionError) as error:
                raise self._no_decision(number, error) from error
        check_logged_rows(self.decisions, self.damaged)
        if self.applied > len(self.decisions):
            raise SonoError(
                f"{self.path}: {self.applied - len(self.decisions)} of {self.applied} decisions "
                "are missing; restore the file from a backup, or move it away to begin a new log"
            )

    def _take(self, entry: Any) -> None:
        """Add an entry; raises ValueError if it is none."""
        if not isinstance(entry, dict):
            raise ValueError("not an object")
        if "applied" not in entry:
            self.decisions.append(_ENTRY.validate_python(entry))
            self._lines.append(self._end)
            return
        self.applied = entry["applied"]
        if type(self.applied) is not int or self.applied < 0 or len(entry) > 1:
            raise ValueError("'applied' is not a number of decisions")

    def _whole_lines(self) -> list[bytes]:
        """The lines of the file, which ends with a whole one afterwards."""
        content = read_regular(self.path)
        whole = content.rfind(b"\n") + 1
        rest = content[whole:]
        if rest and _is_complete(rest):
            _append(self.path, b"\n")
            content, whole = content + b"\n", len(content) + 1
        elif rest:
            copy = self.path.with_name(f"{self.path.stem}.unfinished{self.path.suffix}")
            _append(copy, rest + b"\n")
            os.truncate(self.path, whole)
            warn(
                f"{self.path}: the last line is not complete, as of a review that was killed while "
                f"it saved a decision; it does not count and is kept in {copy.name}: check that "
                "your last decision is there"
            )
        self._size = whole
        return content[:whole].splitlines()


def _is_complete(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _append(path: Path, content: bytes) -> None:
    """Append to a file on disk; a link is not followed."""
    with os.fdopen(os.open(path, FLAGS, PRIVATE_MODE), "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
