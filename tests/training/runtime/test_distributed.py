"""Two processes train as one does.

Run as a script by torchrun, this file is the command line with a tiny model.
"""

import csv
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from clip_files import TINY
from quick import mixed
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args
from torch.nn.parallel import DistributedDataParallel
from waiting import LIMIT, ended, wait_until

from sono.curation.core.config import override
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.training import train as train_module
from sono.training.config import TrainingConfig
from sono.training.model import architectures
from sono.training.model.checkpoints import load_model
from sono.training.model.sync_norm import share_norms
from sono.training.runs import resume
from sono.training.runtime.distributed import (
    all_gather_texts,
    broadcast,
    broadcast_call,
    get_rank,
    get_world_size,
    processes,
    single_process,
)
from sono.training.runtime.sharding import clip_shares, share_weights, whole
from sono.training.runtime.stop import Stop, stopping
from sono.training.step import Trainer
from sono.training.train import train

SETTINGS = mixed(model="tiny2", epochs=2, batch_size=12, validate_every=1, precision="float32")


def normalized(rows: slice, wrap: bool) -> dict[str, Tensor]:
    """Gradients and statistics of two norms over some of eight frames."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(8, 3, 4, 4, generator=generator) + 2
    layers = [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), BatchNormAct2d(3)]
    for weight in (weight for layer in layers for weight in layer.parameters()):
        nn.init.normal_(weight, generator=generator)
    model = nn.Sequential(*layers)
    share_norms(model)
    together = DistributedDataParallel(model) if wrap else model
    together(frames[rows]).pow(3).mean().backward()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return buffers | {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


class Scaled(nn.Module):
    """Two layers, of which one is a block, and a single number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1)).to(
            memory_format=torch.channels_last
        )
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(values) * self.scale

    def with_weights(self) -> None: ...


def clipped(rows: slice, shares: bool) -> dict[str, Tensor]:
    """Gradients over some of eight frames, clipped to a norm of 0.1, and that norm before."""
    model = Scaled()
    if shares:
        share_weights(model, [model.layers[0]])
    values = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    model(values[rows]).square().mean().backward()
    norm = (clip_shares if shares else nn.utils.clip_grad_norm_)(model.parameters(), 0.1)
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return whole(gradients) | {"norm": torch.tensor(float(norm))}


def fails() -> None:
    raise SonoError("the first process says no")


def typed(*words: object) -> object:
    """The exit code of a command line."""
    from sono.cli import main

    sys.argv = ["sono", *map(str, words)]
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@contextmanager
def asked_at(steps: int) -> Iterator[None]:
    """After so many steps, ask only the second process to stop, twice.

    torchrun and its user send one signal each.
    """
    step, done = Trainer.step, iter(range(steps))

    def ask(*given: Any) -> float:
        if next(done, None) is None and get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*given)

    Trainer.step = ask
    yield
    Trainer.step = step


def compare(out: Path) -> None:
    """Norms and gradients of two processes, as files, and an error that both get."""
    own = slice(4 * get_rank(), 4 * get_rank() + 4)
    found, gradients = normalized(own, wrap=True), clipped(own, shares=True)
    with single_process():
        assert get_world_size() == 1
    assert get_world_size() == 2
    assert broadcast_call(get_rank) == broadcast(get_rank()) == 0
    assert all_gather_texts([f"frame {get_rank()}"]) == ["frame 0", "frame 1"]
    with pytest.raises(SonoError, match="the first process says no"):
        broadcast_call(fails)
    if get_rank() == 0:
        torch.save(found, out)
        torch.save(gradients, out.with_name("gradients.pt"))


def one_of_two(study: Path, out: Path) -> None:
    """Compare norms, raise an error, and train by the command line in two processes.

    They meet over the port, which can be used once, then over files.
    """
    places, join = (
        count(),
        partial(dist.init_process_group, rank=int(os.environ["RANK"]), world_size=2),
    )
    dist.init_process_group = lambda backend: join(backend, init_method=f"file://{out}.meet")
    with processes():
        compare(out)
    dist.init_process_group = join.func
    # clocks differ: the second one's alone is due
    resume.SAVE_SECONDS = [math.inf, 0.0][int(os.environ["RANK"])]
    for name in ("two", "shares"):
        begin = ("train", "-w", study, "--recipe", out.with_name(f"{name}.toml"))
        assert typed(*begin, "--name", name) == 0
        dist.init_process_group = lambda backend: join(
            backend, init_method=f"file://{out}.{next(places)}"
        )
        with asked_at(1):
            assert typed(*begin, "--name", f"{name}-cut") == 130
        assert typed("train", "-w", study, "--name", f"{name}-cut", "--resume") == 0


def slowly(study: Path, recipe: Path, name: str) -> None:
    """Train by the command line and print a line in each step.

    No run ends before it is asked to stop.
    """
    step, asked = Trainer.step, []

    @contextmanager
    def noted() -> Iterator[Stop]:
        with stopping() as stop:
            asked.append(stop)
            yield stop

    def wait(*given: Any) -> float:
        sys.stdout.write("a step\n")
        sys.stdout.flush()
        wait_until(lambda: asked[0].asked)
        return step(*given)

    train_module.stopping, Trainer.step = noted, wait
    sys.exit(typed("train", "-w", study, "--recipe", recipe, "--name", name))


# as --standalone does
MEET = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", "two"]
PLACE = [*MEET, "--nproc-per-node", "2", "--local-addr", "127.0.0.1"]
LOCAL = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def torchrun(*words: object) -> subprocess.Popen[str]:
    """This file as a script on two processes."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *PLACE, __file__, *map(str, words)],
        env=os.environ | LOCAL | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def forking_torchrun(said: Path, *words: object) -> None:
    """Do what torchrun does with `slowly`, in two forks, which need not import everything again."""
    with said.open("w", buffering=1) as sys.stdout, warnings.catch_warnings(action="ignore"):
        sys.stderr = sys.stdout
        os.environ |= LOCAL
        config = config_from_args(parse_args([*PLACE, __file__]))[0]
        config.start_method = "fork"
        elastic_launch(config, slowly)(*words)


@pytest.fixture(scope="module")
def told(study: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of what two processes did, and what they printed."""
    folder = tmp_path_factory.mktemp("two")
    for name, config in (
        ("two", SETTINGS),
        ("shares", SETTINGS.model_copy(update={"strategy": "fsdp"})),
    ):
        changed = config.model_dump(exclude_defaults=True)
        lines = [f"{key} = {value!r}" for key, value in changed.items()]
        (folder / f"{name}.toml").write_text("\n".join(["[training]", *lines]))
    with torchrun(study.root, folder / "norms.pt") as running:
        out, error = ended(running)
    assert running.returncode == 0, error[-9000:]
    return folder, out


@pytest.fixture(scope="session")
def one(study: Workspace) -> Path:
    """The run of one process."""
    architectures.SIZES["tiny2"] = TINY
    return train(study, SETTINGS, "one").folder


def log(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [
        {name: float(value) for name, value in row.items() if value and name != "seconds"}
        for row in rows
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "shares"])
def test_two_processes_give_the_losses_of_one_with_the_double_batch(
    name: str, study: Workspace, one: Path, told: tuple[Path, str]
) -> None:
    assert len(log(one)) == 2
    for first, second in zip(log(one), log(study.runs / name), strict=True):
        assert second == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("name", ["two", "shares"])
def test_two_processes_save_a_whole_model_that_sees_as_the_one_of_one(
    name: str, study: Workspace, one: Path, told: tuple[Path, str]
) -> None:
    frames = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    first, second = (
        load_model(folder)[0].encode_image(frames, torch.ones_like(frames))
        for folder in (one, study.runs / name)
    )
    assert torch.allclose(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["two", "shares"])
def test_a_process_that_is_asked_to_stop_stops_both_and_the_run_goes_on_exactly(
    name: str, study: Workspace, told: tuple[Path, str]
) -> None:
    whole, cut = (
        load_file(study.runs / run / "last" / "model.safetensors") for run in (name, f"{name}-cut")
    )
    assert [weight for weight, value in whole.items() if not torch.equal(value, cut[weight])] == []
    assert log(study.runs / name) == log(study.runs / f"{name}-cut")


def test_what_weights_in_shares_cannot_do_is_refused() -> None:
    with pytest.raises(SonoError, match="strategy 'fsdp' cannot be combined with lora_rank"):
        override(TrainingConfig(), strategy="fsdp", lora_rank=4)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_stops_the_run_saved_and_one_process_can_go_on(
    number: int, study: Workspace, one: Path, told: tuple[Path, str], tmp_path: Path
) -> None:
    name, said = f"signal-{number}", tmp_path / "said"
    work = (said, study.root, told[0] / "two.toml", name)
    running = multiprocessing.get_context("fork").Process(target=forking_torchrun, args=work)
    running.start()
    assert running.pid is not None
    # the second line tells that both processes are learning
    wait_until(
        lambda: (
            not running.is_alive() or (said.exists() and said.read_text().count("a step\n") == 2)
        )
    )
    os.kill(running.pid, number)
    running.join(LIMIT)
    assert running.exitcode, "torchrun still runs, or did not see the signal"
    assert (
        f"saved after step 1 of 4; continue with `sono train --name {name} --resume`"
        in said.read_text()
    )
    resumed = train(study, SETTINGS, name, resume=True).folder
    for first, second in zip(log(one), log(resumed), strict=True):
        assert second == pytest.approx(first, rel=1e-5)


def test_one_process_writes_and_talks(study: Workspace, told: tuple[Path, str]) -> None:
    assert told[1].count("best epoch") == 4
    assert '"processes": "2"' in (study.runs / "two" / "run.json").read_text()
    assert len(list((study.runs / "two" / "tensorboard").iterdir())) == 1


def test_norms_see_the_frames_of_all_processes(told: tuple[Path, str]) -> None:
    found = torch.load(told[0] / "norms.pt", weights_only=True)
    whole = normalized(slice(0, 8), wrap=False)
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5), name


def test_gradients_in_shares_are_averaged_and_clipped_as_whole_ones(told: tuple[Path, str]) -> None:
    found = torch.load(told[0] / "gradients.pt", weights_only=True)
    single_process = clipped(slice(0, 8), shares=False)
    assert single_process["norm"] > 0.2
    assert found.keys() == single_process.keys()
    for name, value in single_process.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


if __name__ == "__main__":
    architectures.SIZES["tiny2"] = TINY
    one_of_two(Path(sys.argv[1]), Path(sys.argv[2]))
