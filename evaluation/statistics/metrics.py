"""Metrics as pure functions: accuracy, confusion, baselines and alignment."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating]
Indices = NDArray[np.integer]

UNDECIDED = -1  # the prediction where two classes share the best score
SCORE_DECIMALS = 6  # cosines closer than float32 noise are ties


def cosines(images: Reals, texts: Reals) -> NDArray[np.float64]:
    """Scores [images, classes] of unit features, rounded so that float noise makes no winner."""
    return np.round(images.astype(np.float64) @ texts.T.astype(np.float64), SCORE_DECIMALS)


def top_k_hits(scores: Reals, truth: Indices, k: int) -> NDArray[np.bool_]:
    """Whether the true class of each row of `scores` [images, classes] is among its k best.

    Ties and NaN count as misses.
    """
    own = scores[np.arange(len(truth)), truth]
    ahead = (~(scores < own[:, None])).sum(axis=1) - 1  # NaN is never smaller, so it counts here
    return np.asarray(ahead < k)


def top_k_accuracy(scores: Reals, truth: Indices, k: int) -> dict[str, float]:
    """Macro and micro Top-k accuracy of `scores` [images, classes] and `truth` [images].

    Ties count as wrong, so a constant score is worth nothing. Macro averages over the classes
    present.
    """
    hits = top_k_hits(scores, truth, k)
    per_class = [hits[truth == c].mean() for c in np.unique(truth)]
    return {f"top{k}_macro": float(np.mean(per_class)), f"top{k}_micro": float(hits.mean())}


def predict(scores: Reals) -> NDArray[np.int64]:
    """The best class of each row of `scores` [images, classes].

    The result is UNDECIDED for a tie or NaN.
    """
    best = scores.argmax(axis=1)
    shared = (scores >= scores.max(axis=1, keepdims=True)).sum(axis=1) != 1
    return np.where(shared, UNDECIDED, best).astype(np.int64)


def confusion(predicted: Indices, truth: Indices, classes: int) -> NDArray[np.int64]:
    """Counts [classes, classes + 1]: rows are true classes, columns predictions.

    The last column counts UNDECIDED.
    """
    matrix = np.zeros((classes, classes + 1), np.int64)
    np.add.at(matrix, (truth, np.where(predicted == UNDECIDED, classes, predicted)), 1)
    return matrix


def macro_f1(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """F1 averaged over the classes with images, of confusion counts [..., classes, classes + 1]."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    actual = matrix.sum(axis=-1)
    claimed = matrix[..., :-1].sum(axis=-2)
    scores = 2 * right / np.maximum(actual + claimed, 1)
    present = actual > 0
    return np.asarray((scores * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def majority_class(training_counts: Indices, truth: Indices, k: int = 1) -> dict[str, float]:
    """Top-k accuracy of always naming the k most frequent training classes.

    `training_counts` is [classes].
    """
    named = np.argsort(-training_counts, kind="stable")[:k]
    return _fixed_answer(named, truth, k)


def constant_guess(truth: Indices, k: int = 1) -> dict[str, float]:
    """Top-k accuracy of the best constant answer, chosen with knowledge of the truth."""
    named = np.argsort(-np.bincount(truth), kind="stable")[:k]
    return _fixed_answer(named, truth, k)


def _fixed_answer(named: Indices, truth: Indices, k: int) -> dict[str, float]:
    hits = np.isin(truth, named)
    per_class = [hits[truth == c].mean() for c in np.unique(truth)]
    return {f"top{k}_macro": float(np.mean(per_class)), f"top{k}_micro": float(hits.mean())}


def alignment(image_features: Reals, text_features: Reals, captions: Indices) -> dict[str, float]:
    """Mean cosine of paired rows, of unpaired rows, and their difference.

    Features are [n, d], of any length. Rows with the same number in `captions` [n] are pairs of
    each other, so they do not count as unpaired. The paired mean alone is high for features that
    are all similar.
    """
    images, texts = unit(image_features), unit(text_features)
    paired = float((images * texts).sum(axis=1).mean())
    total = float(images.sum(axis=0) @ texts.sum(axis=0))
    count = len(captions) ** 2
    for rows in _groups(captions):
        total -= float(images[rows].sum(axis=0) @ texts[rows].sum(axis=0))
        count -= len(rows) ** 2
    unpaired = total / count if count else float("nan")
    return {"paired": paired, "unpaired": unpaired, "alignment": paired - unpaired}


def unit(features: Reals) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays zero."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float64)


def training_counts(planes_seen: Mapping[str, int], classes: list[str]) -> NDArray[np.int64]:
    """How often each of `classes` occurs in the training set [classes]."""
    return np.array([planes_seen.get(name, 0) for name in classes], np.int64)


def _groups(labels: Indices) -> list[NDArray[np.intp]]:
    """Row numbers of each distinct label."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
