"""Results on the probabilities of planes: calibration, risk by coverage, and refusal."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from sono.evaluation.calibrate import Calibration
from sono.evaluation.statistics.bootstrap import Draws, Interval
from sono.evaluation.statistics.calibration import (
    brier_score,
    calibration_error,
    class_calibration_errors,
    negative_log_likelihood,
    probabilities,
    reliability,
    risk_by_coverage,
)
from sono.evaluation.statistics.metrics import predict

Reals = NDArray[np.floating]

COVERAGES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)  # percent
TRUE_POSITIVES = 0.95  # share of the frames of planes that are kept


@dataclass(frozen=True)
class Frames:
    """The logits [n, planes] of whole frames at the scale of training, and their patients [n]."""

    logits: Reals
    clusters: NDArray[np.int64]


def probability_results(
    known: Frames,
    truth: NDArray[np.int64],
    others: Frames | None,
    calibration: Calibration | None,
    how: Draws,
) -> dict[str, Any]:
    """Measures of all planes' probabilities at the temperature of training and the fitted one.

    `truth` is the plane of each frame, `others` are frames that show no standard plane.
    """
    right = np.asarray(predict(known.logits) == truth)
    temperatures = {"training": 1.0}
    if calibration is not None:
        temperatures["fitted"] = calibration.temperature
    shares = {name: probabilities(known.logits, value) for name, value in temperatures.items()}
    best = list(shares.values())[-1]
    risks = risk_by_coverage(best.max(axis=1), right)
    return {
        "temperature": None if calibration is None else calibration.temperature,
        "source": ("not fitted: no validation frames of two planes")
        if calibration is None
        else calibration.source,
        "frames": len(truth),
        "clusters": len(np.unique(known.clusters)),
        "measures": {
            name: _measures(known.logits, truth, right, temperatures[name], each)
            for name, each in shares.items()
        },
        "reliability": {
            name: [vars(each) for each in reliability(share.max(axis=1), right)]
            for name, share in shares.items()
        },
        "class_errors": [_round(each) for each in class_calibration_errors(best, truth)],
        "risk": {str(each): _round(risks[_last(each, len(risks))]) for each in COVERAGES},
        "aurc": _round(risks.mean()),
        "refusal": _refusal(known, others, list(temperatures.values())[-1], how),
    }


def _measures(
    logits: Reals, truth: NDArray[np.int64], right: Reals, temperature: float, shares: Reals
) -> dict[str, float]:
    found = {
        "calibration_error": calibration_error(shares.max(axis=1), np.asarray(right, np.bool_)),
        "class_calibration_error": float(class_calibration_errors(shares, truth).mean()),
        "brier_score": brier_score(shares, truth),
        "log_loss": negative_log_likelihood(logits, truth, temperature),
    }
    return {name: _round(value) for name, value in found.items()}


def _last(percent: int, count: int) -> int:
    """The last of the most confident `percent` of `count` answers; at least one is kept."""
    return max(1, round(percent * count / 100)) - 1


def _refusal(
    known: Frames, others: Frames | None, temperature: float, how: Draws
) -> dict[str, Any]:
    """How well confidence separates the frames of planes from `others`, with intervals."""
    if others is None or not len(others.logits):
        return {"frames": 0}
    scores = {
        "probability": [
            probabilities(each.logits, temperature).max(axis=1) for each in (known, others)
        ],
        "cosine": [each.logits.max(axis=1) for each in (known, others)],
    }
    found: dict[str, Any] = {
        "frames": len(others.logits),
        "clusters": len(np.unique(others.clusters)),
    }
    for name, (own, foreign) in scores.items():
        values = np.concatenate([own, foreign])
        positive = np.arange(len(values)) < len(own)
        clusters = np.concatenate([known.clusters, others.clusters])
        found[name] = {
            measure: interval.as_dict()
            for measure, interval in _refusal_intervals(values, positive, clusters, how).items()
        }
    return found


def refusal_measures(scores: Reals, positive: NDArray[np.bool_]) -> dict[str, float]:
    """The area under the ROC curve, and the share of others kept with 95 % of the positives."""
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    kept = false[np.argmax(true >= TRUE_POSITIVES)]
    return {"auroc": float(roc_auc_score(positive, scores)), "kept_others": float(kept)}


def _refusal_intervals(
    scores: Reals, positive: NDArray[np.bool_], clusters: NDArray[np.int64], how: Draws
) -> dict[str, Interval]:
    """Percentile intervals; patients are resampled."""
    point = refusal_measures(scores, positive)
    _, own = np.unique(clusters, return_inverse=True)
    count, rng, drawn = int(own.max()) + 1, np.random.default_rng(how.seed), []
    if count > 1:
        for _ in range(min(how.draws, 1000)):
            weight = np.bincount(rng.integers(count, size=count), minlength=count)[own]
            rows = np.repeat(np.arange(len(own)), weight)
            if 0 < positive[rows].sum() < len(rows):
                drawn.append(refusal_measures(scores[rows], positive[rows]))
    tails = [(1 - how.level) / 2, (1 + how.level) / 2]
    limits = {
        name: np.quantile([each[name] for each in drawn], tails) if drawn else (np.nan, np.nan)
        for name in point
    }
    return {
        name: Interval(value, *(float(limit) for limit in limits[name]))
        for name, value in point.items()
    }


def _round(value: float) -> float:
    return round(float(value), 6)
