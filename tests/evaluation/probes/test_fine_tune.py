"""Fine-tuning of an encoder on planes: what it trains, what it leaves alone, and its controls."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.evaluation.probes.fine_tune import Tuner, _augmentation, _examples
from sono.evaluation.probes.parts import Protocol
from sono.evaluation.probes.probe import probe
from sono.evaluation.probes.study import Probe, ProbeOptions, open_probe

SETTINGS = "\n[evaluation.fine_tune]\nepochs = 2\nlearning_rates = [1e-3, 3e-3]\n"


@pytest.fixture
def tuned(probed: Workspace) -> Workspace:
    probed.config_path.write_text(probed.config_path.read_text() + SETTINGS)
    return probed


def tuner(study: Probe) -> Tuner:
    how, model = study.settings.fine_tune, study.probed.model
    examples, plan = _examples(study), _augmentation(study)
    return Tuner(model, study.used, examples, how, plan, 0, lambda steps=1, note="": None)


def test_it_reads_the_planes_next_to_the_linear_probe_and_shuffled_labels_do_not(
    tuned: Workspace,
) -> None:
    result = probe(tuned, ProbeOptions(fine_tune=True))
    scores = {name: row["top1_macro"]["point"] for name, row in result.metrics["scores"].items()}
    assert scores["fine_tuned"] > 0.9
    assert scores["fine_tuned_shuffled"] < 0.7
    assert "fine_tuned_untrained" in scores
    gain = result.metrics["differences"]["fine_tuned - linear"]
    assert gain["point"] == pytest.approx(scores["fine_tuned"] - scores["linear"])
    assert gain["low"] is not None
    (chosen,) = result.metrics["chosen"]["fine_tuned"]
    assert chosen["learning_rate"] in (1e-3, 3e-3) and chosen["epoch"] in (1, 2)
    assert (
        result.metrics["chosen"]["fine_tuned_shuffled"][0]["learning_rate"]
        == (chosen["learning_rate"])
    )
    assert result.folder.parent.name == "plane (fine-tuned)"
    assert (
        "all weights fine-tuned"
        in json.loads((result.folder / "metrics.json").read_text())["sentences"][1]
    )


def test_all_weights_of_the_image_tower_move_and_the_encoder_itself_stays(
    tuned: Workspace,
) -> None:
    study = open_probe(tuned, ProbeOptions(fine_tune=True))
    before = {name: value.clone() for name, value in study.probed.model.state_dict().items()}
    *_, last = tuner(study).epochs(study.parts[0].train, 1e-3)
    after = study.probed.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    still = [
        name
        for name, value in last.model.named_parameters()
        if name.startswith("towers.visual") and torch.equal(value, before[name])
    ]
    # the projection is not in front of the head, and the mask is the same in every frame
    assert all("proj" in name or "mask" in name for name in still), still
    text = [name for name in before if name.startswith("towers.text")]
    assert all(torch.equal(last.model.state_dict()[name], before[name]) for name in text)


def test_the_same_seed_gives_the_same_answers_and_validation_chooses(tuned: Workspace) -> None:
    study = open_probe(tuned, ProbeOptions(fine_tune=True))
    one, again = (tuner(study).best(study.parts[0]) for _ in range(2))
    assert (one.answers == again.answers).all() and (one.rate, one.epoch) == (
        again.rate, again.epoch,
    )  # fmt: skip
    # test labels have no part in it
    examples = _examples(study)
    wrong = examples.labels.copy()
    wrong[study.parts[0].test] = 0
    other = replace(tuner(study), examples=replace(examples, labels=wrong)).best(study.parts[0])
    assert (other.answers == one.answers).all()


def test_before_training_it_sees_the_features_of_the_linear_probe(tuned: Workspace) -> None:
    """Also under masks and in folds, where the embedding is added to the pooled features."""
    options = ProbeOptions(mask="own", protocol=Protocol(folds=2), fine_tune=True)
    study = open_probe(tuned, options)
    encoder = next(tuner(study).epochs(study.parts[0].train, 1e-12))
    seen: list[torch.Tensor] = []
    encoder.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    rows = study.parts[0].test
    with torch.no_grad():
        encoder(*_examples(study).inputs(rows))
    wanted = (study.used[rows] - encoder.mean.numpy()) / encoder.sd.numpy()
    assert np.allclose(seen[0].numpy(), wanted, atol=1e-3)


def test_it_is_a_probe_of_the_plane_alone(tuned: Workspace) -> None:
    with pytest.raises(SonoError, match="--fine-tune is a probe of the plane"):
        open_probe(tuned, ProbeOptions("ga_days", fine_tune=True))
