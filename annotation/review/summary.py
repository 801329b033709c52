"""What a review decided, for the terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sono.annotation.review.decisions import Decision, DecisionLog, Row
from sono.annotation.review.quality import agreement_rows, patients_of, reviewer_rows
from sono.annotation.review.queue import Item
from sono.annotation.review.verdicts import Histories
from sono.curation.core.workspace import Workspace


@dataclass(frozen=True)
class ReviewSummary:
    """Masks in the queue, how many of them were decided in this review and how, and remarks."""

    queued: int
    decided: dict[str, int]
    seconds_per_mask: float | None  # median between two decisions
    accepted_unchanged: float | None = None  # share of the masks that were kept
    planted: str | None = None  # how many wrong masks were accepted
    frames_excluded: dict[str, int] = field(default_factory=dict)  # by reason
    remarks_withdrawn: int | None = None
    captions: dict[str, int] = field(default_factory=dict)  # corrected, and marked as wrong
    agreement: tuple[str, ...] = ()  # a line for each structure
    remarks: tuple[str, ...] = ()


def summarize(
    workspace: Workspace,
    log: DecisionLog,
    first: int,
    reviewer: str,
    items: Sequence[Item],
    decided: Mapping[str, int],
) -> ReviewSummary:
    """The summary of the decisions from the `first` on, and the agreement over all reviews."""
    own = log.decisions[first:]
    mine = [one for one in reviewer_rows(own) if one.reviewer == reviewer]
    agreement = agreement_rows(Histories.read(log.decisions), patients_of(workspace))
    frames = list(_last(own, "frame"))
    excluded = Counter(one["excluded"] for one in frames if one["excluded"])
    captions = Counter(row["state"] for row in _last(own, "caption") if row["state"])
    return ReviewSummary(
        queued=len(items),
        decided=dict(decided),
        seconds_per_mask=mine[0].seconds if mine else None,
        accepted_unchanged=mine[0].unchanged if mine else None,
        planted=mine[0].planted_text() if mine else None,
        frames_excluded=dict(excluded),
        remarks_withdrawn=sum(len(one["withdrawn"]) for one in frames) or None,
        captions=dict(captions),
        agreement=tuple(f"{one.structure}: {one.text()}" for one in agreement),
        remarks=_own_adjudications(items, reviewer),
    )


def _last(decisions: Iterable[Decision], kind: str) -> Iterable[Row]:
    """What frames or captions are after their last decisions."""
    last = {
        (one.item, one.after.get("mask_id")): one.after for one in decisions if one.kind == kind
    }
    return last.values()


def _own_adjudications(items: Iterable[Item], reviewer: str) -> tuple[str, ...]:
    own = [
        one
        for one in items
        if one.decided and any(row["reviewer"] == reviewer for row in one.versions)
    ]
    if not own:
        return ()
    return (
        f"{len(own)} of the adjudicated masks had been decided by {reviewer} before; a third "
        "person should adjudicate them",
    )
