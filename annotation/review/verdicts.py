"""What each reviewer decided on each mask, read from the log of decisions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sono.annotation.masks import dice, pixels
from sono.annotation.review.decisions import Decision, Row
from sono.curation.core.column_values import TRAINED_STATES

DIFFERENT = 0.9  # Dice of two reviewers' masks below which a third person decides
UNDECIDED = {"state": "proposed", "reviewer": None, "reviewed_at": None}


@dataclass
class History:
    """The verdicts on one mask: rows of the masks table after each reviewer's decision."""

    proposal: Row  # before the first decision
    current: Row  # as the masks table has it
    first: Row | None = None
    seconds: dict[str, Row] = field(default_factory=dict)  # by reviewer

    @property
    def adjudicated(self) -> bool:
        """Whether the table has another verdict than the first reviewer's."""
        return self.first is not None and self.current != self.first

    def pair(self) -> tuple[Row, Row] | None:
        """The first verdict and the last one of a second reviewer, if there are two."""
        if self.first is None:
            return None
        others = [row for name, row in self.seconds.items() if name != self.first["reviewer"]]
        return (self.first, others[-1]) if others else None


@dataclass
class Histories:
    """The histories by the id of the mask as it was proposed; edits change the id."""

    by_origin: dict[str, History] = field(default_factory=dict)
    _origins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, decisions: Iterable[Decision]) -> "Histories":
        """Follow the decisions on masks; one taken back or on a planted mask is no verdict."""
        histories = cls()
        for decision in decisions:
            if decision.of_mask:
                histories._follow(decision)
        return histories

    def _follow(self, decision: Decision) -> None:
        before, after = str(decision.before["mask_id"]), str(decision.after["mask_id"])
        origin = self._origins.get(before, before)
        self._origins[after] = origin
        history = self.by_origin.setdefault(origin, History(decision.before, decision.before))
        verdict = None if decision.after["state"] == "proposed" else decision.after
        if decision.kind == "second":
            history.seconds.pop(decision.reviewer, None)
            if verdict is not None:
                history.seconds[decision.reviewer] = verdict
            return
        history.current = decision.after
        if decision.kind != "adjudication":
            history.first = verdict


def differ(one: Row, other: Row) -> bool:
    """Whether two verdicts are not the same: kept by one reviewer only, or with other pixels."""
    if kept(one) != kept(other):
        return True
    return kept(one) and dice(pixels(one), pixels(other)) < DIFFERENT


def kept(row: Row) -> bool:
    """Whether a verdict is that the mask shows its structure, as proposed or edited."""
    return row["state"] in TRAINED_STATES


def as_proposed(row: Row) -> dict[str, Any]:
    """A row without its decision."""
    return {**row, **UNDECIDED}
