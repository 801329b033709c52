"""Probabilities: hand-made examples, scikit-learn, and the order of the frames."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from sono.evaluation.statistics.calibration import (
    Bin,
    brier_score,
    calibration_error,
    class_calibration_errors,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    reliability,
    risk_by_coverage,
)


@pytest.fixture
def logits() -> np.ndarray:
    return 3 * np.random.default_rng(0).normal(size=(400, 5))


@pytest.fixture
def truth(logits: np.ndarray) -> np.ndarray:
    """Drawn from the probabilities at temperature 2."""
    shares = probabilities(logits, 2.0)
    return (shares.cumsum(axis=1) > np.random.default_rng(1).random((400, 1))).argmax(axis=1)


def test_the_temperature_of_the_data_is_found(logits: np.ndarray, truth: np.ndarray) -> None:
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(2.0, rel=0.15)
    best = negative_log_likelihood(logits, truth, found)
    assert best < negative_log_likelihood(logits, truth, 1.1 * found)
    assert best < negative_log_likelihood(logits, truth, found / 1.1)
    # a temperature changes no answer, and that of scaled logits is scaled
    assert (probabilities(logits, found).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert fit_temperature(10 * logits, truth) == pytest.approx(10 * found, rel=1e-3)


def test_likelihood_and_brier_score_are_those_of_scikit_learn(
    logits: np.ndarray, truth: np.ndarray
) -> None:
    shares = probabilities(logits)
    assert negative_log_likelihood(logits, truth) == pytest.approx(log_loss(truth, shares))
    two = probabilities(logits[:, :2])
    binary = (truth == 1).astype(int)
    assert brier_score(two, binary) == pytest.approx(2 * brier_score_loss(binary, two[:, 1]))


def test_extreme_logits_give_numbers() -> None:
    shares = probabilities(np.array([[1e4, 0.0], [0.0, -1e4]]))
    assert shares.tolist() == [[1, 0], [1, 0]]
    assert fit_temperature(np.eye(3) * 100, np.arange(3)) < 1


def test_calibration_error_of_two_bins_by_hand() -> None:
    confidence = np.array([0.3, 0.5, 0.7, 0.9])
    right = np.array([False, True, True, True])
    assert reliability(confidence, right, 2) == [Bin(2, 0.4, 0.5), Bin(2, 0.8, 1.0)]
    assert calibration_error(confidence, right, 2) == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)
    shares = np.column_stack([confidence, 1 - confidence])
    own = class_calibration_errors(shares, np.where(right, 0, 1), 2)
    assert own == pytest.approx([0.15, 0.75 * 0.3 + 0.25 * 0.3])


def test_risk_by_coverage_by_hand_and_with_ties() -> None:
    right = np.array([True, False, True, False])
    found = risk_by_coverage(np.array([0.9, 0.8, 0.7, 0.6]), right)
    assert found == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    # one wrong answer of the two most confident ones, in either order
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        tied = risk_by_coverage(np.array([0.9, 0.9, 0.7, 0.6]), right[order])
        assert tied[:2] == pytest.approx([1 / 2, 1 / 2])


def test_the_order_of_frames_does_not_matter(logits: np.ndarray, truth: np.ndarray) -> None:
    order = np.random.default_rng(2).permutation(len(truth))
    shares = probabilities(logits).round(1)  # with ties
    best, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    for measure in (calibration_error, risk_by_coverage):
        assert np.allclose(measure(best, right), measure(best[order], right[order]))
    assert fit_temperature(logits[order], truth[order]) == pytest.approx(
        fit_temperature(logits, truth), rel=1e-4
    )
