"""Budgets of patients, and what few frames and texts give together."""

import numpy as np
import pandas as pd
import pytest

from sono.evaluation.probes.classes import Labeled
from sono.evaluation.probes.features import FrozenFeatures
from sono.evaluation.probes.few_shot import (
    SEEDS,
    Shown,
    below_sentence,
    budgets_of,
    draw_patients,
    few_shot,
    prototype_scores,
)
from sono.evaluation.probes.parts import Part
from sono.evaluation.statistics.metrics import unit

CLASSES, WIDTH, FRAMES = 4, 12, 400
POOL, TEST = np.arange(240), np.arange(240, FRAMES)


def data() -> Labeled:
    """Frames of 100 patients, four of each; the last 40 patients are tested."""
    labels = np.random.default_rng(0).integers(CLASSES, size=FRAMES)
    names = tuple("abcd")
    part = Part(POOL[:180], POOL[180:], TEST)
    return Labeled(pd.DataFrame(), names, labels, np.arange(FRAMES) // 4, (part,))


def shown(noise: float, text_noise: float = 0.3) -> tuple[Labeled, Shown]:
    study, rng = data(), np.random.default_rng(5)
    means = rng.normal(size=(CLASSES, WIDTH))
    # images lie elsewhere than texts, as in every CLIP
    gap = 4 * rng.normal(size=WIDTH)
    images = unit(means[study.labels] + gap + noise * rng.normal(size=(FRAMES, WIDTH)))
    texts = unit(means - gap + text_noise * rng.normal(size=means.shape))
    scores = images @ texts.T
    found = FrozenFeatures(images.astype(np.float32), images.astype(np.float32))
    return study, Shown(found, texts, scores)


def test_budgets_are_those_that_the_pool_has() -> None:
    assert [(one.patients, one.label) for one in budgets_of(60)] == [
        (2, "2"),
        (3, "3 (5 %)"),
        (4, "4"),
        (6, "6 (10 %)"),
        (8, "8"),
        (16, "16"),
        (32, "32"),
    ]
    assert budgets_of(1) == []


@pytest.mark.parametrize("count", [2, 4, 8, 32])
def test_patients_for_validation_are_part_of_the_budget(count: int) -> None:
    study = data()
    train, val = draw_patients(study.clusters, POOL, count, seed=3)
    used = np.concatenate([train, val])
    assert len(np.unique(study.clusters[used])) == count
    assert len(np.unique(study.clusters[val])) == max(1, count // 4)
    assert not set(study.clusters[train]) & set(study.clusters[val])
    assert set(used) <= set(POOL) and len(used) == 4 * count
    more = np.concatenate(draw_patients(study.clusters, POOL, 2 * count, seed=3))
    assert set(used) < set(more)


def test_more_patients_are_better_and_every_seed_is_kept() -> None:
    study, given = shown(noise=1.5)
    rows = few_shot(study, given, seed=0)
    linear = [row["methods"]["linear"]["mean"] for row in rows]
    assert linear[-1] > linear[0] + 0.1
    assert {len(row["methods"]["linear"]["seeds"]) for row in rows} == {SEEDS}
    assert rows[0]["frames"] == 8


def test_a_blend_knows_the_classes_that_the_few_frames_lack() -> None:
    study, given = shown(noise=0.8)
    seen = POOL[study.labels[POOL] < 2][:8]
    images = given.features.embedded
    alone, blend = (
        prototype_scores(images, study.labels, seen, CLASSES, texts)[TEST].argmax(axis=1)
        for texts in (None, given.texts)
    )
    truth = study.labels[TEST]
    assert set(alone) <= {0, 1}
    assert (blend == truth).mean() > (alone == truth).mean() + 0.2


def test_a_probe_below_zero_shot_is_stated() -> None:
    study, given = shown(noise=2.5, text_noise=0.0)
    rows = few_shot(study, given, seed=0)
    assert rows[0]["below_zero_shot"]
    assert below_sentence(rows).startswith("The linear probe is worse than zero-shot with 2")
    without = few_shot(study, Shown(given.features), seed=0)
    assert below_sentence(without) == ""
    assert set(without[0]["methods"]) == {"linear", "prototypes"}
