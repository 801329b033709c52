"""Paired comparison of runs: differences with intervals, and corrected p-values of planes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.comparison.runs import Evaluated
from sono.evaluation.statistics.bootstrap import (
    DIFFERENCE,
    Draws,
    Interval,
    Mean,
    clustered_interval,
    macro,
    micro,
)
from sono.evaluation.statistics.metrics import top_k_hits

FLIPS = 10_000  # random sign changes of a test
HITS = NDArray[np.bool_]


@dataclass(frozen=True)
class ComparedRow:
    """One measure of one run: its value, and its difference from the first run.

    `plane` is the id of a plane, "" for a measure of all frames. `p_value` is corrected over the
    planes and runs (Holm). The first run has no difference.
    """

    measure: str
    plane: str
    run: str
    frames: int
    patients: int
    score: Interval
    difference: Interval | None = None
    p_value: float | None = None


def compare(runs: Sequence[Evaluated], mode: str, how: Draws) -> list[ComparedRow]:
    """Macro and micro Top-1 among the planes present and all planes, and the recall of planes.

    A patient's frames are resampled together, the same ones for both runs.
    """
    scored = runs[0].scored
    everything = len(scored.planes)
    near = [_hits(run, mode, run.scored.present) for run in runs]
    every = [_hits(run, mode, np.arange(everything)) for run in runs]
    rows: list[ComparedRow] = []
    measures: list[tuple[str, list[HITS], Mean]] = [
        ("top1_macro", near, macro()),
        ("top1_micro", near, micro()),
        (f"top1_macro_of_{everything}", every, macro()),
        (f"top1_micro_of_{everything}", every, micro()),
    ]
    if len(scored.present) < 2:  # every answer is right among the planes present
        measures = measures[2:]
    for name, hits, statistic in measures:
        rows += _rows(runs, (name, ""), hits, statistic, how)
    shown = near if len(scored.present) > 1 else every
    planes = []
    for number in scored.present:
        inside = scored.truth == number
        own = [hits[inside] for hits in shown]
        planes += _rows(runs, ("recall", scored.planes[number]), own, micro(), how, inside)
    return rows + _corrected(planes, _plane_p_values(runs, shown, how.seed))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the given order."""
    found = np.asarray(p_values, np.float64)
    order = np.argsort(found, kind="stable")
    scaled = found[order] * np.arange(len(found), 0, -1)
    corrected = np.empty(len(found))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


def sign_flip_p_values(
    differences: NDArray[np.float64], seed: int, flips: int = FLIPS
) -> NDArray[np.float64]:
    """Two-sided p-values [columns] of sums of `differences` [clusters, columns] against zero.

    Without a difference between two runs, those of a patient are as likely with the other sign, so
    all its signs change together. Patients without a difference do not count.
    """
    differences = differences[np.abs(differences).any(axis=1)]
    rng, found = np.random.default_rng(seed), np.abs(differences.sum(axis=0))
    reached = np.zeros(differences.shape[1])
    for start in range(0, flips, 1000):
        signs = rng.choice((-1.0, 1.0), size=(min(1000, flips - start), len(differences)))
        reached += (np.abs(signs @ differences) >= found - 1e-9).sum(axis=0)
    return np.asarray((reached + 1) / (flips + 1))


def _hits(run: Evaluated, mode: str, candidates: NDArray[np.int64]) -> HITS:
    truth = np.searchsorted(candidates, run.scored.truth)
    return top_k_hits(run.scored.scores[mode][:, candidates], truth, 1)


def _rows(
    runs: Sequence[Evaluated],
    name: tuple[str, str],
    hits: Sequence[HITS],
    statistic: Mean,
    how: Draws,
    inside: HITS | None = None,
) -> list[ComparedRow]:
    """One row per run of a measure on the frames `inside`."""
    scored = runs[0].scored
    rows = np.ones(len(scored.truth), np.bool_) if inside is None else inside
    classes, clusters = (
        np.unique(each[rows], return_inverse=True)[1] for each in (scored.truth, scored.clusters)
    )
    if not statistic.by_class:
        classes = np.zeros_like(classes)
    size = int(rows.sum()), len(np.unique(clusters))
    found = []
    for run, own in zip(runs, hits, strict=True):
        score = clustered_interval(own, classes, clusters, statistic, how)
        change = None
        if run is not runs[0]:
            change = clustered_interval(
                own.astype(np.float64) - hits[0], classes, clusters, DIFFERENCE, how
            )
        found.append(ComparedRow(*name, run.label, *size, score, change))
    return found


def _plane_p_values(
    runs: Sequence[Evaluated], hits: Sequence[HITS], seed: int
) -> dict[tuple[str, str], float]:
    """Corrected p-values by plane and run."""
    scored = runs[0].scored
    shape = (int(scored.clusters.max()) + 1, len(scored.planes))
    found: dict[tuple[str, str], float] = {}
    for run, own in zip(runs[1:], hits[1:], strict=True):
        table = np.zeros(shape)
        np.add.at(table, (scored.clusters, scored.truth), own.astype(np.float64) - hits[0])
        values = sign_flip_p_values(table[:, scored.present], seed)
        found |= {
            (scored.planes[plane], run.label): float(value)
            for plane, value in zip(scored.present, values, strict=True)
        }
    return dict(zip(found, holm(list(found.values())), strict=True))


def _corrected(
    rows: Sequence[ComparedRow], p_values: dict[tuple[str, str], float]
) -> list[ComparedRow]:
    return [
        ComparedRow(**{**vars(row), "p_value": p_values.get((row.plane, row.run))}) for row in rows
    ]
