"""Probes fitted on the frames of a few patients, those for validation counted among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.probes.classes import Labeled
from sono.evaluation.probes.classify import Labels, Reals, linear_probe, macro_accuracy
from sono.evaluation.probes.features import FrozenFeatures
from sono.evaluation.probes.parts import Part, Rows
from sono.evaluation.statistics.metrics import unit

PATIENTS = (2, 4, 8, 16, 32, 64)
SHARES = (0.01, 0.05, 0.1)  # of the patients that are not tested
SEEDS = 5
FOR_VALIDATION = 4  # one of so many patients, and at least one
TEXT_WEIGHT = 4.0  # frames that the text of a class counts as; fixed before any test


@dataclass(frozen=True)
class Budget:
    """A number of patients, and what it is called."""

    patients: int
    label: str


@dataclass(frozen=True)
class Shown:
    """What a probe is given: features, and for planes the texts.

    `texts` are unit features [classes, d], `zero_shot` cosines [n, classes].
    """

    features: FrozenFeatures
    texts: Reals | None = None
    zero_shot: Reals | None = None


def budgets_of(patients: int) -> list[Budget]:
    """The budgets that a pool of so many patients has, the smallest first."""
    names = {number: "" for number in PATIENTS if number <= patients}
    for share in SHARES:
        number = round(share * patients)
        if number >= PATIENTS[0]:
            names[number] = f" ({100 * share:.0f} %)"
    return [Budget(number, f"{number}{names[number]}") for number in sorted(names)]


def few_shot(data: Labeled, shown: Shown, seed: int) -> list[dict[str, Any]]:
    """Macro Top-1 by budget and method, each with its values over the seeds.

    Every method of a seed has the same patients and test frames; seeds take turns over the parts.
    """
    least = min(len(np.unique(data.clusters[part.pool])) for part in data.parts)
    rows = []
    for budget in budgets_of(least):
        runs = []
        for draw in range(SEEDS):
            part = data.parts[draw % len(data.parts)]
            runs.append(
                _one(
                    data,
                    part,
                    shown,
                    draw_patients(data.clusters, part.pool, budget.patients, seed + draw),
                )
            )
        scores = {name: [run[name] for run in runs] for name in runs[0]}
        rows.append({"patients": budget.patients, "label": budget.label, **_summary(scores)})
    return rows


def draw_patients(clusters: Labels, pool: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """The frames of `count` random patients of the pool: to fit on, and to choose on.

    A larger count of the same seed contains the smaller ones.
    """
    order = np.random.default_rng(seed).permutation(np.unique(clusters[pool]))[:count]
    held = order[::FOR_VALIDATION]
    inside = pool[np.isin(clusters[pool], order)]
    val = np.isin(clusters[inside], held)
    return inside[~val], inside[val]


def prototype_scores(
    images: Reals, labels: Labels, rows: Rows, classes: int, texts: Reals | None = None
) -> NDArray[np.float64]:
    """Cosines [n, classes] with the mean of each class's `rows`, blended with its text.

    Images and texts are centered apart, since the two lie in different places (the modality gap).
    A class without a frame and a text scores lowest. Nothing is trained.
    """
    shown = unit(images - images[rows].mean(axis=0))
    sums = np.zeros((classes, images.shape[1]))
    np.add.at(sums, labels[rows], shown[rows])
    if texts is not None:
        sums += TEXT_WEIGHT * unit(texts - texts.mean(axis=0))
    scores = shown @ unit(sums).T
    scores[:, np.linalg.norm(sums, axis=1) == 0] = -2
    return np.asarray(scores, np.float64)


def _one(data: Labeled, part: Part, shown: Shown, drawn: tuple[Rows, Rows]) -> dict[str, float]:
    """Macro Top-1 of each method fitted on the frames `drawn`, and how many they are."""
    both = np.concatenate(drawn)
    truth, test = data.labels[part.test], part.test
    fit = linear_probe(shown.features.pooled, data.labels, *drawn)
    found = {"linear": macro_accuracy(fit.answer(shown.features.pooled[test]), truth)}
    images = shown.features.pooled if shown.texts is None else shown.features.embedded
    ways = {"prototypes": None} | ({} if shown.texts is None else {"blend": shown.texts})
    for name, texts in ways.items():
        scores = prototype_scores(images, data.labels, both, len(data.names), texts)
        found[name] = macro_accuracy(scores[test].argmax(axis=1), truth)
    if shown.zero_shot is not None:
        found["zero_shot"] = macro_accuracy(shown.zero_shot[test].argmax(axis=1), truth)
    return found | {"frames": float(len(both)), "classes": float(len(np.unique(data.labels[both])))}


def _summary(scores: dict[str, list[float]]) -> dict[str, Any]:
    """Means and deviations over the seeds, and whether the linear probe falls below zero-shot."""
    counts = {name: float(np.mean(scores.pop(name))) for name in ("frames", "classes")}
    methods = {
        name: {"mean": float(np.mean(each)), "sd": float(np.std(each, ddof=1)), "seeds": each}
        for name, each in scores.items()
    }
    below = bool(np.mean(scores["linear"]) < np.mean(scores.get("zero_shot", [0.0])))
    return counts | {"methods": methods, "below_zero_shot": below}


def below_sentence(rows: Sequence[dict[str, Any]]) -> str:
    """Where the few-shot probe is worse than no label at all; "" if nowhere."""
    below = [row["label"] for row in rows if row["below_zero_shot"]]
    if not below:
        return ""
    return f"The linear probe is worse than zero-shot with {', '.join(below)} patients."
