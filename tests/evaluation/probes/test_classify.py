"""Linear and nearest-neighbor probes on features whose content is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sono.evaluation.probes.classify import (
    linear_probe,
    macro_accuracy,
    nearest_neighbors,
)

TRAIN, VAL, TEST = np.arange(0, 90), np.arange(90, 135), np.arange(135, 300)


def features(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [300, 40] of three classes: a mean of each, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    means = rng.normal(size=(3, 40))
    return means[labels] + noise * rng.normal(size=(300, 40)), labels


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbors])
def test_classes_are_read_and_shuffled_labels_fall_to_chance(probe: object) -> None:
    shown, labels = features(1.0)
    fit = probe(shown, labels, TRAIN, VAL)
    assert macro_accuracy(fit.answer(shown[TEST]), labels[TEST]) > 0.95
    shuffled = np.random.default_rng(1).permutation(labels)
    lost = probe(shown, shuffled, TRAIN, VAL)
    assert macro_accuracy(lost.answer(shown[TEST]), labels[TEST]) < 0.45


def test_the_span_of_the_training_rows_loses_nothing() -> None:
    shown, labels = features(2.0)
    wide = np.concatenate([shown, np.random.default_rng(3).normal(size=(300, 300))], axis=1)
    rows = np.concatenate([TRAIN, VAL])
    fit = linear_probe(wide, labels, TRAIN, VAL, (0.1,))
    scale = StandardScaler().fit(wide[rows])
    plain = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    plain.fit(scale.transform(wide[rows]), labels[rows])
    same = fit.answer(wide[TEST]) == plain.predict(scale.transform(wide[TEST]))
    assert same.mean() > 0.99


def test_validation_rows_choose_more_neighbors_where_labels_are_wrong() -> None:
    shown, labels = features(1.0)
    noisy = labels.copy()
    wrong = np.random.default_rng(2).permutation(TRAIN)[:30]
    noisy[wrong] = (noisy[wrong] + 1) % 3
    assert nearest_neighbors(shown, labels, TRAIN, VAL).chosen == 1
    assert nearest_neighbors(shown, noisy, TRAIN, VAL).chosen > 1


def test_the_smallest_of_equally_good_penalties_is_chosen() -> None:
    shown, labels = features(0.01)
    assert linear_probe(shown, labels, TRAIN, VAL, (1.0, 0.1, 10.0)).chosen == 0.1


def test_one_class_in_training_is_always_answered() -> None:
    shown, labels = features(1.0)
    rows = TRAIN[labels[TRAIN] == 2]
    for some in (rows, rows[:1]):
        fit = linear_probe(shown, labels, some, rows)
        assert set(fit.answer(shown[TEST])) == {2}


def test_macro_accuracy_weighs_classes_equally() -> None:
    answers, labels = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert macro_accuracy(answers, labels) == 0.5
