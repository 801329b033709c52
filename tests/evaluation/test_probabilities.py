"""Results on probabilities: hand-made scores, scikit-learn, and the order of frames."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sono.evaluation.calibrate import Calibration
from sono.evaluation.examples import hardest_frames
from sono.evaluation.probabilities import Frames, probability_results, refusal_measures
from sono.evaluation.probability_plots import curves, probabilities_plot
from sono.evaluation.statistics.bootstrap import Draws
from sono.evaluation.summaries import Scored

HOW = Draws(200)


@pytest.fixture
def known() -> tuple[Frames, np.ndarray]:
    """60 frames of three planes and 20 patients, whose answers are mostly right."""
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=60)
    logits = 2 * np.eye(3)[truth] + rng.normal(size=(60, 3))
    return Frames(logits, np.arange(60) // 3), truth


def test_confident_answers_are_right_more_often(known: tuple[Frames, np.ndarray]) -> None:
    frames, truth = known
    found = probability_results(frames, truth, None, Calibration(0.5, 30, 4, 3), HOW)
    wrong = float((frames.logits.argmax(axis=1) != truth).mean())
    assert found["risk"]["100"] == pytest.approx(wrong, abs=1e-6)
    assert found["risk"]["10"] < wrong and found["aurc"] < wrong
    assert set(found["measures"]) == {"training", "fitted"} and found["refusal"] == {"frames": 0}
    assert sum(each["count"] for each in found["reliability"]["fitted"]) == 60
    assert probabilities_plot(found).startswith(b"<?xml")


def test_without_a_temperature_that_of_training_is_measured_and_said(
    known: tuple[Frames, np.ndarray],
) -> None:
    found = probability_results(*known, None, None, HOW)
    assert set(found["measures"]) == {"training"} and found["temperature"] is None
    bins = found["reliability"]["training"]
    assert set(curves({"training": bins, "fitted": bins})) == {"training"}
    assert found["source"] == "not fitted: no validation frames of two planes"
    assert probabilities_plot(found).startswith(b"<?xml")


def test_refusal_by_hand_and_by_scikit_learn() -> None:
    """Of 20 positives 19 are kept at 0.3 and above, with 2 of 4 others."""
    scores = np.array([*np.linspace(0.3, 0.9, 19), 0.1, 0.5, 0.4, 0.2, 0.05])
    positive = np.arange(24) < 20
    found = refusal_measures(scores, positive)
    assert found["kept_others"] == 0.5
    assert found["auroc"] == pytest.approx(roc_auc_score(positive, scores))
    order = np.random.default_rng(1).permutation(24)
    assert refusal_measures(scores[order], positive[order]) == pytest.approx(found)
    assert refusal_measures(np.ones(24), positive) == {"auroc": 0.5, "kept_others": 1.0}


def test_frames_of_no_plane_with_flat_scores_are_told_apart(
    known: tuple[Frames, np.ndarray],
) -> None:
    others = Frames(np.zeros((12, 3)), 20 + np.arange(12) // 2)
    refusal = probability_results(*known, others, None, HOW)["refusal"]
    assert (refusal["frames"], refusal["clusters"]) == (12, 6)
    for score in ("probability", "cosine"):
        area = refusal[score]["auroc"]
        assert area["low"] <= area["point"] <= area["high"] and area["point"] > 0.9
    one = Frames(known[0].logits, np.zeros(60, np.int64))
    alone = Frames(others.logits, np.zeros(12, np.int64))
    refusal = probability_results(one, known[1], alone, None, HOW)["refusal"]
    assert refusal["cosine"]["auroc"]["low"] is None  # one patient: no interval


def test_the_hardest_frames_are_the_wrong_ones_with_the_largest_margin() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.5], [0.5, 0.5], [0.1, 0.7]])
    truth = np.array([0, 0, 1, 1, 1])
    scored = Scored(("a", "b"), truth, np.arange(5), {"all_one": scores})
    assert hardest_frames(scored, ["v", "w", "x", "y", "z"]) == [1, 2]
    assert hardest_frames(scored, ["v", "w", "x", "y", "z"], 1) == [1]
