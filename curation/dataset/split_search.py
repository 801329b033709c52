"""Which part of a split each component of rows goes to.

Whole patients, their shares first, then centers and planes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# a part may miss its share by this part of all, or by some of a patient (see Price)
TOLERANCE = 0.02
PASSES = 10
# patients that a patient may change places with; among many, to move is enough
PARTNERS, MANY = 100, 2_000
LEAST = 1e-6  # of cost, that a move must win


class Penalty(NamedTuple):
    """What missing a share costs.

    Each patient `outside`, beyond `slack` patients; and, times the share, that a part has none
    (`absent`). The squared distance costs besides, in units that give about 1 for a part drawn at
    random.
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
    """Counts [components, K] of what is shared out, and the prices [K, 3] of missing a share."""

    counts: NDArray[np.int32]
    prices: NDArray[np.floating]


def make_columns(images: pd.DataFrame, component: NDArray[np.integer]) -> Columns:
    """Patients, frames, and frames of each center and plane of every component [rows of
    `images`].
    """
    size = int(component.max()) + 1
    # at least one, though unnamed
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


def balance(
    columns: Columns,
    shares: NDArray[np.floating],
    parts: NDArray[np.integer],
    order: NDArray[np.integer],
) -> NDArray[np.integer]:
    """`parts` [components] after those in `order` moved or changed places while that brings the
    shares nearer.

    Only components in `order` move, and none into a part of share 0. `shares` [parts] sum to 1.
    What is near enough stays as it is.
    """
    board = SplitState(columns, shares, parts, order[: PARTNERS * (len(order) < MANY)])
    for _ in range(PASSES):
        off = board.off()
        moved = False
        for component in order[columns.counts[order][:, off].any(axis=1)]:
            if board.improve(int(component)):
                moved = True
                if not board.off().any():
                    return board.parts
        if not moved:
            break
    return board.parts


class SplitState:
    """What each part holds, what it should hold, and what moving one component would change."""

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
        )  # what a patient holds of a column, if any: shares move in such steps
        self.slack = np.maximum(slack * self.patient, TOLERANCE * total)
        self.target = shares[:, None] * total
        self.now = np.zeros_like(self.target)
        np.add.at(self.now, parts, counts)
        self.cost = self._costs(np.arange(len(shares)), self.now)

    def off(self) -> NDArray[np.bool_]:
        """Which columns [K] miss their share, or a part altogether."""
        far = np.abs(self.now - self.target) > self.slack
        return np.asarray((far | (self.now == 0))[self.used].any(axis=0))

    def improve(self, component: int) -> bool:
        """Move `component` to another part, or let it change places, where that wins most.

        False where it stays.
        """
        here, counts = self.parts[component], self.counts
        others = self.partners[self.parts[self.partners] != here]
        # a partner of no frames in each other part: a mere move
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
        # nothing moves into or out of a part that should hold nothing
        target = np.maximum(self.target[part], LEAST)
        miss = np.abs(frames - target)
        beyond = np.maximum(miss - self.slack, 0) / self.patient
        lacking = (frames == 0).dot(self.absent) * self.shares[part]
        return np.asarray(
            beyond.dot(self.outside) + lacking + (miss**2 / target).dot(1 / self.patient)
        )
