import csv
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from quick import mixed
from safetensors import SafetensorError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from waiting import without_progress

from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.training.inputs import count_held_out
from sono.training.model import checkpoints
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_model, load_weights, read_run
from sono.training.model.mask_clip import MaskClip
from sono.training.runs.run_info import next_run_name
from sono.training.train import train

SMALL = mixed(model="tiny", epochs=3, batch_size=6, validate_every=1)


@pytest.fixture(scope="module", autouse=True)
def tiny_model(tiny: str) -> None:
    """Known by its name."""


@pytest.fixture(scope="session")
def run(study: Workspace) -> Path:
    return train(study, SMALL, "whole").folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(folder).state_dict()


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_leaves_a_record_logs_and_three_checkpoints(run: Path) -> None:
    assert {"best", "last", "end", "run.json", "log.csv", "tensorboard"} <= {
        path.name for path in run.iterdir()
    }
    lines = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert all(float(line["loss"]) > 0 for line in lines)
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    told = [(event.step, f"{event.value:.4g}") for event in events.Scalars("loss")]
    assert told == [(int(line["epoch"]), f"{float(line['loss']):.4g}") for line in lines]


def test_on_a_pipe_every_epoch_is_a_line(study: Workspace) -> None:
    with stderr_console.capture() as shown:
        train(study, SMALL.model_copy(update={"epochs": 2, "validate_every": 2}), "piped")
    first, second = without_progress(shown.get()).splitlines()
    assert re.fullmatch(r"epoch 1 of 2: loss [\d.]+, seconds [\d.]+", first)
    assert re.fullmatch(
        r"epoch 2 of 2: loss [\d.]+, val_loss [\d.]+, val_top1_macro [\d.]+, seconds [\d.]+", second
    )


def test_the_record_says_what_was_seen(run: Path, study: Workspace) -> None:
    info = read_run(run)
    images = study.accepted_images()
    used = images[images["split"] != "test"]
    assert info.centers_seen == ("A", "B")
    assert info.patients_seen == frozenset(used["patient_id"])
    assert info.image_ids_seen == frozenset(used["image_id"])
    assert info.planes_seen == {"femur": 12, "transthalamic": 12}
    assert info.template == "standard"


def test_a_center_that_is_held_out_is_not_seen(
    study: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(study, SMALL.model_copy(update={"hold_out": ("B",), "epochs": 1}), "held")
    folder, images = summary.folder, study.accepted_images()
    of_b = images[images["split"].eq("train") & images["center"].eq("B")]
    assert summary.train_left_out == {"frames of B": len(of_b)}
    assert summary.train_frames + len(of_b) == images["split"].eq("train").sum()
    held = int((images["center"].eq("B") & images["split"].ne("test")).sum())
    assert held and read_run(folder).left_out == {"frames of B": held}
    told = " ".join(capsys.readouterr().err.split())
    for split, used in {"train": summary.train_frames, "val": summary.val_frames}.items():
        placed = int(images["split"].eq(split).sum())
        assert (
            f"uses {used} of {placed} frames of the {split} split; not used: {placed - used} "
            "frames of B" in told
        )
    assert read_run(folder).centers_seen == ("A",)
    assert not read_run(folder).patients_seen & set(
        images.loc[images["center"] == "B", "patient_id"]
    )


def test_what_held_out_centers_cost_is_counted_by_why() -> None:
    rows = [
        ("B", "train"),
        (None, "train"),
        (None, "val"),
        ("A", "train"),
        ("A", "val"),
        ("B", "test"),
        ("A", "train"),
    ]
    images = pd.DataFrame(rows, columns=["center", "split"]).assign(image_id=list("abcdefg"))
    assert count_held_out(images, images.iloc[[4, 6]]) == {
        "frames of B": 1, "frames tied to them by patient or exam": 1, "frames without a center": 2
    }  # fmt: skip
    assert count_held_out(images, images) == {}


def test_the_same_seed_gives_the_same_weights(run: Path, study: Workspace) -> None:
    again = train(study, SMALL, "again").folder
    assert same(weights_of(run / "end"), weights_of(again / "end"))


def test_it_learns(study: Workspace) -> None:
    able = {"model": "nano", "image_size": 32, "epochs": 14, "global_fraction": 1.0}
    summary = train(study, SMALL.model_copy(update=able), "longer")
    losses = [
        float(line["loss"])
        for line in csv.DictReader((summary.folder / "log.csv").read_text().splitlines())
    ]
    assert losses[-1] < 0.85 * losses[0]  # equal captions in a batch keep it above zero
    assert summary.best_score is not None
    assert summary.best_score > 0.8


def test_a_name_is_used_once(run: Path, study: Workspace, own_study: Workspace) -> None:
    with pytest.raises(SonoError, match="a run of this name exists"):
        train(study, SMALL, "whole")
    with pytest.raises(SonoError, match="no run of this name to resume"):
        train(study, SMALL, "never", resume=True)
    with pytest.raises(SonoError, match="not a plain folder name"):
        train(study, SMALL, "../out")
    # a study that no other test has trained in
    (own_study.runs / "run-001" / "best").mkdir(parents=True)
    name = next_run_name(own_study)
    assert re.fullmatch(r"run-\d{3}", name) and not (own_study.runs / name).exists()


def test_resuming_with_other_settings_is_refused(run: Path, study: Workspace) -> None:
    with pytest.raises(SonoError, match=r"other settings \(seed\)"):
        train(study, SMALL.model_copy(update={"seed": 5}), "whole", resume=True)


def test_without_a_validation_split_the_end_stands(own_study: Workspace) -> None:
    images = own_study.images()
    own_study.write(IMAGES, images.assign(split=images["split"].replace("val", "train")))
    summary = train(own_study, SMALL.model_copy(update={"epochs": 1}), "all")
    assert (summary.val_frames, summary.best_epoch) == (0, None)
    assert not (summary.folder / "best").exists()
    assert same(weights_of(summary.folder / "end"), load_model(summary.folder)[0].state_dict())


def test_a_train_split_without_frames_says_what_to_do(own_study: Workspace) -> None:
    own_study.write(IMAGES, own_study.images().assign(split="test"))
    with pytest.raises(SonoError, match="0 captioned frames in the train split"):
        train(own_study, SMALL, "none")


def test_an_unknown_center_lists_the_known(study: Workspace) -> None:
    with pytest.raises(SonoError, match=r"known: A \(20 frames\), B \(20 frames\)"):
        train(study, SMALL.model_copy(update={"hold_out": ("Z",)}), "z")


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"rubbish"), ("model.json", b"{"), ("model.json", b'{"nam": 1}')],
)
def test_a_damaged_checkpoint_is_one_clear_error(
    run: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "best" / name).write_bytes(content)
    with pytest.raises(SonoError, match="not a checkpoint of sono, or damaged"):
        load_model(copy)


def test_weights_of_another_architecture_are_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    config = copy / "best" / "model.json"
    config.write_text(config.read_text().replace('"tiny"', '"ViT-S-32-alt"'))
    with pytest.raises(SonoError, match="do not fit model 'ViT-S-32-alt'"):
        load_model(copy)


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="no such run"):
        load_model(tmp_path / "none")
    with pytest.raises(SonoError, match="not a run"):
        load_model(tmp_path)


def test_a_full_disk_at_a_checkpoint_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(SonoError, match=r"No space left on device.*make room.*--resume"):
        checkpoints.save_model(tmp_path / "last", MaskClip(ModelConfig(name="nano", image_size=32)))
    assert list((tmp_path / "last").iterdir()) == []
