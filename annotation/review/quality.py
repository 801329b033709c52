"""How far a review can be trusted: wrong masks accepted, time, agreement of two reviewers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.annotation.masks import dice, pixels
from sono.annotation.review.decisions import Decision, DecisionLog
from sono.annotation.review.verdicts import Histories, History, differ, kept
from sono.curation.core.shares import wilson_limits
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace

PAUSE = 300.0  # seconds; a longer time between two decisions is a break
SAME = 0.9  # Dice of a planted mask and its correction, from which on the wrong mask was accepted
DRAWS, LEVEL = 1000, 95  # of the bootstrap over patients
Limits = tuple[float, float] | None


@dataclass(frozen=True)
class ReviewerRow:
    """The decisions of one reviewer, without those that were taken back."""

    reviewer: str
    kept: int
    rejected: int
    unchanged: float | None  # share of them accepted as proposed, without adjudications
    seconds: float | None  # median between two decisions
    planted: int  # wrong masks that were decided
    false_accepts: int  # of these
    blind: int  # masks drawn without seeing the proposal
    blind_dice: float | None  # mean Dice of these with the proposal
    drawn: int  # new masks, where there was none
    absent: int  # structures that are not on the frame

    def planted_text(self) -> str | None:
        """The false-accept rate with its count and Wilson interval."""
        if not self.planted:
            return None
        share = self.false_accepts / self.planted
        low, high = wilson_limits(share, self.planted)
        return (
            f"{self.false_accepts} of {self.planted} wrong masks accepted "
            f"({share:.1%}, {LEVEL} % interval {low:.1%} to {high:.1%})"
        )


@dataclass(frozen=True)
class AgreementRow:
    """Two reviewers' verdicts on the masks of one structure; limits are over patients."""

    structure: str
    pairs: int
    kept_by_both: int
    dice: float | None  # mean over masks that both kept
    dice_limits: Limits
    kappa: float | None  # of keeping against rejecting
    kappa_limits: Limits
    disputed: int  # not adjudicated yet

    def text(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.pairs} masks by two reviewers; Dice {_number(self.dice, self.dice_limits)}; "
            f"kappa {_number(self.kappa, self.kappa_limits)}; {self.disputed} to adjudicate"
        )


def review_report(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    """The rows of reviewers and of agreement for the study's report; empty without a log."""
    log = DecisionLog(workspace.reviews_path)
    if not log.decisions:
        return {}
    pairs = agreement_rows(Histories.read(log.decisions), patients_of(workspace))
    reviewers = [vars(one) | {"planted_text": one.planted_text()}
                 for one in reviewer_rows(log.decisions)]  # fmt: skip
    shown = [
        vars(one)
        | {
            "dice_text": _number(one.dice, one.dice_limits),
            "kappa_text": _number(one.kappa, one.kappa_limits),
            "text": one.text(),
        }
        for one in pairs
    ]
    return {"reviewers": reviewers, "agreement": shown}


def review_lines(report: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """The report for a terminal, a line for each reviewer and each structure."""
    return tuple(
        f"{row['reviewer']}: {row['kept']} kept, {row['rejected']} rejected"
        + (f", {row['drawn']} drawn" if row["drawn"] else "")
        + (f"; {row['planted_text']}" if row["planted_text"] else "")
        for row in report.get("reviewers", ())
    ) + tuple(f"{row['structure']}: {row['text']}" for row in report.get("agreement", ()))


def patients_of(workspace: Workspace) -> dict[str, str]:
    """The patient of each image of which one is known."""
    images = workspace.read(IMAGES, ["image_id", "patient_id"]).dropna()
    return dict(zip(images["image_id"], images["patient_id"], strict=True))


def reviewer_rows(decisions: Sequence[Decision]) -> list[ReviewerRow]:
    """A row for each reviewer, in the order of their first decisions."""
    decisions = [one for one in decisions if one.kind not in ("frame", "caption")]
    names = dict.fromkeys(one.reviewer for one in decisions)
    return [_reviewer(name, [one for one in decisions if one.reviewer == name]) for name in names]


def _reviewer(name: str, decisions: Sequence[Decision]) -> ReviewerRow:
    final = _final(decisions)
    new = [one for one in final if one.kind == "new"]
    real = [one for one in final if one.kind not in ("planted", "new")]
    planted = [one for one in final if one.kind == "planted"]
    accepted = [one for one in real if kept(one.after)]
    own = [one for one in accepted if one.kind != "adjudication" and one.before["area"]]
    unchanged = [one for one in own if one.after["counts"] == one.before["counts"]]
    blind = [_change(one) for one in accepted if one.kind == "blind"]
    return ReviewerRow(
        name,
        kept=len(accepted),
        rejected=sum(one.after["state"] == "rejected" for one in real),
        unchanged=round(len(unchanged) / len(own), 3) if own else None,
        seconds=_seconds(decisions),
        planted=len(planted),
        false_accepts=sum(kept(one.after) and _change(one) >= SAME for one in planted),
        blind=len(blind),
        blind_dice=round(float(np.mean(blind)), 3) if blind else None,
        drawn=sum(kept(one.after) for one in new),
        absent=sum(one.after["state"] == "rejected" for one in new),
    )


def _final(decisions: Iterable[Decision]) -> list[Decision]:
    """The last decision on each mask that was not taken back; skipped masks are not decided."""
    stacks: dict[str, list[Decision]] = {}
    for one in decisions:
        stack = stacks.setdefault(one.item, [])
        if one.action != "undo":
            stack.append(one)
        elif stack:
            stack.pop()
    return [stack[-1] for stack in stacks.values() if stack and stack[-1].action != "skip"]


def _change(decision: Decision) -> float:
    """Dice of a mask before and after a decision."""
    return dice(pixels(decision.before), pixels(decision.after))


def _seconds(decisions: Iterable[Decision]) -> float | None:
    times = [datetime.fromisoformat(one.at) for one in decisions if one.action != "undo"]
    steps = np.array([(b - a).total_seconds() for a, b in pairwise(times)])
    steps = steps[steps <= PAUSE]
    return round(float(np.median(steps)), 1) if len(steps) else None


def agreement_rows(histories: Histories, patients: Mapping[str, str]) -> list[AgreementRow]:
    """A row for each structure of which two reviewers decided masks, and one for all."""
    pairs = [one for one in histories.by_origin.values() if one.pair() is not None]
    names = sorted({str(one.proposal["structure"]) for one in pairs})
    groups = {name: [one for one in pairs if one.proposal["structure"] == name] for name in names}
    if len(names) > 1:
        groups["all"] = pairs
    return [_agreement(name, own, patients) for name, own in groups.items()]


def _agreement(
    structure: str, histories: Sequence[History], patients: Mapping[str, str]
) -> AgreementRow:
    clusters: dict[str, NDArray[np.float64]] = {}
    disputed = 0
    for history in histories:
        one, other = history.pair() or (history.proposal, history.proposal)
        both = (kept(one), kept(other))
        # counts of kept by both, by the first, by the second, by none; Dice of those kept by both
        cell = np.zeros(5)
        cell[{(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}[both]] = 1
        cell[4] = dice(pixels(one), pixels(other)) if all(both) else 0
        image = str(history.proposal["image_id"])
        key = patients.get(image, image)  # a frame without a patient is one of its own
        clusters[key] = clusters.get(key, np.zeros(5)) + cell
        disputed += not history.adjudicated and differ(one, other)
    sums = np.array(list(clusters.values()))
    weights = np.random.default_rng(0).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS
    )
    whole, drawn = sums.sum(axis=0), weights @ sums
    return AgreementRow(
        structure,
        pairs=len(histories),
        kept_by_both=int(whole[0]),
        dice=_or_none(_mean_dice(whole)),
        dice_limits=_limits(_mean_dice(drawn), len(sums)),
        kappa=_or_none(_kappa(whole)),
        kappa_limits=_limits(_kappa(drawn), len(sums)),
        disputed=disputed,
    )


def _mean_dice(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(
        np.where(sums[..., 0] > 0, sums[..., 4] / np.maximum(sums[..., 0], 1), np.nan)
    )


def _kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of keeping and rejecting [...]; NaN where both reviewers always did one."""
    both, first, second, none = (sums[..., column] for column in range(4))
    total = both + first + second + none
    seen = (both + none) / total
    chance = ((both + first) * (both + second) + (none + first) * (none + second)) / total**2
    return np.asarray(
        np.where(chance < 1, (seen - chance) / np.where(chance < 1, 1 - chance, 1), np.nan)
    )


def _limits(drawn: NDArray[np.float64], clusters: int) -> Limits:
    """The percentile interval; None for fewer than two patients."""
    drawn = drawn[~np.isnan(drawn)]
    if clusters < 2 or not len(drawn):
        return None
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return round(float(low), 3), round(float(high), 3)


def _or_none(value: NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)


def _number(value: float | None, limits: Limits) -> str:
    if value is None:
        return "not known"
    return f"{value:.3f}" + (f" ({limits[0]:.3f} to {limits[1]:.3f})" if limits else "")
