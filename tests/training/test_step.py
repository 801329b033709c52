"""One step: parts, rates, number formats and compilation, and what the log contains."""

import copy
import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_files import write_bert
from quick import mixed, quick
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.training import step
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch
from sono.training.data.schedule import Plan
from sono.training.inputs import initial_model, read_inputs
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_model
from sono.training.model.mask_clip import MaskClip
from sono.training.objectives.attributes import AttributeTable
from sono.training.objectives.objective import Heads
from sono.training.start import configure_model
from sono.training.step import Learner, Trainer, batch_loss, parts_of, precision_of
from sono.training.train import train


@pytest.fixture
def config(tiny: str) -> TrainingConfig:
    return mixed(model=tiny, epochs=2, batch_size=6, precision="float32")  # four steps an epoch


def log(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [
        {name: float(value) for name, value in row.items() if name != "seconds" and value}
        for row in rows
    ]


def begun(study: Workspace, config: TrainingConfig) -> tuple[Trainer, list[Batch]]:
    """A trainer as a run begins with it, and the batches of the first epoch."""
    torch.manual_seed(0)
    material = read_inputs(study, config)
    pairs = material.train
    model = configure_model(initial_model(material, config), config, len(pairs))
    heads = Heads(config, pairs.table.rows, model.towers.text.text_projection.shape[1])
    plan = Plan(pairs, config)
    return Trainer(Learner(model, heads, config)), [batch for _, batch in plan.batches(0, done=0)]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(
        torch.allclose(value, other[name], rtol=1e-5, atol=1e-7) for name, value in one.items()
    )


def test_the_gradient_of_a_step_is_that_of_the_mean_of_its_parts(
    study: Workspace, config: TrainingConfig
) -> None:
    settings = config.model_copy(update={"accumulate": 2, "clip_norm": 1e9})
    trainer, batches = begun(study, settings)
    trainer.step(parts_of(batches[0], settings), 0.0)  # of which nothing may stay
    model, parts = copy.deepcopy(trainer.model), parts_of(batches[1], settings)
    told = trainer.step(parts, 0.0)
    losses = [batch_loss(model, part, settings) for part in parts]
    ((losses[0] + losses[1]) / 2).backward()
    assert told == pytest.approx(float((losses[0] + losses[1]).detach()) / 2)
    expected = {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }
    own = {
        name: weight.grad
        for name, weight in trainer.model.named_parameters()
        if weight.grad is not None
    }
    assert close(own, expected)
    assert torch.nn.utils.get_total_norm(own.values()) > 0.1


def test_a_gradient_that_is_too_long_is_clipped(study: Workspace, config: TrainingConfig) -> None:
    settings = config.model_copy(update={"clip_norm": 1e-3})
    trainer, batches = begun(study, settings)
    trainer.step(batches[:1], 0.0)
    gradients = [weight.grad for weight in trainer.learner.parameters() if weight.grad is not None]
    assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(1e-3, rel=1e-3)


STEM, SCALE, BIAS = "towers.visual.conv1.mask.weight", "logit_scale", "logit_bias"
RATES = {"mask_rate": 4.0, "scale_rate": 20.0, "objective": "sigmoid", "clip_norm": 1e9}


def test_each_weight_has_the_rate_and_the_decay_of_its_kind(
    study: Workspace, config: TrainingConfig
) -> None:
    settings = config.model_copy(update=RATES | {"weight_decay": 0.3, "reconstruction_weight": 0.1})
    trainer, batches = begun(study, settings)
    trainer.step(batches[:1], 1e-3)
    groups = [
        (weight, group) for group in trainer.optimizer.param_groups for weight in group["params"]
    ]
    found = {id(weight): (group["lr"], group["weight_decay"]) for weight, group in groups}
    names = dict(trainer.learner.named_parameters())
    assert len(groups) == len(names)
    special = {
        f"model.{STEM}": (4e-3, 0.3),
        f"model.{SCALE}": (2e-2, 0.0),
        f"model.{BIAS}": (2e-2, 0.0),
    }
    for name, weight in names.items():
        usual = (1e-3, 0.3 if weight.ndim > 1 else 0.0)
        assert found[id(weight)] == pytest.approx(special.get(name, usual)), name
    assert names.keys() > special.keys()


def test_mask_filters_and_scale_move_by_their_own_rates(
    study: Workspace, config: TrainingConfig
) -> None:
    trainer, batches = begun(study, config.model_copy(update=RATES | {"weight_decay": 0.0}))
    before = weights_of(trainer.model)
    trainer.step(batches[:1], 1e-4)
    moved = {
        name: float((weight - before[name]).abs().median())
        for name, weight in weights_of(trainer.model).items()
    }
    # Adam's first step is the rate, whatever the gradient
    expected = {STEM: 4e-4, SCALE: 2e-3, BIAS: 2e-3, "towers.visual.conv1.image.weight": 1e-4}
    assert {name: moved[name] for name in expected} == pytest.approx(expected, rel=0.02)


def test_decay_shrinks_matrices_and_leaves_vectors(
    study: Workspace, config: TrainingConfig
) -> None:
    after = []
    for decay in (0.0, 0.5):
        trainer, batches = begun(study, config.model_copy(update={"weight_decay": decay}))
        before = weights_of(trainer.model)
        trainer.step(batches[:1], 1e-2)
        after.append(weights_of(trainer.model))
    expected = {
        name: before[name] * (0.5e-2 if weight.ndim > 1 else 0) for name, weight in after[0].items()
    }
    assert close({name: weight - after[1][name] for name, weight in after[0].items()}, expected)


@pytest.mark.parametrize("asked", [True, False])
def test_a_step_goes_through_the_compiled_tower(
    asked: bool, study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[object] = []

    def spy(forward: Callable[..., Tensor], *_: object, **__: object) -> Callable[..., Tensor]:
        def compiled(*given: object) -> Tensor:
            entered.append(getattr(forward, "__self__", None))
            return forward(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", spy)
    trainer, batches = begun(study, config.model_copy(update={"compile": asked}))
    for batch in batches[:2]:
        trainer.step([batch], 1e-3)
    assert [module is trainer.model.towers.visual for module in entered] == [True, True] * asked


@pytest.mark.slow
def test_float16_learns_what_float32_learns_but_for_the_steps_left_out(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda *given, **more: scaler(*given, init_scale=256.0, **more)
    )
    exact, half = (
        log(train(study, config.model_copy(update={"precision": name})).folder)
        for name in ("float32", "float16")
    )
    assert [row["left_out"] for row in (*exact, *half)] == [0, 0, 0, 0]
    for first, second in zip(exact, half, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=5e-3)
        assert second["loss"] != first["loss"]


@pytest.fixture
def steep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is a number, and whose gradients are not."""
    real = step.batch_loss
    monkeypatch.setattr(step, "batch_loss", lambda *given: real(*given) * 1e36)


def test_a_step_that_overflows_is_left_out_and_the_log_says_so(
    study: Workspace, config: TrainingConfig, steep: None
) -> None:
    changes = {"precision": "float16"}
    folder = train(study, config.model_copy(update=changes)).folder
    assert [row["left_out"] for row in log(folder)] == [4, 4]
    assert log(folder)[0]["logit_scale"] == 10  # as it began
    assert float(load_model(folder)[0].stem.mask.weight.detach().abs().max()) == 0


def test_a_gradient_that_no_scale_makes_finite_stops_the_run(
    study: Workspace, config: TrainingConfig, steep: None
) -> None:
    changes = {"precision": "float16", "epochs": 5}
    with pytest.raises(
        SonoError, match=r"the gradient became (nan|inf) at step 17 .*lower learning_rate"
    ):
        train(study, config.model_copy(update=changes))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler is there")
def test_a_compiled_tower_learns_the_same(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # others would import torch first
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    plain, compiled = (
        log(train(study, config.model_copy(update={"compile": asked})).folder)
        for asked in (False, True)
    )
    for first, second in zip(plain, compiled, strict=True):
        assert second == pytest.approx(first, rel=1e-4)


def test_where_nothing_can_be_compiled_it_says_so(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise TorchDynamoException("No working C++ compiler found")

    monkeypatch.setattr(MaskClip, "encode_image", fails)
    with pytest.raises(
        SonoError,
        match=r"cannot be compiled here \(No working .*; install g\+\+, or set compile = false",
    ):
        train(study, config)


def grouped(config: TrainingConfig, architecture: ModelConfig) -> dict[str, float]:
    """How much faster than the others each weight learns."""
    model = MaskClip(architecture)
    trainer = Trainer(Learner(model, Heads(config, AttributeTable([]).rows, 128), config))
    factors = {
        id(weight): group["factor"]
        for group in trainer.optimizer.param_groups
        for weight in group["params"]
    }
    return {name: factors[id(weight)] for name, weight in model.named_parameters()}


@pytest.mark.parametrize("start", ["imagenet", "scratch"])
def test_weights_that_came_trained_have_a_rate_of_their_own(start: str) -> None:
    settings = quick(model="lite0", start=start, trunk_rate=0.1, mask_rate=4.0, scale_rate=20.0)
    found = grouped(settings, ModelConfig(name="lite0", image_size=32, region_pool=True))
    kinds: dict[float, set[str]] = {}
    for name, factor in found.items():
        kinds.setdefault(factor, set()).add(name)
    assert kinds[20.0] == {SCALE, BIAS}
    new = {name for name in found if name.startswith("region_pool.")}
    new |= {"towers.visual.trunk.conv_stem.depthwise.weight"}
    trunk = {name for name in found if name.startswith("towers.visual.trunk.")}
    assert "towers.visual.trunk.conv_stem.mask.weight" in kinds[4.0]
    assert len(new) == 10
    trained = trunk - new - kinds[4.0]
    assert len(trained) > 100
    assert kinds.get(0.1, set()) == (trained if start == "imagenet" else set())
    assert {name for name in found if name.startswith("towers.text.")} <= kinds[1.0]


@pytest.mark.parametrize(
    ("kind", "set_to", "factor"),
    [("conv", None, 10.0), ("patches", None, 1.0), ("patches", 4.0, 4.0)],
)
def test_patches_of_a_mask_learn_no_faster_than_their_tower(
    tiny: str, kind: str, set_to: float | None, factor: float
) -> None:
    name = tiny if kind == "patches" else "nano"
    found = grouped(quick(model=name, mask_rate=set_to), ModelConfig(name=name))
    assert [rate for weight, rate in found.items() if ".mask.weight" in weight] == [factor]


def test_a_bert_came_trained_and_its_projection_did_not(tmp_path: Path, tiny: str) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    bert = str(write_bert(tmp_path / "bert"))
    changes: dict[str, Any] = {"model": tiny, "text": bert, "trunk_rate": 0.1}
    found = grouped(quick(**changes), ModelConfig(name=tiny, text_tower=bert))
    trained = {name for name, factor in found.items() if factor == 0.1}
    assert (
        trained == {name for name in found if name.startswith("towers.text.transformer.")} != set()
    )
    begun_with = grouped(quick(**changes, init="before"), ModelConfig(name=tiny, text_tower=bert))
    # of a run that begins with another all weights came trained
    assert 0.1 not in begun_with.values()


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about CPUs")
def test_depthwise_towers_stay_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "best_precision", lambda: torch.bfloat16)
    lite, nano = (ModelConfig(name=name) for name in ("lite0", "nano"))
    assert [precision_of(quick(), model) for model in (lite, nano)] == [
        torch.float32,
        torch.bfloat16,
    ]
    assert precision_of(quick(precision="bfloat16"), lite) == torch.bfloat16
    # the model's own tower counts
    assert precision_of(quick(init="before"), nano) == torch.bfloat16
