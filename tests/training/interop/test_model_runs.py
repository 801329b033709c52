import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from clip_files import random_clip, write_openai, write_sonoclip

import sono.cli
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.selection import Target
from sono.training.interop.export_sonoclip import BASE, VISION, export_sonoclip
from sono.training.interop.model_runs import export_model, import_model
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_model, load_sonoclip, load_weights, save_model
from sono.training.model.mask_clip import MaskClip
from sono.training.model.published import load_published


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    clip = random_clip()
    return write_sonoclip(tmp_path / "vision weights.pth", clip), write_openai(
        tmp_path / "clip.pt", clip
    )


def equal(one: MaskClip, two: MaskClip) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_an_imported_model_is_a_run_that_eval_scores(
    own_study: Workspace, pair: tuple[Path, Path]
) -> None:
    summary = import_model(own_study, pair[0], pair[1], None, None)
    assert (summary.run, summary.kind, summary.image_size) == ("vision-weights", "SonoCLIP", 32)
    model, info = load_model(summary.folder)
    assert equal(model, load_sonoclip(pair[1], pair[0]))
    assert info.origin == "SonoCLIP"
    assert str(pair[0].parent) not in (summary.folder / "run.json").read_text()
    result = evaluate(own_study, EvaluationOptions(summary.run, Target("A"), modes=("all_one",)))
    assert "what that one was trained on is not known" in result.title
    assert json.loads((result.folder / "metrics.json").read_text())["run"] == "vision-weights"


def test_a_run_is_not_written_over(own_study: Workspace, pair: tuple[Path, Path]) -> None:
    import_model(own_study, *pair, None, "clip")
    with pytest.raises(SonoError, match="a run of this name exists"):
        import_model(own_study, *pair, None, "clip")


def test_a_checkpoint_that_does_not_fit_leaves_no_run(
    own_study: Workspace, pair: tuple[Path, Path]
) -> None:
    with pytest.raises(SonoError, match="name the CLIP file"):
        import_model(own_study, pair[0], None, None, "clip")
    assert not (own_study.runs / "clip").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_export_and_import_give_the_same_model(
    whole: bool, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    model, _ = load_published(pair[1]) if whole else load_published(*pair)
    export_sonoclip(model, tmp_path / "out")
    again = load_sonoclip(tmp_path / "out" / BASE, tmp_path / "out" / VISION)
    assert equal(model, again)
    assert again.config.architecture == model.config.architecture


def test_the_exported_base_is_a_clip_of_its_own(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = load_published(*pair)
    export_sonoclip(model, tmp_path)
    missing = random_clip(seed=5).load_state_dict(torch.load(tmp_path / BASE, weights_only=True))
    assert missing.missing_keys == missing.unexpected_keys == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (ModelConfig(name="nano", image_size=32), "it takes a vision transformer"),
        (ModelConfig(name="ViT-S-32-alt", image_size=64), "one gray channel"),
        (ModelConfig(name="ViT-S-32-alt", image_size=64, channels=3), "pixel statistics"),
    ],
)
def test_what_the_published_code_cannot_hold_is_told(
    config: ModelConfig, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SonoError, match=told):
        export_sonoclip(MaskClip(config), tmp_path)
    assert not list(tmp_path.iterdir())


def test_export_writes_into_a_new_folder_only(
    own_study: Workspace, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    run = import_model(own_study, *pair, None, "clip").folder
    assert len(export_model(own_study, run, tmp_path / "out", "sonoclip").files) == 2
    with pytest.raises(SonoError, match="not an empty folder"):
        export_model(own_study, run, tmp_path / "out", "sonoclip")


def test_a_checkpoint_of_another_architecture_is_told_on_loading(tmp_path: Path) -> None:
    save_model(tmp_path / "one", MaskClip(ModelConfig(name="nano", image_size=32)))
    save_model(tmp_path / "two", MaskClip(ModelConfig(name="ViT-S-32-alt", image_size=32)))
    shutil.copy(tmp_path / "two" / "model.safetensors", tmp_path / "one" / "model.safetensors")
    with pytest.raises(SonoError, match="the weights do not fit model 'nano'"):
        load_weights(tmp_path / "one")


def test_the_commands_import_and_export_and_tell_errors_in_a_line(
    own_study: Workspace,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["sono", "model", *map(str, words), "-w", str(own_study.root), "-q"]
        )
        code = 0
        try:
            sono.cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, capsys.readouterr().err

    assert call("import", pair[0], "--base", pair[1], "--name", "clip") == (0, "")
    assert call("export", tmp_path / "out", "--run", "runs/clip/", "--format", "sonoclip") == (
        0,
        "",
    )
    (tmp_path / "cut.pth").write_bytes(pair[0].read_bytes()[:5000])
    for words in (
        ("import", tmp_path / "cut.pth"),
        ("import", pair[0]),
        ("export", tmp_path / "out", "--run", "clip"),
    ):
        code, told = call(*words)
        assert (code, told.count("\n"), told.startswith("sono: ")) == (1, 1, True)
