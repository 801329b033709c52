"""Intervals from a bootstrap over patients: several frames of one patient are not independent."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating]
Numbers = NDArray[np.floating] | NDArray[np.bool_]
Indices = NDArray[np.integer]

# From sums [draws, classes, columns] and counts [draws, classes] to one number a draw.
Statistic = Callable[[Reals, Reals], Reals]

_CELLS_AT_ONCE = 4_000_000  # of the weight matrix [draws, clusters]


@dataclass(frozen=True)
class Interval:
    """A point estimate and the limits of its percentile interval.

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

    def per_cluster(self) -> tuple[Reals, Reals]:
        """Sums [clusters, classes, columns] and counts [clusters, classes]."""
        shape = (int(self.clusters.max()) + 1, int(self.classes.max()) + 1)
        sums, counts = np.zeros((*shape, self.values.shape[1])), np.zeros(shape)
        np.add.at(sums, (self.clusters, self.classes), self.values)
        np.add.at(counts, (self.clusters, self.classes), 1)
        return sums, counts


def macro(column: int = 0) -> Statistic:
    """The mean of `column` within each class, averaged over the classes of the draw."""

    def statistic(sums: Reals, counts: Reals) -> Reals:
        means = sums[..., column] / np.maximum(counts, 1)
        return np.asarray(means.sum(axis=1) / np.maximum((counts > 0).sum(axis=1), 1))

    return statistic


def micro(column: int = 0) -> Statistic:
    """The mean of `column` over all images."""

    def statistic(sums: Reals, counts: Reals) -> Reals:
        return np.asarray(sums[..., column].sum(axis=1) / counts.sum(axis=1))

    return statistic


def clustered_intervals(
    sample: Sample, statistics: Mapping[str, Statistic], how: Draws | None = None
) -> dict[str, Interval]:
    """The interval of each statistic, by resampling clusters; all use the same draws."""
    how = how or Draws()
    sums, counts = sample.per_cluster()
    clusters = len(counts)
    drawn: dict[str, list[Reals]] = {name: [] for name in statistics}
    rng = np.random.default_rng(how.seed)
    at_once = max(1, _CELLS_AT_ONCE // max(clusters, counts[0].size * sums.shape[2]))
    for start in range(0, how.draws, at_once):
        size = min(at_once, how.draws - start)
        weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(
            np.float64
        )
        total = (weights @ sums.reshape(clusters, -1)).reshape(size, *sums.shape[1:])
        count = weights @ counts
        for name, statistic in statistics.items():
            drawn[name].append(statistic(total, count))
    whole = sums.sum(axis=0, keepdims=True), counts.sum(axis=0, keepdims=True)
    return {
        name: _interval(
            float(statistic(*whole)[0]), np.concatenate(drawn[name]), how.level, clusters
        )
        for name, statistic in statistics.items()
    }


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
    return clustered_interval(difference, classes, clusters, macro(), how)


def cluster_index(*names: Iterable[object]) -> NDArray[np.int64]:
    """Number the clusters [rows] by the first of the `names` that is not null.

    `names` are columns, such as patient, study and file.
    """
    keys = []
    for row in zip(*names, strict=True):
        level = next(number for number, name in enumerate(row) if isinstance(name, str))
        keys.append(f"{level}:{row[level]}")
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def _interval(point: float, drawn: Reals, level: float, clusters: int) -> Interval:
    if clusters < 2:
        return Interval(point, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, float(low), float(high))
