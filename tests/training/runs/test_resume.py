"""A run that ends at any moment goes on to the weights and the log of a run that nothing ended."""

import csv
import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick import mixed
from safetensors.torch import load_file, save_file
from studies import copy_study

from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError, StoppedError
from sono.curation.core.tables import DUPLICATES, IMAGES, from_rows
from sono.curation.core.workspace import Workspace
from sono.training.model import checkpoints
from sono.training.runs import resume
from sono.training.runs.log import Log
from sono.training.runs.run_info import data_hash, recorded_config
from sono.training.step import Trainer
from sono.training.train import train

# 24 training frames: four steps an epoch
SMALL = mixed(model="tiny", epochs=3, batch_size=6, validate_every=1)
EVERYTHING = SMALL.model_copy(
    update={
        "epochs": 2, "objective": "softmax", "targets": "caption", "loss_chunk": 2,
        "semantic_weight": 0.5, "graph_gate": 0.1, "reconstruction_weight": 0.2,
        "global_fraction": 0.1, "regions_per_frame": 2, "curriculum": 0.5, "center_balance": 0.5,
        "patient_balance": 0.5, "accumulate": 2,
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every step."""
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVE_SHARE", 1e9)


@pytest.fixture(scope="session")
def whole(study: Workspace, tiny: str) -> Path:
    return train(study, SMALL, "unbroken").folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def log(folder: Path) -> list[dict[str, str]]:
    """The rows of the log without the time."""
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def same_run(one: Path, two: Path) -> None:
    for name in ("best", "end", "last"):
        first, second = weights(one / name), weights(two / name)
        assert first.keys() == second.keys()
        assert [key for key in first if not torch.equal(first[key], second[key])] == [], name
    assert log(one) == log(two)


def in_child(work: Callable[[], object]) -> int:
    """The signal that ended `work` in a process of its own, 0 for none."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("last", [0, 5, 8])
def test_a_run_killed_at_a_step_resumes_to_the_same_weights_and_log(
    last: int, study: Workspace, whole: Path
) -> None:
    name = f"killed-{last}"

    def work() -> None:
        step, done = Trainer.step, iter(range(last))
        Trainer.step = lambda *given: step(*given) if next(done, None) is not None else die()
        train(study, SMALL, name)

    assert in_child(work) == -signal.SIGKILL
    same_run(train(study, SMALL, name, resume=True).folder, whole)


@pytest.mark.slow
# a moment is a step that is done, or an epoch that is logged and kept as the best: fifteen in all
@pytest.mark.parametrize("seed", [2, 4])
def test_a_run_killed_at_random_moments_between_rare_saves_is_the_same_run(
    seed: int, study: Workspace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, save = f"random-{seed}", resume.Saver.save
    folder, ahead = study.runs / name, []
    monkeypatch.setattr(resume.Saver, "is_due", True)

    def rarely(kill: int) -> Callable[[resume.Saver, resume.State], None]:
        """Save after every third step, and die at the moment `kill`, before it is saved."""

        def work(saver: resume.Saver, state: resume.State) -> None:
            if state.step + state.epoch == kill:
                die()
            if state.step % 3 == 0:
                save(saver, state)

        return work

    for kill in sorted(
        np.random.default_rng(seed).choice(np.arange(1, 16), 3, replace=False).tolist()
    ):
        monkeypatch.setattr(resume.Saver, "save", rarely(kill))
        again = (folder / checkpoints.RUN).exists()
        assert in_child(partial(train, study, SMALL, name, again)) == -signal.SIGKILL
        state = folder / "last" / checkpoints.STATE
        logged = log(folder) if (folder / "log.csv").exists() else []
        ahead.append(len(logged) - (torch.load(state)["epoch"] if state.exists() else 0))
    assert max(ahead) == 1  # the log and best/ knew of an epoch that had to be done again
    monkeypatch.setattr(resume.Saver, "save", rarely(0))
    same_run(train(study, SMALL, name, resume=True).folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("change", [11, 12, 13, 14, 15])  # a save makes five changes on disk
def test_a_run_killed_while_it_saves_never_pairs_old_with_new(
    change: int, study: Workspace, whole: Path
) -> None:
    name = f"saving-{change}"

    def work() -> None:
        rename, seen = os.rename, iter(range(change))
        replace = os.replace
        os.rename = lambda *given, **more: (
            rename(*given, **more) if next(seen, None) is not None else die()
        )
        os.replace = lambda *given, **more: (
            replace(*given, **more) if next(seen, None) is not None else die()
        )
        train(study, SMALL, name)

    assert in_child(work) == -signal.SIGKILL
    same_run(train(study, SMALL, name, resume=True).folder, whole)


@pytest.mark.slow
def test_every_objective_averages_and_parts_resume_to_the_same_weights(
    study: Workspace, tiny: str
) -> None:
    def work() -> None:
        step, done = Trainer.step, iter(range(6))
        Trainer.step = lambda *given: step(*given) if next(done, None) is not None else die()
        train(study, EVERYTHING, "everything-cut")

    whole = train(study, EVERYTHING, "everything").folder
    assert in_child(work) == -signal.SIGKILL
    again = train(study, EVERYTHING, "everything-cut", resume=True).folder
    same_run(again, whole)
    heads = [load_file(folder / "last" / "heads.safetensors") for folder in (again, whole)]
    assert all(torch.equal(value, heads[1][name]) for name, value in heads[0].items())
    # where a gate of half of the most begins
    assert float(heads[0]["graph.opening"]) != pytest.approx(0.0, abs=1e-5)
    # a model needs no heads
    assert "heads.safetensors" not in {path.name for path in (whole / "end").iterdir()}


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(
    number: int, study: Workspace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, step, done = f"asked-{number}", Trainer.step, iter(range(5))

    def ask(*given: object) -> float:
        if next(done, None) is None:
            os.kill(os.getpid(), number)
        return step(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", ask)
        patch.setattr(resume, "SAVE_SECONDS", 1e6)
        with pytest.raises(
            StoppedError, match=f"saved after step 6 of 12; continue with `sono train --name {name}"
        ) as told:
            train(study, SMALL, name)
    assert told.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    same_run(train(study, SMALL, name, resume=True).folder, whole)


def test_a_full_disk_at_a_checkpoint_loses_nothing(
    study: Workspace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = resume.write_bytes, iter(range(5))

    def full(*given: object) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        write(*given)

    with (
        monkeypatch.context() as patch,
        pytest.raises(SonoError, match=r"No space left.*sono train --name full --r"),
    ):
        patch.setattr(resume, "write_bytes", full)
        train(study, SMALL, "full")
    assert (
        sorted(
            path.name for path in (whole.parent / "full").iterdir() if path.name.startswith(".tmp")
        )
        == []
    )
    same_run(train(study, SMALL, "full", resume=True).folder, whole)


def test_a_run_is_repeated_from_its_record(study: Workspace, whole: Path) -> None:
    same_run(train(study, recorded_config(study, "unbroken"), "repeated").folder, whole)


def test_a_record_that_names_a_folder_asks_for_its_place(study: Workspace, whole: Path) -> None:
    copy = Path(shutil.copytree(whole, whole.parent / "of-shards"))
    record = json.loads((copy / "run.json").read_text())
    record["config"]["shards"] = "packed-a"
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(
        SonoError, match=r"sono.toml: the run read shards 'packed-a' .*set shards under"
    ):
        recorded_config(study, "of-shards")


def test_weights_of_another_architecture_do_not_resume(
    study: Workspace, whole: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(whole, whole.parent / "other"))
    config = copy / "last" / "model.json"
    config.write_text(config.read_text().replace('"tiny"', '"nano"'))
    with pytest.raises(SonoError, match="do not fit model 'nano'"):
        train(study, SMALL, "other", resume=True)


def copied(whole: Path, name: str) -> Path:
    """A run of this name that has all but ended."""
    return Path(shutil.copytree(whole, whole.parent / name, ignore=shutil.ignore_patterns("end")))


def damage(saved: dict[str, Any], place: tuple[Any, ...], value: object) -> None:
    for key in place[:-1]:
        saved = saved[key]
    saved[place[-1]] = value


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (
            ("optimizer", "state", 0, "exp_avg"),
            torch.zeros(3),
            r"exp_avg is torch.float32 \[3\], .* is needed",
        ),
        (("optimizer", "state", 0, "exp_avg"), "x", "no attribute"),
        (("optimizer", "state", 0, "step"), torch.tensor(float("nan")), "'step' is not finite"),
        (("optimizer", "state"), [1], "no attribute 'items'"),
        (("epoch",), -5, "'epoch' is -5: input should be greater than or equal to 0"),
        (("epoch",), 4, "out of range"),
        (("step",), "two", "'step' is 'two': input should be a valid integer"),
        (("step",), 10**9, "step 1000000000 after 3 epochs and 0 steps"),
        (("losses",), "abc", "'losses' is 'abc': input should be a valid list"),
        (("losses",), [float("nan")], "'losses.0' is nan: input should be a finite number"),
        (("bogus",), 1, "'bogus' is 1: unexpected keyword"),
    ],
)
def test_a_state_that_cannot_be_is_one_line(
    place: tuple[Any, ...], value: object, told: str, study: Workspace, whole: Path, tmp_path: Path
) -> None:
    copy = copied(whole, f"unfit-{tmp_path.name}")
    saved = torch.load(copy / "last" / checkpoints.STATE)
    damage(saved, place, value)
    torch.save(saved, copy / "last" / checkpoints.STATE)
    with pytest.raises(
        SonoError,
        match=rf"damaged \(.*{told}.*\); start a new run .*`sono train --from {copy.name}`",
    ):
        train(study, SMALL, copy.name, resume=True)


def test_settings_of_the_optimizer_are_the_runs_own(study: Workspace, whole: Path) -> None:
    copy = copied(whole, "other-betas")
    saved = torch.load(copy / "last" / checkpoints.STATE)
    saved["optimizer"]["param_groups"][0]["betas"] = "x"
    torch.save(saved, copy / "last" / checkpoints.STATE)
    same_run(train(study, SMALL, "other-betas", resume=True).folder, whole)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pickle.dumps(os.system, 2), "not of torch, or more than tensors and numbers"),
        (b"", "cut short"),
    ],
)
def test_a_damaged_state_says_so(
    content: bytes, told: str, study: Workspace, whole: Path, tmp_path: Path
) -> None:
    copy = copied(whole, f"damaged-{tmp_path.name}")
    (copy / "last" / checkpoints.STATE).write_bytes(content)
    with pytest.raises(SonoError, match=rf"damaged \({told}\)"):
        train(study, SMALL, copy.name, resume=True)


def test_what_is_missing_is_named(study: Workspace, whole: Path) -> None:
    copy = copied(whole, "no-weights")
    (copy / "last" / "model.safetensors").unlink()
    with pytest.raises(SonoError, match=r"model\.safetensors is missing"):
        train(study, SMALL, "no-weights", resume=True)


def test_weights_that_are_no_numbers_name_their_run(study: Workspace, whole: Path) -> None:
    copy = copied(whole, "no-numbers")
    state = weights(copy / "best")
    state["logit_scale"] = torch.tensor(float("nan"))
    save_file(state, copy / "best" / "model.safetensors")
    with pytest.raises(
        SonoError, match=r"no-numbers/best: .*damaged \('logit_scale' is not finite\)"
    ):
        train(study, SMALL.model_copy(update={"init": "no-numbers", "model": "nano"}), "begun")


def test_a_log_and_a_best_checkpoint_that_are_gone_leave_no_false_lines(
    study: Workspace, whole: Path
) -> None:
    copy = Path(shutil.copytree(whole, whole.parent / "bereft"))
    (copy / "log.csv").unlink()
    shutil.rmtree(copy / "best")
    with stderr_console.capture() as told:
        summary = train(study, SMALL, "bereft", resume=True)
    assert "best/ is missing; the best of the remaining epochs is kept" in told.get()
    assert (summary.best_epoch, summary.best_score) == (None, None)
    Log(copy, 0).write({"epoch": 2, "step": 1})
    Log(copy, 2).write({"epoch": 2, "step": 2})
    Log(copy, 1).write({"epoch": 2, "step": 3})
    assert [line.split(",")[:2] for line in (copy / "log.csv").read_text().splitlines()[1:]] == [
        ["2", "3"]
    ]


def test_a_log_that_is_no_text_is_one_line(study: Workspace, whole: Path) -> None:
    (copied(whole, "no-text") / "log.csv").write_bytes(b"\xff\xfe\x00" * 40)
    with pytest.raises(SonoError, match=r"log\.csv: damaged .*delete it"):
        train(study, SMALL, "no-text", resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"config": None},
            r"run\.json: damaged \('config' is None: input should be a valid dictionary",
        ),
        ({"config": [1]}, r"run\.json: damaged \('config' is \[1\]"),
        (
            {"config": {"epochs": "x"}},
            r"run\.json: 'config\.epochs' is 'x': input should be a valid integer",
        ),
        ({"patients_seen": [1]}, r"run\.json: damaged \('patients_seen\.0' is 1"),
    ],
)
def test_a_damaged_record_is_one_line(
    change: dict[str, Any], told: str, study: Workspace, whole: Path, tmp_path: Path
) -> None:
    path = copied(whole, f"record-{tmp_path.name}") / checkpoints.RUN
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SonoError, match=told):
        recorded_config(study, path.parent.name)


def test_where_nothing_is_left_to_go_on_from_it_says_so(study: Workspace, whole: Path) -> None:
    ended = Path(
        shutil.copytree(whole, whole.parent / "ended", ignore=shutil.ignore_patterns("last"))
    )
    with pytest.raises(
        SonoError, match=r"ended: has ended, and last/ is missing; .*`sono train --from ended`"
    ):
        train(study, SMALL, "ended", resume=True)
    shutil.rmtree(ended / "end")
    with stderr_console.capture() as told:
        same_run(train(study, SMALL, "ended", resume=True).folder, whole)
    assert "starts again" in told.get()


def test_with_other_tables_a_run_does_not_go_on(
    study: Workspace, whole: Path, tmp_path: Path
) -> None:
    copy = copy_study(study, tmp_path)
    shutil.copytree(whole, copy.runs / whole.name)
    copy.write(DUPLICATES, from_rows(DUPLICATES, []))
    assert data_hash(copy, SMALL) == checkpoints.read_run(whole).data_hash
    images = copy.images()
    copy.write(
        IMAGES, images.assign(split=images["split"].replace({"test": "train", "train": "test"}))
    )
    with pytest.raises(
        SonoError,
        match=r"have changed since .*put the tables back, or .*`sono train --from unbroken`",
    ):
        train(copy, SMALL, "unbroken", resume=True)
    copy.write(IMAGES, images)
    train(copy, SMALL, "unbroken", resume=True)


def test_one_process_at_a_time_trains_a_run(study: Workspace, whole: Path) -> None:
    def work(folder: Path, resume: bool) -> None:
        with checkpoints.own_run(folder, resume):
            die()

    busy = pytest.raises(SonoError, match="another sono is using this run; wait for it to end")
    with checkpoints.own_run(whole, resume=True), busy:
        train(study, SMALL, "unbroken", resume=True)
    new = whole.parent / "at-once"
    with checkpoints.own_run(new, resume=False), busy:
        train(study, SMALL, "at-once")
    assert in_child(lambda: work(new, False)) == -signal.SIGKILL
    with checkpoints.own_run(new, resume=False):
        pass
