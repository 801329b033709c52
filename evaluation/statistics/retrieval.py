"""Retrieval and the space of the features as pure functions.

Every item with the query's own id is right, so equal captions are right for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.statistics.metrics import SCORE_DECIMALS, Indices, Reals, unit

AT_ONCE = 1024  # queries, which bounds the similarity matrix
MOST_PAIRED = 2000  # rows that are compared with each other for the uniformity


@dataclass(frozen=True)
class Retrieved:
    """Whether each query [n] has a right item among the k nearest, and its average precision [n].

    The average precision is the mean of the precision at the rank of each right item.
    """

    hits: Mapping[int, NDArray[np.bool_]]
    precision: NDArray[np.float64]


def retrieve(
    queries: Reals, gallery: Reals, query_ids: Indices, gallery_ids: Indices, ks: Sequence[int]
) -> Retrieved:
    """Retrieve from `gallery` [m, d] by cosine for each of `queries` [n, d].

    A tie with a wrong item puts the wrong one first, and a query that is NaN has no hit. A query
    without a right item has precision 0.
    """
    items = unit(gallery)
    hits = {k: np.zeros(len(queries), np.bool_) for k in ks}
    precision = np.zeros(len(queries))
    ranks = np.arange(1, len(items) + 1)
    for start in range(0, len(queries), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        scores = np.round(unit(queries[rows]) @ items.T, SCORE_DECIMALS)
        right = query_ids[rows, None] == gallery_ids[None, :]
        ties_last = 0.1 * 10.0**-SCORE_DECIMALS * right
        order = np.argsort(ties_last - np.nan_to_num(scores, nan=-2.0), axis=1, kind="stable")
        ranked = np.take_along_axis(right, order, axis=1)
        for k in ks:
            hits[k][rows] = ranked[:, :k].any(axis=1) & ~np.isnan(scores).any(axis=1)
        shares = np.where(ranked, ranked.cumsum(axis=1) / ranks, 0.0)
        precision[rows] = shares.sum(axis=1) / np.maximum(ranked.sum(axis=1), 1)
    return Retrieved(hits, precision)


def retrieval_by_chance(query_ids: Indices, gallery_ids: Indices, k: int) -> float:
    """The average of the hits among `k` for a random order of the gallery."""
    size, own = len(gallery_ids), _right_items(query_ids, gallery_ids)
    drawn = np.arange(min(k, size))
    missed = np.clip(size - own[:, None] - drawn, 0, None) / (size - drawn)
    return float(1 - missed.prod(axis=1).mean())


def precision_by_chance(query_ids: Indices, gallery_ids: Indices) -> float:
    """The mean of the average precision for a random order of the gallery.

    At rank i an item is right with probability c / m, and c - 1 of the other m - 1 are.
    """
    size, own = len(gallery_ids), _right_items(query_ids, gallery_ids)
    harmonic = float((1 / np.arange(1, size + 1)).sum())
    others = (own - 1) / max(size - 1, 1)
    return float(((harmonic + others * (size - harmonic)) / size).mean())


def own_pair_ceiling(query_ids: Indices, gallery_ids: Indices, k: int) -> float:
    """The hits among `k` of a perfect model if only one right item counted: the query's own pair.

    It cannot order items of one caption, so each of c is among the first k with probability k / c.
    """
    own = _right_items(query_ids, gallery_ids)
    return float(np.minimum(1.0, k / np.maximum(own, 1)).mean())


def uniformity(features: Reals, seed: int = 0) -> float:
    """log E exp(-2 |x - y|^2) over pairs of rows (Wang and Isola 2020); 0: all rows are equal.

    Of more than 2,000 rows, so many are drawn.
    """
    rows = unit(features)
    if len(rows) > MOST_PAIRED:
        chosen = np.random.default_rng(seed).choice(len(rows), MOST_PAIRED, replace=False)
        rows = rows[np.sort(chosen)]
    if len(rows) < 2:
        return float("nan")
    upper = np.triu_indices(len(rows), 1)
    squares = 2 - 2 * (rows @ rows.T)[upper]
    return float(np.log(np.exp(-2 * squares).mean()))


def modality_gap(images: Reals, texts: Reals) -> float:
    """The distance between the mean unit features of both (Liang et al. 2022)."""
    return float(np.linalg.norm(unit(images).mean(axis=0) - unit(texts).mean(axis=0)))


def principal_axes(features: Reals, count: int = 2) -> tuple[Reals, Reals, Reals]:
    """Mean [d], the first principal axes [count, d], and their shares of the variance [count].

    The largest coordinate of an axis is positive, so that its sign is fixed. Axes that do not
    exist, of one row, are zero.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(features - mean, full_matrices=False)
    missing = max(0, count - len(axes))  # with fewer rows than axes
    axes = np.pad(axes[:count], [(0, missing), (0, 0)])
    lengths = np.pad(lengths, (0, missing))
    largest = np.abs(axes).argmax(axis=1)
    signs = np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)
    shares = lengths[:count] ** 2 / max(float((lengths**2).sum()), 1e-12)
    return mean, axes * signs[:, None], shares


def _right_items(query_ids: Indices, gallery_ids: Indices) -> NDArray[np.int64]:
    """How many items of the gallery are right for each query [n]."""
    ids, counts = np.unique(gallery_ids, return_counts=True)
    place = np.minimum(np.searchsorted(ids, query_ids), len(ids) - 1)
    return np.where(ids[place] == query_ids, counts[place], 0).astype(np.int64)
