"""Training on shards: the run of a stream, what it remembers, and what it refuses."""

import csv
import json
import os
import signal
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from quick import mixed
from safetensors.torch import load_file
from typer.testing import CliRunner

from sono.cli import app
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.tables import CAPTIONS, IMAGES, from_rows, rows_of, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.evaluation.selection import Seen, Target, leaking, select_frames
from sono.training.config import TrainingConfig
from sono.training.data.shards import Shards, read_shard
from sono.training.data.stream import StreamPlan
from sono.training.export_shards import export_shards
from sono.training.model.checkpoints import read_run
from sono.training.runs import resume
from sono.training.runs.run_info import recorded_config
from sono.training.step import Trainer
from sono.training.train import train

SMALL = mixed(
    model="tiny", epochs=3, batch_size=6, validate_every=1, precision="float32", learning_rate=1e-4
)


@pytest.fixture(autouse=True)
def tiny_model(tiny: str) -> None:
    """Known by its name."""


@pytest.fixture(scope="session")
def folder(study: Workspace, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 24 training frames in six shards."""
    out = tmp_path_factory.mktemp("shards") / "train"
    export_shards(study, out, SMALL, pairs_per_shard=4)
    return out


@pytest.fixture(scope="session")
def streamed(folder: Path) -> TrainingConfig:
    return SMALL.model_copy(update={"shards": str(folder)})


@pytest.fixture(scope="session")
def whole(study: Workspace, streamed: TrainingConfig) -> Path:
    return train(study, streamed, "streamed").folder


def ids(plan: StreamPlan, epoch: int) -> list[str]:
    return [image_id for _, batch in plan.batches(epoch, 0) for image_id in batch.image_ids]


def test_the_run_learns_and_is_validated_on_the_workspace(whole: Path) -> None:
    rows = list(csv.DictReader((whole / "log.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert all(
        float(row["val_loss"]) > 0 and 0 <= float(row["val_top1_macro"]) <= 1 for row in rows
    )
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_the_record_tells_what_a_run_of_frames_tells(study: Workspace, whole: Path) -> None:
    stream, frames = (
        read_run(whole),
        read_run(train(study, SMALL.model_copy(update={"epochs": 1}), "frames").folder),
    )
    for name in ("patients_seen", "image_ids_seen", "centers_seen", "planes_seen", "template"):
        assert getattr(stream, name) == getattr(frames, name), name
    assert len(stream.patients_seen) == 8


def test_an_evaluation_finds_the_leaks_of_a_stream(study: Workspace, whole: Path) -> None:
    info, images = read_run(whole), study.accepted_images()
    seen = Seen(frozenset(info.centers_seen), info.patients_seen, info.image_ids_seen)
    assert list(leaking(images, images, seen)) == list(images["split"] != "test")
    with pytest.raises(SonoError, match="center 'B' was in training"):
        select_frames(images, seen, Target(center="B"))


def test_held_out_centers_are_those_of_the_shards(study: Workspace, tmp_path: Path) -> None:
    held = SMALL.model_copy(update={"hold_out": ("B",), "epochs": 1})
    export_shards(study, tmp_path / "a", held, pairs_per_shard=4)
    streamed = held.model_copy(update={"shards": str(tmp_path / "a"), "hold_out": ()})
    info = read_run(train(study, streamed, "shards-held").folder)
    assert (info.held_out, info.centers_seen) == (("B",), ("A",))
    with pytest.raises(SonoError, match=r"written with B held out, not A.*--hold-out"):
        train(study, streamed.model_copy(update={"hold_out": ("A",)}), "shards-other")


def test_what_a_stream_cannot_do_is_told_and_recorded(
    study: Workspace, whole: Path, streamed: TrainingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"epochs": 1, "plane_balance": 0.5, "patient_balance": 0.25, "regions_per_frame": 2}
    folder = train(study, streamed.model_copy(update=asked), "told").folder
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "these settings are off: plane_balance 0.5, patient_balance 0.25, regions_per_frame 2"
        in told
    )
    config = read_run(folder).config
    assert (config["plane_balance"], config["patient_balance"], config["regions_per_frame"]) == (
        0,
        0,
        1,
    )
    assert config["shards"] == "train"  # the name and not the place


def test_seed_and_epoch_decide_the_batches(streamed: TrainingConfig) -> None:
    shards = Shards.open(Path(str(streamed.shards)))
    plan, same = StreamPlan(shards, streamed), StreamPlan(shards, streamed)
    assert (plan.total, plan.starts) == (12, [0, 4, 8, 12])
    assert ids(plan, 1) == ids(same, 1) != ids(plan, 2)
    assert sorted(ids(plan, 1)) == sorted(shards.contents.image_ids)
    late = list(plan.batches(1, done=6))
    assert [step for step, _ in late] == [6, 7]
    for (_, one), (_, two) in zip(late, list(plan.batches(1, 4))[2:], strict=True):
        assert torch.equal(one.image, two.image) and one.captions == two.captions


def test_a_killed_run_resumes_to_the_same_weights(
    study: Workspace, streamed: TrainingConfig, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVE_SHARE", 1e9)
    child = os.fork()
    if child == 0:
        step, done = Trainer.step, iter(range(6))
        Trainer.step = lambda *given: (
            step(*given) if next(done, None) is not None else os.kill(os.getpid(), 9)
        )
        try:
            train(study, streamed, "killed")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    again = train(study, streamed, "killed", resume=True).folder
    weights = [load_file(run / "last" / "model.safetensors") for run in (whole, again)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def one_of_two(rank: int, study: Workspace, config: TrainingConfig, out: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    join = partial(
        dist.init_process_group, init_method=f"file://{out / 'meet'}", rank=rank, world_size=2
    )
    dist.init_process_group = join
    batches, seen = StreamPlan.batches, []

    # a generator in between
    def noted(plan: StreamPlan, epoch: int, done: int):  # type: ignore[no-untyped-def]
        for step, batch in batches(plan, epoch, done):
            seen.append(batch.image_ids)
            yield step, batch

    StreamPlan.batches = noted  # type: ignore[method-assign]  # to see what each process reads
    train(study, config, "pair")
    (out / f"{rank}.json").write_text(json.dumps(seen))


def test_two_processes_read_other_shards_for_as_many_steps(
    study: Workspace, streamed: TrainingConfig, tmp_path: Path
) -> None:
    config = streamed.model_copy(update={"epochs": 1, "batch_size": 4})
    mp.start_processes(one_of_two, (study, config, tmp_path), nprocs=2, start_method="fork")
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [[len(batch) for batch in one] for one in seen] == [[2] * 6] * 2
    every = [image_id for one in seen for batch in one for image_id in batch]
    assert sorted(every) == sorted(Shards.open(Path(str(config.shards))).contents.image_ids)
    assert read_run(study.runs / "pair").environment["processes"] == "2"
    with pytest.raises(SonoError, match="shared by 2 processes must continue with 2, not 1"):
        train(study, config, "pair", resume=True)


def test_too_few_shards_for_a_batch_say_so(streamed: TrainingConfig) -> None:
    shards = Shards.open(Path(str(streamed.shards)))
    with pytest.raises(SonoError, match=r"24 pairs in 6 shards.*batch of 32; lower batch_size"):
        StreamPlan(shards, streamed.model_copy(update={"batch_size": 32}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_size": 64}, "image_size is 32, 64 is needed"),
        ({"mask_states": ("proposed",)}, "mask_states is accepted, edited, proposed is needed"),
        ({"shards": "nowhere"}, r"nowhere: contains no shards.*sono export shards"),
    ],
)
def test_shards_of_other_settings_are_refused(
    study: Workspace, streamed: TrainingConfig, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(SonoError, match=told):
        train(study, streamed.model_copy(update=changes), "none")


def test_shards_of_another_split_or_study_are_refused(study: Workspace, tmp_path: Path) -> None:
    export_shards(study, tmp_path / "val", SMALL, split="val", pairs_per_shard=4)
    with pytest.raises(SonoError, match="its split is val, train is needed"):
        train(
            study,
            SMALL.model_copy(update={"shards": str(tmp_path / "val"), "batch_size": 2}),
            "none",
        )
    index = tmp_path / "val" / "index.json"
    known = json.loads(index.read_text())
    known["source"] |= {"split": "train", "key_check": "0" * 16}
    index.write_text(json.dumps(known))
    with pytest.raises(SonoError, match="of another study, whose patients cannot be distinguished"):
        train(
            study,
            SMALL.model_copy(update={"shards": str(tmp_path / "val"), "batch_size": 2}),
            "none",
        )


def test_validation_frames_of_patients_in_the_shards_are_refused(
    own_study: Workspace, streamed: TrainingConfig
) -> None:
    images = own_study.images()
    images["split"] = pd.array(
        ["val" if split == "train" else split for split in images["split"]], "string"
    )
    own_study.write(IMAGES, images)
    with pytest.raises(
        SonoError, match="24 of the 32 validation frames are of patients or near duplicates"
    ):
        train(own_study, streamed, "none")


def known_source(study: Workspace, private: list[str]) -> None:
    source = {"path": b"/raw/a.png", "root": b"/raw", "settings_hash": "x", "private": private}
    columns = ["source_id", "frame", "status", "image_id", "patient_id", "study_id"]
    rows = [row | source for row in rows_of(study.read(IMAGES, columns))]
    write_table(study.sources_path, from_rows(SOURCES, rows), SOURCES)


def test_the_gate_reads_what_is_written_and_takes_no_mask_for_an_id(
    own_study: Workspace, tmp_path: Path
) -> None:
    wide = SMALL.model_copy(update={"image_size": 256})
    export_shards(own_study, tmp_path / "first", wide)
    runs = [
        int(run)
        for _, one in read_shard(Shards.open(tmp_path / "first"), 0)
        for run in one.regions[0].runs
    ]
    assert max(runs) > 9999  # as an id of five digits
    known_source(own_study, [str(max(runs))])
    assert export_shards(own_study, tmp_path / "second", wide).private_strings > 0
    captions = own_study.captions()
    captions["text"] = captions["text"].str.replace("femur", "femur of Jane Doeworth")
    own_study.write(CAPTIONS, captions)
    known_source(own_study, ["DOEWORTH^JANE"])
    with pytest.raises(PrivacyError, match=r"000000\.tar"):
        export_shards(own_study, tmp_path / "third", SMALL)


def test_the_command_writes_and_the_setting_reads(own_study: Workspace, tmp_path: Path) -> None:
    with own_study.config_path.open("a") as settings:
        settings.write(
            '\n[training]\nmodel = "tiny"\ntext = "clip"\nepochs = 1\nbatch_size = 4\nshards = '
            '"../out"\n'
        )
    words = [
        "export",
        "shards",
        str(tmp_path / "out"),
        "--pairs",
        "8",
        "-w",
        str(own_study.root),
        "--json",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) | {"megabytes": 0} == {
        "shards": 3,
        "pairs": 24,
        "regions": 24,
        "image_size": 32,
        "patients": 6,
        "megabytes": 0,
        "private_strings": 1,
    }
    done = CliRunner().invoke(
        app, ["train", "--name", "from-shards", "-w", str(own_study.root), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["train_frames"] == 24
    assert recorded_config(own_study, "from-shards").shards == "../out"
