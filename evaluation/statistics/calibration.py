"""Probabilities as pure functions: the temperature, calibration errors and risk by coverage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sono.evaluation.statistics.metrics import Indices, Reals

BINS = 15  # of equal width, as in Guo et al. 2017
RANGE = (-4.0, 4.0)  # of the logarithm of the temperature


@dataclass(frozen=True)
class Bin:
    """Answers with a confidence in one interval: their number, mean confidence and accuracy."""

    count: int
    confidence: float
    accuracy: float


def probabilities(logits: Reals, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities [n, classes] of `logits` [n, classes]; each row sums to 1."""
    return np.exp(_log_probabilities(logits, temperature))


def negative_log_likelihood(logits: Reals, truth: Indices, temperature: float = 1.0) -> float:
    """The mean of minus the log probability of the true class."""
    own = _log_probabilities(logits, temperature)[np.arange(len(truth)), truth]
    return float(-own.mean())


def fit_temperature(logits: Reals, truth: Indices) -> float:
    """The temperature with the largest likelihood (Guo et al. 2017, arXiv 1706.04599)."""
    found = minimize_scalar(
        lambda log: negative_log_likelihood(logits, truth, float(np.exp(log))),
        bounds=RANGE,
        method="bounded",
    )
    return float(np.exp(found.x))


def brier_score(shares: Reals, truth: Indices) -> float:
    """The mean squared distance of `shares` [n, classes] from the truth, summed over classes."""
    return float(((shares - _one_hot(truth, shares.shape[1])) ** 2).sum(axis=1).mean())


def reliability(confidence: Reals, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The bins of `confidence` [n] that have answers, from the lowest to the highest."""
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return [
        Bin(int(rows.sum()), float(confidence[rows].mean()), float(right[rows].mean()))
        for number in np.unique(place)
        for rows in [place == number]
    ]


def calibration_error(confidence: Reals, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """The mean distance of accuracy and confidence over `reliability`, weighted by counts."""
    found = reliability(confidence, right, bins)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in found) / len(right)


def class_calibration_errors(
    shares: Reals, truth: Indices, bins: int = BINS
) -> NDArray[np.float64]:
    """The calibration error [classes] of the probability of each class in all images.

    Their mean is the class-wise error of Kull et al. 2019 (arXiv 1910.12656).
    """
    return np.array(
        [
            calibration_error(shares[:, number], truth == number, bins)
            for number in range(shares.shape[1])
        ]
    )


def risk_by_coverage(confidence: Reals, right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of wrong answers [n] among the 1, 2, ..., n most confident ones.

    Answers of one confidence are in random order, so their order in the data does not matter. The
    mean of all is the area under the curve (AURC, Geifman and El-Yaniv 2017).
    """
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~right)
    mistakes = np.cumsum(np.repeat(wrong / sizes, sizes))
    return np.asarray(mistakes / np.arange(1, len(right) + 1))


def _log_probabilities(logits: Reals, temperature: float) -> NDArray[np.float64]:
    return np.asarray(log_softmax(np.asarray(logits, np.float64) / temperature, axis=1))


def _one_hot(truth: Indices, classes: int) -> NDArray[np.float64]:
    return np.eye(classes)[truth]
