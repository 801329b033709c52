"""The probe of a column with classes: linear, nearest neighbors, zero-shot, and two controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.evaluation.probes.classify import (
    Fit,
    Labels,
    Reals,
    linear_probe,
    nearest_neighbors,
    permuted_accuracies,
)
from sono.evaluation.probes.parts import Part, Rows, rows_tested
from sono.evaluation.statistics.bootstrap import Draws, Interval, paired_difference
from sono.evaluation.statistics.metrics import UNDECIDED, top_k_hits
from sono.evaluation.summaries import Scored, measure_mode

METRICS = ("top1_macro", "top1_micro", "f1_macro")
ZERO_SHOT = "zero_shot"
FINE_TUNED = "fine_tuned"
FINE_TUNED_UNTRAINED, FINE_TUNED_SHUFFLED = "fine_tuned_untrained", "fine_tuned_shuffled"
# which differences are measured
COMPARED = (
    ("linear", ZERO_SHOT),
    ("nearest_neighbors", ZERO_SHOT),
    ("linear", "untrained_encoder"),
    (FINE_TUNED, "linear"),
    (FINE_TUNED, FINE_TUNED_UNTRAINED),
)
PERMUTATIONS = 20  # of the labels


@dataclass(frozen=True)
class Labeled:
    """Frames with the number of their class and of their patient, and the parts of a protocol."""

    frames: pd.DataFrame
    names: tuple[str, ...]  # of the classes
    labels: Labels
    clusters: Labels
    parts: tuple[Part, ...]

    @property
    def tested(self) -> Rows:
        """The rows that are tested."""
        return rows_tested(self.parts)


@dataclass(frozen=True)
class ClassScores:
    """Answers of each method as one-hot scores of the tested frames, or cosines of zero-shot."""

    scored: Scored
    chosen: Mapping[str, list[float]]  # what each probe is fitted with, by part
    shuffled: list[float]  # macro Top-1 of linear probes fitted on permuted labels

    def with_answers(self, answers: Mapping[str, Labels]) -> "ClassScores":
        """Also methods whose answers [tested] are known."""
        classes = len(self.scored.planes)
        more = {name: one_hot(each, classes) for name, each in answers.items()}
        return replace(self, scored=replace(self.scored, scores=self.scored.scores | more))

    def measures(self, how: Draws) -> dict[str, dict[str, Interval]]:
        """Macro and micro Top-1 and F1 of each method, with intervals over patients."""
        rows = np.ones(len(self.scored.truth), np.bool_)
        found = {name: measure_mode(self.scored, name, rows, how) for name in self.scored.scores}
        return {
            name: {metric: row[metric] for metric in METRICS if metric in row}
            for name, row in found.items()
        }

    def differences(self, how: Draws) -> dict[tuple[str, str], Interval]:
        """Macro Top-1 of one method minus that of another, paired by frame."""
        hits = {name: self.hits(name) for name in self.scored.scores}
        truth, clusters = self.scored.present_truth, self.scored.clusters
        return {
            (one, other): paired_difference(hits[one], hits[other], truth, clusters, how)
            for one, other in COMPARED
            if one in hits and other in hits
        }

    def hits(self, name: str) -> NDArray[np.bool_]:
        """Whether each tested frame is right, among the classes present."""
        near = self.scored.scores[name][:, self.scored.present]
        return top_k_hits(near, self.scored.present_truth, 1)


def class_scores(
    data: Labeled, features: Reals, untrained: Reals, zero_shot: Reals | None, seed: int
) -> ClassScores:
    """Fit and test every method on every part.

    `features` and those of an `untrained` encoder are [n, width], `zero_shot` cosines [n, classes].
    """
    rows = data.tested
    chosen: dict[str, list[float]] = {}

    def run(name: str, probe: Callable[..., Fit], shown: Reals) -> NDArray[np.float64]:
        fits = [probe(shown, data.labels, part.train, part.val) for part in data.parts]
        chosen[name] = [fit.chosen for fit in fits]
        return one_hot(answers_of(fits, shown, data)[rows], len(data.names))

    scores = {
        "linear": run("linear", linear_probe, features),
        "nearest_neighbors": run("nearest_neighbors", nearest_neighbors, features),
    }
    if zero_shot is not None:
        scores[ZERO_SHOT] = np.asarray(zero_shot[rows], np.float64)
    scores["untrained_encoder"] = run("untrained_encoder", linear_probe, untrained)
    rng = np.random.default_rng(seed)
    shuffled = [
        permuted_accuracies(
            features,
            (rng.permutation(data.labels) for _ in range(PERMUTATIONS)),
            part.pool,
            part.test,
            c,
        )
        for part, c in zip(data.parts, chosen["linear"], strict=True)
    ]
    clusters = np.unique(data.clusters[rows], return_inverse=True)[1]
    scored = Scored(data.names, data.labels[rows].astype(np.int64), clusters, scores)
    return ClassScores(scored, chosen, np.mean(shuffled, axis=0).tolist())


def answers_of(fits: Sequence[Fit], features: Reals, data: Labeled) -> Labels:
    """The answer [n] for each tested frame by the probe of its part, else UNDECIDED."""
    answers = np.full(len(features), UNDECIDED, np.int64)
    for fit, part in zip(fits, data.parts, strict=True):
        answers[part.test] = fit.answer(features[part.test])
    return answers


def one_hot(answers: Labels, classes: int) -> NDArray[np.float64]:
    """Scores [n, classes] with 1 at each answer; zeros, a tie, for an undecided one."""
    return np.eye(classes + 1)[answers][:, :classes]


def class_rows(data: Labeled, found: ClassScores) -> list[dict[str, Any]]:
    """Each class with its frames and patients, in all and tested, and its recall by method."""
    rows, truth = data.tested, data.labels[data.tested]
    hits = {name: found.hits(name) for name in found.scored.scores}
    return [
        {
            "class": name,
            "pool": int((data.labels == number).sum()),
            "images": int((truth == number).sum()),
            "clusters": len(np.unique(data.clusters[rows][truth == number])),
            "recall": {each: _mean(hit[truth == number]) for each, hit in hits.items()},
        }
        for number, name in enumerate(data.names)
    ]


def _mean(hits: NDArray[np.bool_]) -> float | None:
    return round(float(hits.mean()), 6) if len(hits) else None
