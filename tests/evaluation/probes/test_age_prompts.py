"""Ages by prompts: what the prompts say, what is chosen where, and that shuffled ages are worse."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import small_vit

from sono.curation.core.workspace import Workspace
from sono.evaluation.probes import age_prompts
from sono.evaluation.probes.age import measure_age
from sono.evaluation.probes.age_prompts import PromptAges, prompt_ages
from sono.evaluation.probes.parts import Part
from sono.evaluation.probes.study import ProbeOptions, open_probe
from sono.templates import loader

WEEKS = 7.0 * np.arange(12, 41)
PART = Part(np.arange(20), np.arange(20, 40), np.arange(40, 80))


def peaked(truth: np.ndarray) -> np.ndarray:
    """Cosines that are highest at the true age, a little: 0.01 a week."""
    return 0.3 - 0.01 * np.abs(WEEKS - truth[:, None]) / 7


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).uniform(100, 270, 80)


def test_the_age_is_where_the_cosines_are_highest_and_shuffled_ages_are_worse(
    truth: np.ndarray,
) -> None:
    ages = PromptAges(peaked(truth), WEEKS)
    answers, spread = ages.answers(truth, PART)
    assert np.abs(answers - truth[PART.test]).mean() < 3
    assert (spread > 0).all()
    assert ages.error(truth, [PART]) == np.abs(answers - truth[PART.test]).mean()
    assert min(ages.permuted_errors(truth, [PART], seed=0)) > 20


def test_noise_is_as_good_as_its_permutations(truth: np.ndarray) -> None:
    ages = PromptAges(np.random.default_rng(3).normal(size=(80, len(WEEKS))), WEEKS)
    others = ages.permuted_errors(truth, [PART], seed=0)
    assert len(others) == 40 and min(others) < ages.error(truth, [PART]) < max(others)


def test_the_temperature_is_chosen_on_validation_frames_alone(truth: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    scores = peaked(truth) + rng.normal(0, 0.05, (80, len(WEEKS)))
    ages = PromptAges(scores, WEEKS)
    best, _ = ages.answers(truth, PART)
    errors = [
        np.abs(ages._expected(t, PART.val)[0] - truth[PART.val]).mean()
        for t in age_prompts.TEMPERATURES
    ]
    chosen = age_prompts.TEMPERATURES[int(np.argmin(errors))]
    assert np.array_equal(best, ages._expected(chosen, PART.test)[0])
    assert min(errors) < 0.9 * errors[0]  # noise makes the sharpest one worse
    others = truth.copy()
    others[PART.test] = 0
    assert np.array_equal(ages.answers(others, PART)[0], best)


def test_prompts_state_every_week_of_the_frames_not_tested_and_the_plane_if_asked(
    probed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[list[str]]] = []

    def seen(model: object, prompts: list[list[str]]) -> np.ndarray:
        asked.append(prompts)
        return np.zeros((len(prompts), 16))

    monkeypatch.setattr(age_prompts, "class_features", seen)
    study = open_probe(probed, ProbeOptions("ga_days"))
    found = prompt_ages(study, np.zeros((90, 16)), with_plane=False)
    # 140 to 184 days
    assert found.days.tolist() == [7.0 * week for week in range(20, 27)]
    (plain,) = asked
    assert plain[0] == ["A fetal ultrasound image at 20 weeks of gestation."]
    prompt_ages(study, np.zeros((90, 16)), with_plane=True)
    named = {texts[0][0] for texts in asked[1:]}
    assert "A fetal ultrasound image of the femur plane at 20 weeks of gestation." in named
    assert len(named) == 3


def test_encoders_without_texts_and_captions_without_ages_have_no_prompts(
    probed: Workspace, tmp_path: Path
) -> None:
    torch.save(small_vit().state_dict(), tmp_path / "openus_vit.pth")
    study = open_probe(probed, ProbeOptions("ga_days", encoder=str(tmp_path / "openus_vit.pth")))
    errors = measure_age(study).metrics["errors"]
    assert "ridge" in errors and not {name for name in errors if name.startswith("prompts")}
    silent = tmp_path / "silent"
    shutil.copytree(Path(loader.__file__).parent / "captions" / "standard", silent)
    (silent / "global.j2").write_text("A fetal ultrasound image of the {{ plane }} plane.\n")
    study = open_probe(probed, ProbeOptions("ga_days"))
    study = replace(study, subject=replace(study.probed, template=str(silent)))
    assert prompt_ages(study, study.features.embedded, with_plane=True) is None


def test_the_report_has_prompts_next_to_the_regression_and_says_what_they_know(
    probed: Workspace,
) -> None:
    found = measure_age(open_probe(probed, ProbeOptions("ga_days")))
    errors = found.metrics["errors"]
    assert {"prompts", "prompts_with_plane", "prompts_untrained"} <= set(errors)
    assert set(errors["prompts"]["all"]) >= {"mae", "bias", "sd", "low", "high"}
    assert set(found.metrics["coverage"]) == {"ridge", "prompts", "prompts_with_plane"}
    for sentence, row in zip(
        found.sentences[1:], found.metrics["shuffled_prompts"].values(), strict=False
    ):
        assert ("not shown to know" in sentence) == (row["p_value"] >= 0.05)
    assert len(found.sentences) == 4
