"""Intervals over patients: several frames of one patient are not independent.

Shares of right answers get the intervals of `proportions`, everything else (differences, F1,
cosines) the percentiles of a bootstrap over patients.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal
from scipy.stats import t as student

from sono.evaluation.statistics.proportions import Answers, share_limits, unseen_share

Reals = NDArray[np.floating]
Numbers = NDArray[np.floating] | NDArray[np.bool_]
Indices = NDArray[np.integer]

# From sums [draws, classes, columns] and counts [draws, classes] to one number a draw.
Statistic = Callable[[Reals, Reals], Reals]

_CELLS_AT_ONCE = 4_000_000  # of the weight matrix [draws, clusters]


@dataclass(frozen=True)
class Interval:
    """A point estimate and the limits of its interval.

    The limits are NaN for fewer than two clusters.
    """

    point: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Whether the complete interval is positive (false if there is none)."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the complete interval is negative (false if there is none)."""
        return self.high < 0

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> "Interval":
        """The interval of a dictionary from `as_dict`."""
        return cls(
            *(
                float("nan") if (value := values[name]) is None else value
                for name in ("point", "low", "high")
            )
        )

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN."""
        return {
            name: None if np.isnan(value) else round(value, 6) for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Draws:
    """How many resamples, from which seed, and the level of the interval."""

    draws: int = 2000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Sample:
    """Values [images, columns], with the class and cluster index of each image [images]."""

    values: Reals
    classes: Indices
    clusters: Indices

    def is_whole(self, statistic: Statistic) -> bool:
        """Whether the columns of `statistic` hold hits and misses, or their differences."""
        column = statistic.column if isinstance(statistic, Mean) else slice(None)
        return bool(np.isin(self.values[:, column], (-1, 0, 1)).all())

    def per_cluster(self) -> tuple[Reals, Reals]:
        """Sums [clusters, classes, columns] and counts [clusters, classes]."""
        shape = (int(self.clusters.max()) + 1, int(self.classes.max()) + 1)
        sums, counts = np.zeros((*shape, self.values.shape[1])), np.zeros(shape)
        np.add.at(sums, (self.clusters, self.classes), self.values)
        np.add.at(counts, (self.clusters, self.classes), 1)
        return sums, counts


@dataclass(frozen=True)
class Mean:
    """The mean of a column over all images, or of its means within each class.

    `kind` is what the column holds: hits and misses, their differences, or any numbers.
    """

    column: int = 0
    by_class: bool = True
    kind: Literal["hits", "difference", "number"] = "hits"

    def __call__(self, sums: Reals, counts: Reals) -> Reals:
        """One number a draw."""
        if not self.by_class:
            return np.asarray(sums[..., self.column].sum(axis=1) / counts.sum(axis=1))
        means = sums[..., self.column] / np.maximum(counts, 1)
        return np.asarray(means.sum(axis=1) / np.maximum((counts > 0).sum(axis=1), 1))

    def is_share(self, sample: Sample) -> bool:
        """Whether it is a share of hits."""
        return self.kind == "hits" and bool(np.isin(sample.values[:, self.column], (0, 1)).all())

    def answers(self, sums: Reals, counts: Reals) -> Answers:
        """The column [clusters, classes] with the weight of one image in each class."""
        size = counts.sum(axis=0)
        present = size > 0
        weights = (
            np.where(present, 1 / (np.maximum(size, 1) * present.sum()), 0.0)
            if self.by_class
            else np.full(len(size), 1 / size.sum())
        )
        return Answers(sums[..., self.column], counts, weights)


DIFFERENCE = Mean(kind="difference")  # macro, of differences of hits
NUMBER = Mean(by_class=False, kind="number")  # micro, of cosines and the like


def macro(column: int = 0) -> Mean:
    """The mean of `column` within each class, averaged over the classes of the draw."""
    return Mean(column)


def micro(column: int = 0) -> Mean:
    """The mean of `column` over all images."""
    return Mean(column, by_class=False)


def clustered_intervals(
    sample: Sample, statistics: Mapping[str, Statistic], how: Draws | None = None
) -> dict[str, Interval]:
    """The interval of each statistic over clusters; all bootstrapped ones use the same draws."""
    how = how or Draws()
    sums, counts = sample.per_cluster()
    shares = {
        name: statistic.answers(sums, counts)
        for name, statistic in statistics.items()
        if isinstance(statistic, Mean) and statistic.is_share(sample)
    }
    drawn = _bootstrap(
        sums,
        counts,
        {name: statistic for name, statistic in statistics.items() if name not in shares},
        how,
    )
    whole = sums.sum(axis=0, keepdims=True), counts.sum(axis=0, keepdims=True)
    found = {}
    for name, statistic in statistics.items():
        point = float(statistic(*whole)[0])
        if len(counts) < 2:
            found[name] = Interval(point, float("nan"), float("nan"))
        elif name in shares:
            found[name] = Interval(point, *share_limits(shares[name], how.level))
        else:
            tail = _tail(statistic, counts, how.level)
            low, high = np.quantile(drawn[name], [tail, 1 - tail])
            found[name] = Interval(point, float(low), float(high))
            if low == high and sample.is_whole(statistic) and statistic != NUMBER:
                found[name] = _widened(found[name], statistic, counts, how.level)
    return found


def _tail(statistic: Statistic, counts: Reals, level: float) -> float:
    """The share of draws below the interval: less than 2.5 % if there are few patients.

    The percentiles of a bootstrap are too narrow by what a normal and Student's distribution of so
    many patients differ (Hesterberg 2015, arXiv 1411.5279, section 3.5).
    """
    mean = statistic if isinstance(statistic, Mean) else Mean()
    clusters = max(2.0, replace(mean, column=0).answers(counts[..., None], counts).clusters)
    t = float(student.ppf((1 + level) / 2, clusters - 1))
    return float(normal.cdf(-t * np.sqrt(clusters / (clusters - 1))))


def _widened(found: Interval, statistic: Statistic, counts: Reals, level: float) -> Interval:
    """The exact interval of hits that are equal in all images, where a bootstrap shows no width."""
    miss = unseen_share(Mean().answers(counts[..., None], counts), level)
    signed = isinstance(statistic, Mean) and statistic.kind == "difference"
    least = -1.0 if signed else 0.0
    return Interval(found.point, max(least, found.low - miss), min(1.0, found.high + miss))


def _bootstrap(
    sums: Reals, counts: Reals, statistics: Mapping[str, Statistic], how: Draws
) -> dict[str, Reals]:
    """The statistics of resampled clusters [draws]."""
    drawn: dict[str, list[Reals]] = {name: [] for name in statistics}
    if not statistics or len(counts) < 2:
        return {}
    clusters, classes = counts.shape
    flat = np.concatenate([sums.reshape(clusters, -1), counts], axis=1)
    distinct, repeats = np.unique(flat, axis=0, return_counts=True)
    rng = np.random.default_rng(how.seed)
    at_once = max(1, _CELLS_AT_ONCE // max(clusters, flat.shape[1]))
    for start in range(0, how.draws, at_once):
        size = min(at_once, how.draws - start)
        if 4 * len(distinct) < clusters:  # equal clusters need not be drawn one by one
            weights = rng.multinomial(clusters, repeats / clusters, size=size)
            total = weights.astype(np.float64) @ distinct
        else:
            total = _resample(rng, size, clusters) @ flat
        parts = total[:, :-classes].reshape(size, *sums.shape[1:]), total[:, -classes:]
        for name, statistic in statistics.items():
            drawn[name].append(statistic(*parts))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def _resample(rng: np.random.Generator, size: int, clusters: int) -> NDArray[np.float64]:
    """How often each cluster is drawn [size, clusters]; faster than a multinomial of so many."""
    chosen = rng.integers(clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
    counted = np.bincount(chosen.ravel(), minlength=size * clusters)
    return counted.reshape(size, clusters).astype(np.float64)


def clustered_interval(
    values: Numbers,
    classes: Indices,
    clusters: Indices,
    statistic: Statistic,
    how: Draws | None = None,
) -> Interval:
    """The interval of `statistic` of `values` [images], by resampling clusters."""
    sample = Sample(np.asarray(values, np.float64)[:, None], classes, clusters)
    return clustered_intervals(sample, {"": statistic}, how)[""]


def paired_difference(
    first: Numbers, second: Numbers, classes: Indices, clusters: Indices, how: Draws | None = None
) -> Interval:
    """The interval of the macro mean of `first` minus `second`, both [images]."""
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return clustered_interval(difference, classes, clusters, DIFFERENCE, how)


def cluster_index(*names: Iterable[object]) -> NDArray[np.int64]:
    """Number the clusters [rows] by the first of the `names` that is not null.

    `names` are columns, such as patient, study and file.
    """
    keys = []
    for row in zip(*names, strict=True):
        level = next(number for number, name in enumerate(row) if isinstance(name, str))
        keys.append(f"{level}:{row[level]}")
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
