"""Assign components of rows to splits by shares of patients, frames, centers and planes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# a split may miss its share by this fraction of all, or by part of a patient (see Penalty)
TOLERANCE = 0.02
PASSES = 10
# patients with whom a patient may be exchanged; among many, moves are enough
PARTNERS, MANY = 100, 2_000
LEAST = 1e-6  # reduction of the cost that a move must reach


class Penalty(NamedTuple):
    """The cost of missing a share.

    `outside` is the cost per patient beyond `slack` patients; `absent`, times the share, is the
    cost of a split without any. The squared distance is added, in units that give about 1 for a
    random split.
    """

    outside: float
    absent: float
    slack: float


# In falling order: no split without patients, patients, frames, a center that train lacks, centers,
# planes.
PATIENTS, FRAMES = Penalty(1e6, 1e9, 0.5), Penalty(1e4, 0, 0.5)
CENTER, PLANE = Penalty(100, 1e4, 0.5), Penalty(0, 100, 1)


@dataclass(frozen=True)
class Columns:
    """Counts [components, K] of what is split, and the penalties [K, 3] of missing a share."""

    counts: NDArray[np.int32]
    prices: NDArray[np.floating]


def make_columns(images: pd.DataFrame, component: NDArray[np.integer]) -> Columns:
    """Count patients, frames, and frames per center and plane of each `component` [rows]."""
    size = int(component.max()) + 1
    # at least one, even if unknown
    patients = np.maximum(images.groupby(component)["patient_id"].nunique().to_numpy(), 1)
    frames = np.bincount(component, minlength=size)
    centers, planes = (_counts(images[name], component, size) for name in ("center", "plane"))
    blocks = (
        (patients[:, None], PATIENTS),
        (frames[:, None], FRAMES),
        (centers, CENTER),
        (planes, PLANE),
    )
    prices = np.concatenate([np.tile(price, (block.shape[1], 1)) for block, price in blocks])
    counts = np.hstack([block for block, _ in blocks]).astype(np.int32)
    return Columns(counts, prices)


def _counts(values: pd.Series, component: NDArray[np.integer], size: int) -> NDArray[np.int32]:
    """Frames of each value in each component [size, values]."""
    codes, names = pd.factorize(values.astype(object).where(values.notna(), ""), sort=True)
    counts = np.zeros((size, len(names)), np.int32)
    np.add.at(counts, (component, codes), 1)
    return counts


def balance_splits(
    columns: Columns,
    shares: NDArray[np.floating],
    parts: NDArray[np.integer],
    order: NDArray[np.integer],
) -> NDArray[np.integer]:
    """Improve `parts` [components], the split index of each component.

    Components in `order` move or are exchanged while that brings the splits nearer to their
    `shares` [parts] (which sum to 1) and until all are within tolerance. None moves into a split of
    share 0.
    """
    state = SplitState(columns, shares, parts, order[: PARTNERS * (len(order) < MANY)])
    for _ in range(PASSES):
        off = state.off()
        moved = False
        for component in order[columns.counts[order][:, off].any(axis=1)]:
            if state.improve(int(component)):
                moved = True
                if not state.off().any():
                    return state.parts
        if not moved:
            break
    return state.parts


class SplitState:
    """The present and target counts of each split, and the effect of moving one component."""

    def __init__(
        self,
        columns: Columns,
        shares: NDArray[np.floating],
        parts: NDArray[np.integer],
        partners: NDArray[np.integer],
    ) -> None:
        self.counts, self.shares, self.parts, self.partners = (
            columns.counts,
            shares,
            parts.copy(),
            partners,
        )
        self.outside, self.absent, slack = columns.prices.T
        self.used = np.flatnonzero(shares)
        counts = self.counts
        total = counts.sum(axis=0, dtype=float)
        self.patient = total / (counts > 0).sum(
            axis=0
        )  # mean per component that has any: shares change in such steps
        self.slack = np.maximum(slack * self.patient, TOLERANCE * total)
        self.target = shares[:, None] * total
        self.now = np.zeros_like(self.target)
        np.add.at(self.now, parts, counts)
        self.cost = self._costs(np.arange(len(shares)), self.now)

    def off(self) -> NDArray[np.bool_]:
        """Whether each column [K] misses its share or is absent from a split."""
        far = np.abs(self.now - self.target) > self.slack
        return np.asarray((far | (self.now == 0))[self.used].any(axis=0))

    def improve(self, component: int) -> bool:
        """Move or exchange `component` where that reduces the cost most; False where it stays."""
        here, counts = self.parts[component], self.counts
        others = self.partners[self.parts[self.partners] != here]
        # a move is an exchange with a partner without frames
        empty = self.used[self.used != here]
        there = np.concatenate([empty, self.parts[others]])
        lost = counts[component] - np.vstack(
            [np.zeros((len(empty), counts.shape[1]), np.int32), counts[others]]
        )
        cost_here = self._costs(np.full(len(there), here), self.now[here] - lost)
        cost_there = self._costs(there, self.now[there] + lost)
        change = cost_here + cost_there - self.cost[there] - self.cost[here]
        best = int(np.argmin(change))
        if change[best] > -LEAST:
            return False
        part = there[best]
        self.now[here] -= lost[best]
        self.now[part] += lost[best]
        self.cost[[here, part]] = cost_here[best], cost_there[best]
        self.parts[component] = part
        if best >= len(empty):
            self.parts[others[best - len(empty)]] = here
        return True

    def _costs(
        self, part: NDArray[np.integer], frames: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Cost [B] of holding `frames` [B, K] in `part` [B]."""
        # avoid a division by zero for a split of share 0, which never changes
        target = np.maximum(self.target[part], LEAST)
        miss = np.abs(frames - target)
        beyond = np.maximum(miss - self.slack, 0) / self.patient
        lacking = (frames == 0).dot(self.absent) * self.shares[part]
        return np.asarray(
            beyond.dot(self.outside) + lacking + (miss**2 / target).dot(1 / self.patient)
        )
