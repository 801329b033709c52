"""Linear and nearest-neighbor probes of frozen features, as pure functions.

What they are fitted with (C, k) is chosen on the validation rows by macro accuracy, the smallest
of the best; then they are fitted again on training and validation rows.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

Reals = NDArray[np.floating]
Labels = NDArray[np.integer]
Rows = NDArray[np.intp]

C_VALUES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse strengths of the penalty
K_VALUES = (1, 3, 5, 10, 20, 50)  # neighbors


@dataclass(frozen=True)
class Fit:
    """A fitted probe: its answers for features [n, width], and what was chosen."""

    answer: Callable[[Reals], Labels]
    chosen: float


def linear_probe(
    features: Reals, labels: Labels, train: Rows, val: Rows, values: Sequence[float] = C_VALUES
) -> Fit:
    """Logistic regression of standardized features, with classes of equal weight."""
    features = np.asarray(features, np.float64)  # in single precision it may not converge
    scaled = _standardized(features[train])
    shown = scaled.transform(features[train]), scaled.transform(features[val])

    def score(c: float) -> float:
        answers = _logistic(c, shown[0], labels[train]).predict(shown[1])
        return macro_accuracy(answers, labels[val])

    best = _best(score, values)
    both = np.concatenate([train, val])
    whole = _standardized(features[both])
    model = _logistic(best, whole.transform(features[both]), labels[both])
    return Fit(lambda rows: model.predict(whole.transform(rows)), best)


def permuted_accuracies(
    features: Reals, permutations: Iterable[Labels], fit: Rows, test: Rows, c: float
) -> list[float]:
    """Macro accuracy on the rows `test` of probes fitted on permuted labels [n]: the chance."""
    features = np.asarray(features, np.float64)
    whole = _standardized(features[fit])
    shown, asked = whole.transform(features[fit]), whole.transform(features[test])
    return [
        macro_accuracy(_logistic(c, shown, labels[fit]).predict(asked), labels[test])
        for labels in permutations
    ]


def nearest_neighbors(
    features: Reals, labels: Labels, train: Rows, val: Rows, values: Sequence[int] = K_VALUES
) -> Fit:
    """The vote of the k most similar frames, by cosine and weighted by nearness."""

    def model(k: int, rows: Rows) -> Any:
        vote = KNeighborsClassifier(min(k, len(rows)), weights="distance", algorithm="brute")
        return make_pipeline(Normalizer(), vote).fit(features[rows], labels[rows])

    best = _best(
        lambda k: macro_accuracy(model(int(k), train).predict(features[val]), labels[val]),
        [k for k in values if k <= len(train)],
    )
    return Fit(model(int(best), np.concatenate([train, val])).predict, best)


def macro_accuracy(answers: Labels, labels: Labels) -> float:
    """The mean over the classes of `labels` of the share of right answers."""
    hits = answers == labels
    return float(np.mean([hits[labels == label].mean() for label in np.unique(labels)]))


def _best(score: Callable[[float], float], values: Sequence[float]) -> float:
    scores = {value: score(value) for value in values}
    return min(values, key=lambda value: (-scores[value], value))


def _standardized(features: Reals) -> Any:
    """Fitted to give features mean 0 and deviation 1, turned into the span of these rows.

    The penalized regression has its weights in that span, so nothing is lost, and it is faster.
    """
    turn = [PCA(svd_solver="full")] if len(features) > 1 else []
    return make_pipeline(StandardScaler(), *turn).fit(features)


def _logistic(c: float, shown: Reals, labels: Labels) -> Any:
    if len(np.unique(labels)) < 2:  # of a few patients
        return DummyClassifier().fit(shown, labels)
    with warnings.catch_warnings():
        # hardly more frames than classes, as of two patients
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        # where it stops early it is scored as it is, on validation and on test frames
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
        return model.fit(shown, labels)
