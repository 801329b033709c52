"""The end of a run with several processes.

No process leaves a gloo thread behind or waits for a process that has died.
"""

import json
import multiprocessing
import os
import signal
from contextlib import suppress
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch.distributed as dist
from quick import quick
from waiting import LIMIT

from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.training.config import TrainingConfig
from sono.training.runtime.distributed import get_world_size, processes
from sono.training.step import Trainer
from sono.training.train import train

SHORT = quick(model="tiny", epochs=1, batch_size=12, precision="float32")


def started(work: partial[None], folder: Path) -> list[ForkProcess]:
    """Two processes that do `work(rank, folder)` as those of torchrun would."""
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=as_torchrun, args=(work, rank, folder)) for rank in range(2)]
    for process in both:
        process.start()
    return both


def as_torchrun(work: partial[None], rank: int, folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    join = dist.init_process_group
    names = iter("abc")
    dist.init_process_group = lambda backend: join(
        backend, init_method=f"file://{folder}/meet-{next(names)}", rank=rank, world_size=2
    )
    work(rank, folder)


def ends(both: list[ForkProcess]) -> list[int | None]:
    """The exit codes of all processes; one that does not end is killed."""
    for process in both:
        process.join(LIMIT)
        process.kill()
        process.join()
    return [process.exitcode for process in both]


def threads() -> list[str]:
    """Names of the threads of this process that are gloo's."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if "gloo" in name]


def fails(*_: object) -> float:
    assert threads()
    raise SonoError("no step today") from ArithmeticError("the loss became nan")


def train_twice(study: Workspace, config: TrainingConfig, rank: int, folder: Path) -> None:
    train(study, config, folder.name)
    after = threads()
    Trainer.step = fails
    with suppress(SonoError):
        train(study, config, f"{folder.name}-failed")
    (folder / f"{rank}.json").write_text(json.dumps([after, threads()]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list threads")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_no_thread_of_gloo_outlives_a_run(
    strategy: str, study: Workspace, tiny: str, tmp_path: Path
) -> None:
    config = SHORT.model_copy(update={"strategy": strategy})
    assert ends(started(partial(train_twice, study, config), tmp_path)) == [0, 0]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [
        [[], []]
    ] * 2


def train_until_the_second_dies(
    study: Workspace, config: TrainingConfig, rank: int, folder: Path
) -> None:
    step = Trainer.step
    if rank == 1:
        Trainer.step = lambda *given: step(*given) and os.kill(os.getpid(), signal.SIGKILL)
    train(study, config, folder.name)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_process_ends_with_an_error_where_another_has_died(
    strategy: str, study: Workspace, tiny: str, tmp_path: Path
) -> None:
    config = SHORT.model_copy(update={"strategy": strategy})
    assert ends(started(partial(train_until_the_second_dies, study, config), tmp_path)) == [
        1,
        -signal.SIGKILL,
    ]


def leave_late(rank: int, folder: Path) -> None:
    """The second process dies after the work, before the two part; the first has all it needs."""
    with processes():
        assert get_world_size() == 2
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_has_done_its_work_does_not_fail_with_another(tmp_path: Path) -> None:
    assert ends(started(partial(leave_late), tmp_path)) == [0, -signal.SIGKILL]
