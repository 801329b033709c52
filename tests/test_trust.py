"""Every command against a workspace that somebody has changed: foreign tables, paths out of it, pipes, a full disk."""

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from clip_files import TINY

import sono.cli
from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.curation import storage
from sono.curation.engine import Engine
from sono.curation.qc import QcOptions, run_qc
from sono.curation.tables import IMAGES, MASKS, rows_of
from sono.curation.workspace import Workspace
from sono.training import architectures

LIMIT = 60  # seconds; a command that waits for a pipe never ends
ALL_TABLES = ("images.parquet", "masks.parquet", "captions.parquet")
SETTINGS = """
[training]
model = "tiny"
text = "clip"
image_size = 32
epochs = 1
batch_size = 4
[evaluation]
bootstrap_draws = 100
modes = ["all_one"]
"""


class Outcome(NamedTuple):
    """Exit code and stderr of a command that ran in this process."""

    code: int
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; an exception or more than LIMIT seconds fail the test."""

    def too_long(*_: object) -> None:
        pytest.fail(f"still running after {LIMIT} seconds")

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["sono", *map(str, words)])
        capfd.readouterr()
        before = signal.signal(signal.SIGALRM, too_long)
        signal.alarm(LIMIT)
        try:
            sono.cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return Outcome(code, capfd.readouterr().err)

    return call


def fan(seed: int) -> bytes:
    y, x = np.mgrid[:300, :400]
    inside = (np.abs(np.arctan2(x - 200, y + 20)) < 0.6) & (np.hypot(x - 200, y + 20) < 300)
    speckle = np.random.default_rng(seed).rayleigh(40, (300, 400)).clip(0, 255)
    return cv2.imencode(".png", (speckle * inside).astype(np.uint8))[1].tobytes()


def make_study(base: Path, seed: int) -> Workspace:
    """Six patients of two frames each, through `sono qc`; masks, captions."""
    raw, study = base / "raw", Workspace.create(base / "study")
    raw.mkdir()
    lines = ["image,patient,plane,hospital"]
    for number in range(12):
        (raw / f"{number}.png").write_bytes(fan(seed + number))
        lines.append(f"{number}.png,P{number // 2},{('femur', 'eye')[number % 2]},A")
    (base / "records.csv").write_text("\n".join(lines) + "\n")
    study.config_path.write_text(study.config_path.read_text() + 'planes_file = "planes.toml"\n' + SETTINGS)
    (study.root / "planes.toml").write_text('[femur]\naliases = ["thigh bone"]\n')
    run_qc(study, QcOptions(raw, base / "records.csv", center="A"), Engine(jobs=1))
    images = study.images()
    order = {name: number for number, name in enumerate(sorted(images["patient_id"].unique()))}
    splits = ("train", "train", "train", "val", "test", "test")
    study.write(IMAGES, images.assign(split=images["patient_id"].map(lambda name: splits[order[name]])))
    masks = []
    for row in rows_of(study.accepted_images()):
        if row["plane"] == "femur":
            square = np.zeros((row["height"], row["width"]), np.bool_)
            square[60:120, 80:160] = True
            masks.append(mask_row(row, square, "femur", "manual", state="accepted"))
    study.write(MASKS, mask_table(masks))
    build_captions(study)
    return study


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A study with a run."""
    architectures.SIZES["tiny"] = TINY
    study = make_study(tmp_path_factory.mktemp("whole"), 0)
    from sono.training.recipe import training_config
    from sono.training.train import train

    train(study, training_config(study, None, {}), "toy")
    yield study
    del architectures.SIZES["tiny"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Another study with other frames."""
    return make_study(tmp_path_factory.mktemp("other"), 500)


@pytest.fixture
def study(whole: Workspace, tmp_path: Path) -> Workspace:
    """A copy that the test may change."""
    shutil.copytree(whole.root, tmp_path / "study")
    shutil.copytree(whole.vault, tmp_path / "study.vault")
    return Workspace(tmp_path / "study")


def words_of(command: str, study: Workspace) -> list[object]:
    """The command line; OUT is a new folder."""
    out = study.root.parent / "out"
    return [out if word == "OUT" else word for word in command.split()] + ["-w", study.root]


# Every command that reads a workspace, and what it reads of it: tables, settings, frames, runs, and of the vault.
READS: dict[str, tuple[str, ...]] = {
    "stats": ("sono.toml", "planes.toml", *ALL_TABLES),
    "split": ("sono.toml", "images.parquet", ".lock"),
    "split --check": ("sono.toml", "images.parquet"),
    "dedup": ("sono.toml", "images.parquet"),
    "captions build": ("sono.toml", "planes.toml", "images.parquet", "masks.parquet", ".lock"),
    "masks export OUT": ("sono.toml", "images.parquet", "masks.parquet"),
    "masks overlays OUT --count 999": ("sono.toml", "images.parquet", "masks.parquet", "frame"),
    "quarantine show": ("sono.toml", "images.parquet", "../study.vault/sources.parquet"),
    "quarantine release a --reviewer KM": ("images.parquet", "../study.vault/sources.parquet", ".lock"),
    "export dicom OUT": ("sono.toml", "images.parquet", "frame", "../study.vault/key"),
    "export shards OUT": ("sono.toml", "planes.toml", *ALL_TABLES, "frame"),
    "train": ("sono.toml", "planes.toml", *ALL_TABLES, "frame"),
    "train --name toy --resume": ("runs/toy/run.json", "runs/toy/last/model.json", "runs/toy/last/optimizer.pt"),
    "train --init toy": ("runs/toy/run.json", "runs/toy/end/model.safetensors", "runs/toy/end/model.json"),
    "eval --jobs 1": ("runs/toy/run.json", "runs/toy/summary.json", *ALL_TABLES),
    "model export OUT --run toy --format sonoclip": ("runs/toy/run.json", "runs/toy/end/model.json"),
}  # fmt: skip


def place_of(study: Workspace, name: str) -> Path:
    if name == "frame":
        shutil.rmtree(study.root / "packed", ignore_errors=True)
        accepted = study.accepted_images()
        accepted = accepted[accepted["image_id"].isin(study.masks()["image_id"])]
        return study.root / str(accepted.loc[accepted["split"] == "train", "file"].iloc[0])
    if name.startswith("runs/toy/end"):
        shutil.rmtree(study.root / "runs" / "toy" / "best", ignore_errors=True)
    return study.root / name


def one_line(outcome: Outcome) -> bool:
    lines = outcome.err.strip().splitlines()
    return bool(lines) and lines[-1].startswith("sono: ") and "Traceback" not in outcome.err


@pytest.mark.parametrize(("command", "name"), [(command, name) for command in READS for name in READS[command]])
def test_a_pipe_in_place_of_a_file_is_refused(study: Workspace, run: Run, command: str, name: str) -> None:
    place = place_of(study, name)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    outcome = run(*words_of(command, study))
    assert (outcome.code, one_line(outcome)) == (1, True), outcome
    assert not (study.root.parent / "out").exists()


TABLE_READERS = [command for command in READS if "images.parquet" in READS[command]]


@pytest.mark.parametrize("command", TABLE_READERS)
def test_another_studys_table_is_refused(study: Workspace, other: Workspace, run: Run, command: str) -> None:
    shutil.copy(other.path(IMAGES), study.path(IMAGES))
    outcome = run(*words_of(command, study))
    assert (outcome.code, one_line(outcome)) == (1, True), outcome
    assert "a table of another study" in outcome.err or "the vault that belongs to this study" in outcome.err


@pytest.mark.parametrize("command", TABLE_READERS)
@pytest.mark.parametrize("place", ["quarantine", "absolute", "above", "link", "linked folder"])
def test_a_frame_outside_of_the_workspace_is_not_read(study: Workspace, run: Run, command: str, place: str) -> None:
    images = pq.read_table(study.path(IMAGES))
    files = images["file"].to_pylist()
    row = next(number for number, file in enumerate(files) if file)
    held = study.quarantine / "ab" / "held.png"
    held.parent.mkdir(parents=True, exist_ok=True)
    held.write_bytes((study.root / files[row]).read_bytes())
    given = {"quarantine": "../study.vault/quarantine/ab/held.png", "absolute": "/etc/passwd"}
    if place == "link":
        (study.root / files[row]).unlink()
        (study.root / files[row]).symlink_to(held)
    elif place == "linked folder":
        (study.frames / "zz").symlink_to(held.parent)
    else:
        files[row] = given.get(place, "frames/../../study.vault/key")
        column = images.schema.get_field_index("file")
        pq.write_table(images.set_column(column, images.schema.field(column), pa.array(files)), study.path(IMAGES))
    outcome = run(*words_of(command, study))
    assert (outcome.code, one_line(outcome)) == (1, True), outcome
    told = "leads out of" if "link" in place else f"images.parquet: row {row + 1}: column 'file' has"
    assert told in outcome.err
    assert not (study.root.parent / "out").exists()


# Commands that make a folder or file of several parts.
MAKERS = {
    "export dicom OUT": ("out", 1, 5),
    "export shards OUT --pairs 2": ("out", 1, 3),
    "model export OUT --run toy --format sonoclip": ("out", 1, 2),
    "eval --jobs 1": ("study/runs/toy/eval/test", 2, 3),
    "init OUT": ("out/sono.toml", 1, 2),
    "phantom OUT --women 4 --frames 2": ("out", 1, 3),
}


def full_disk_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the write of file `number` fail, as on a full disk."""
    done, sync = [0], storage._sync

    def failing(path: Path) -> None:
        done[0] += path.is_file()
        if done[0] >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(path)

    monkeypatch.setattr(storage, "_sync", failing)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def maker_words(command: str, study: Workspace) -> list[object]:
    words = words_of(command, study)
    return words[:-2] if command.startswith(("phantom", "init")) else words


@pytest.fixture
def published_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small model pass for one of the published form."""
    monkeypatch.setattr("sono.training.export._not_published", lambda model: "")


@pytest.mark.usefixtures("published_heads")
@pytest.mark.parametrize(("command", "at"), [(command, at) for command in MAKERS for at in MAKERS[command][1:]])
def test_a_full_disk_leaves_the_old_or_nothing_and_the_same_command_then_does_it(
    study: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, at: int
) -> None:
    target = study.root.parent / MAKERS[command][0]
    if target.is_relative_to(study.root):
        assert run(*maker_words(command, study)).code == 0
        (target / "notes.txt").write_text("mine")
        (study.config_path).write_text(study.config_path.read_text().replace("draws = 100", "draws = 101"))
    before = state(target) if target.exists() else None
    with monkeypatch.context() as patch:
        full_disk_at(patch, at)
        outcome = run(*maker_words(command, study))
    assert (outcome.code, one_line(outcome)) == (1, True), outcome
    assert (state(target) if target.exists() else None) == before
    assert not list(study.root.parent.rglob(".tmp-*"))
    again = run(*maker_words(command, study))
    assert again.code == 0, again
    if before:
        assert state(target)["metrics.json"] != before["metrics.json"]
        assert state(target)["notes.txt"] == b"mine"


def killed_at(number: int, words: list[object]) -> int:
    """How a child process ends that runs the command and kills itself, as by SIGKILL, after `number` whole files."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    done, sync = [0], storage._sync

    def killing(path: Path) -> None:
        done[0] += path.is_file()
        if done[0] > number:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    storage._sync = killing
    torch.set_num_threads(1)
    signal.alarm(LIMIT)
    sys.argv = ["sono", *map(str, words)]
    with contextlib.suppress(BaseException):
        sono.cli.main()
    os._exit(1)


@pytest.mark.usefixtures("published_heads")
@pytest.mark.parametrize("command", list(MAKERS))
def test_a_killed_command_leaves_nothing_under_the_final_name_and_can_be_repeated(
    study: Workspace, run: Run, command: str
) -> None:
    target = study.root.parent / MAKERS[command][0]
    words = maker_words(command, study)
    assert killed_at(MAKERS[command][1], words) == signal.SIGKILL
    assert list(study.root.parent.rglob(".tmp-*"))
    assert not target.exists()
    again = run(*words)
    assert again.code == 0, again
    assert target.exists() and not list(study.root.parent.rglob(".tmp-*"))


@pytest.mark.parametrize("command", ["export dicom OUT", "export shards OUT"])
def test_a_vault_that_cannot_be_written_does_not_spoil_an_export(
    study: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    unlink = Path.unlink

    def read_only(path: Path, missing_ok: bool = False) -> None:
        if path.parent == study.vault:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", read_only)
    outcome = run(*words_of(command, study))
    assert outcome.code == 0, outcome
    assert (study.root.parent / "out").is_dir()


def test_an_evaluation_says_that_the_best_checkpoint_is_gone(study: Workspace, run: Run) -> None:
    notes = []
    for _ in range(2):
        assert run("eval", "--jobs", 1, "-w", study.root).code == 0
        metrics = json.loads((study.runs / "toy" / "eval" / "test" / "metrics.json").read_text())
        notes.append((metrics["checkpoint"], [note for note in metrics["notes"] if "is gone" in note]))
        shutil.rmtree(study.runs / "toy" / "best", ignore_errors=True)
    assert notes[0] == ("best", [])
    assert notes[1] == ("end", ["the best checkpoint (epoch 1) is gone: these are the scores of end"])
