"""Problems of a study or a machine at the start of a run.

Each gives one clear message, or does not disturb the run.
"""

import json
import resource
import signal
from collections.abc import Iterator

import pytest
import torch
from quick import quick
from studies import fill_vault

import sono.training.train as train_module
from sono.curation.core.config import override
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS
from sono.curation.core.workspace import Workspace
from sono.training import step
from sono.training.config import TrainingConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.step import Trainer
from sono.training.train import train


@pytest.fixture
def config(tiny: str) -> TrainingConfig:
    return quick(model=tiny, epochs=1, batch_size=6)


def test_without_captions_it_says_how_to_get_some(
    own_study: Workspace, config: TrainingConfig
) -> None:
    own_study.path(CAPTIONS).unlink()
    with pytest.raises(SonoError, match="no captions yet; run `sono captions build` first"):
        train(own_study, config)
    assert not own_study.runs.exists()


def test_without_masks_it_learns_from_whole_frames(
    own_study: Workspace, config: TrainingConfig
) -> None:
    own_study.path(MASKS).unlink()
    captions = own_study.captions()
    own_study.write(CAPTIONS, captions[captions["level"] == "global"])
    summary = train(own_study, config)
    assert (summary.run, summary.region_pairs, summary.steps) == ("run-001", 0, 4)


def test_captions_of_masks_that_are_gone_are_named(
    own_study: Workspace, config: TrainingConfig
) -> None:
    own_study.path(MASKS).unlink()
    with pytest.raises(
        SonoError,
        match=r"40 of 40 region captions belong to masks .* run `sono captions build` again",
    ):
        train(own_study, config)
    assert not own_study.runs.exists()


def test_masks_of_another_size_than_their_frame_are_refused(
    own_study: Workspace, config: TrainingConfig
) -> None:
    masks = own_study.masks()
    masks.loc[0, "height"] += 1
    own_study.write(MASKS, masks)
    with pytest.raises(SonoError, match=r"column 'height' has .*its frame has"):
        train(own_study, config)


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_captions_are_counted_and_refused(
    text: str, own_study: Workspace, config: TrainingConfig
) -> None:
    captions = own_study.captions()
    captions.loc[captions.index[:2], "text"] = text
    own_study.write(CAPTIONS, captions)
    with pytest.raises(
        SonoError, match=r"captions.parquet: 2 of \d+ captions are empty; run `sono captions build`"
    ):
        train(own_study, config)


def test_captions_that_fill_the_context_are_counted(
    own_study: Workspace, config: TrainingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = own_study.captions()
    train(own_study, config)
    assert "tokens that the text tower reads" not in " ".join(capsys.readouterr().err.split())
    captions.loc[captions["level"] == "global", "text"] += " seen" * 100
    own_study.write(CAPTIONS, captions)
    train(own_study, config)
    assert "2 of 4 different captions fill all 77 tokens" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_planes_that_no_table_knows_are_refused(
    split: str, own_study: Workspace, config: TrainingConfig
) -> None:
    images = own_study.images()
    images.loc[images.index[images["split"] == split][0], "plane"] = "femor"
    own_study.write(IMAGES, images)
    with pytest.raises(
        SonoError,
        match=r"'femor', which the plane table does not have; did you mean 'femur'\?; name your",
    ):
        train(own_study, config)
    assert not own_study.runs.exists()


@pytest.mark.parametrize(("count", "word"), [(0, "no"), (1, "one")])
def test_a_validation_split_without_two_frames_picks_no_epoch(
    own_study: Workspace,
    config: TrainingConfig,
    capsys: pytest.CaptureFixture[str],
    count: int,
    word: str,
) -> None:
    images = own_study.images()
    spare = images.index[images["split"] == "val"][count:]
    own_study.write(IMAGES, images.drop(spare))
    fill_vault(own_study)
    summary = train(own_study, config)
    assert (summary.val_frames, summary.best_score) == (count, None)
    assert not (summary.folder / "best").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert f"{word} captioned frame of the validation split is used: no epoch can be picked" in said
    assert "raise val under [splits]" in said


def test_a_plane_with_one_frame_is_learned_like_any(
    own_study: Workspace, config: TrainingConfig
) -> None:
    images = own_study.images()
    rare = images.index[(images["plane"] == "femur") & (images["split"] == "train")][1:]
    own_study.write(IMAGES, images.drop(rare))
    fill_vault(own_study)
    assert train(own_study, override(config, batch_size=13)).train_frames == 13


def test_a_batch_of_one_is_refused(config: TrainingConfig) -> None:
    with pytest.raises(
        SonoError, match="batch_size' is 1: input should be greater than or equal to 2"
    ):
        override(config, batch_size=1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"),
    ],
)
def test_where_memory_ends_it_says_what_to_turn(
    error: RuntimeError, study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(MaskClip, "encode_image", full)
    with pytest.raises(
        SonoError, match=r"raise accumulate \(1\), or lower batch_size \(6\) or image_size \(32\)"
    ):
        train(study, config)


@pytest.mark.parametrize(
    "place",
    [(torch.optim.AdamW, "step"), (train_module, "validate"), (train_module, "configure_model")],
)
def test_memory_may_end_at_any_moment_of_a_run(
    place: tuple[object, str],
    own_study: Workspace,
    config: TrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(*place, full)
    with pytest.raises(
        SonoError, match=r"memory is full at 6 pairs per step; in \[training\] raise accumulate"
    ):
        train(own_study, config)


def test_another_error_of_torch_stays_what_it_is(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("sizes do not fit")

    monkeypatch.setattr(MaskClip, "encode_image", broken)
    with pytest.raises(RuntimeError, match="sizes do not fit"):
        train(study, config)


def test_a_loss_that_is_no_number_stops_before_the_weights_move(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, moved = step.batch_loss, []
    monkeypatch.setattr(step, "batch_loss", lambda *given: real(*given) * float("nan"))
    monkeypatch.setattr(Trainer, "_update", lambda *_: moved.append(1))
    ids = "|".join(study.images()["image_id"])
    with pytest.raises(
        SonoError, match=rf"the loss became nan at step 1 \(frames ({ids}), .*lower learning_rate"
    ):
        train(study, config, "not-a-number")
    assert moved == []
    told = json.loads((study.runs / "not-a-number" / "failed.json").read_text())
    assert (told["step"], told["error"], len(set(told["image_ids"]))) == (
        1,
        "the loss became nan",
        6,
    )


def test_a_full_disk_hides_no_loss_that_is_no_number_and_the_next_start_forgets_it(
    study: Workspace, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    real = step.batch_loss
    with monkeypatch.context() as patch:
        patch.setattr(step, "batch_loss", lambda *given: real(*given) * float("nan"))
        with pytest.raises(SonoError, match="the loss became nan at step 1"):
            train(study, config, "broke-down")
        assert (study.runs / "broke-down" / "failed.json").exists()
        patch.setattr(train_module, "write_text", full)
        with pytest.raises(SonoError, match="the loss became nan at step 1"):
            train(study, config, "broke-down-too")
    train(study, config, "broke-down", resume=True)
    assert not (study.runs / "broke-down" / "failed.json").exists()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond a megabyte, as on a disk that is full."""
    limits, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_is_one_clear_line(
    study: Workspace, config: TrainingConfig, small_files: None
) -> None:
    with pytest.raises(SonoError, match=r"could not be written.*--resume"):
        train(study, config, "no-room")
    assert not list((study.runs / "no-room").glob("*/model.safetensors"))
