"""Number formats and compilation: what a step does with them, and what the log tells of it."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from sono.curation.errors import SonoError
from sono.curation.workspace import Workspace
from sono.training import step
from sono.training.checkpoints import load_model
from sono.training.config import TrainingConfig
from sono.training.model import MaskClip
from sono.training.train import train


@pytest.fixture
def config(tiny: str) -> TrainingConfig:
    return TrainingConfig(model=tiny, epochs=2, batch_size=6, precision="float32")  # four steps an epoch


def log(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [{name: float(value) for name, value in row.items() if name != "seconds" and value} for row in rows]


def test_float16_learns_what_float32_learns_but_for_the_steps_left_out(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *given, **more: scaler(*given, init_scale=256.0, **more))
    exact, half = (
        log(train(study, config.model_copy(update={"precision": name})).folder) for name in ("float32", "float16")
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
    changes = {"precision": "float16", "ema": 0.5}
    folder = train(study, config.model_copy(update=changes)).folder
    assert [row["left_out"] for row in log(folder)] == [4, 4]
    assert log(folder)[0]["logit_scale"] == 10  # as it began
    assert float(load_model(folder)[0].stem.mask.weight.detach().abs().max()) == 0


def test_a_gradient_that_no_scale_makes_finite_stops_the_run(
    study: Workspace, config: TrainingConfig, steep: None
) -> None:
    changes = {"precision": "float16", "epochs": 5}
    with pytest.raises(SonoError, match=r"the gradient became (nan|inf) at step 17 .*lower learning_rate"):
        train(study, config.model_copy(update=changes))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler is there")
def test_a_compiled_tower_learns_the_same(study: Workspace, config: TrainingConfig) -> None:
    plain, compiled = (
        log(train(study, config.model_copy(update={"compile": asked})).folder) for asked in (False, True)
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
        SonoError, match=r"cannot be compiled here \(No working .*; install g\+\+, or set compile = false"
    ):
        train(study, config)
