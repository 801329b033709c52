"""Collectives for distributed training; no-ops with a single process."""

import gc
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError

Result = TypeVar("Result")
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that `torchrun` has started; nothing to do for a single process.

    Only the main process prints. Call this from a function without locals of its own: what the
    frame of the caller holds must be freed before the process group is destroyed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    stderr_console.quiet = stderr_console.quiet or not is_main_process()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        with suppress(RuntimeError):  # a process that has died is not waited for
            all_gather_texts([""])  # none leaves before all have what they need of it
    except BaseException as error:
        _free_frames(error)
        raise
    finally:
        _free_groups()
        dist.destroy_process_group()


def _free_frames(error: BaseException | None) -> None:
    """Free the locals of the finished functions in the traceback of `error`.

    Sharded weights keep the process group alive.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _free_groups() -> None:
    """Drop every reference to the process group, so that its destruction ends its threads.

    A gloo thread that still runs at the exit of Python may abort the process. Learners are only
    freed by the garbage collector, and torch's caches keep the mesh of FSDP.
    """
    gc.collect()
    for mesh in [value for value in gc.get_objects() if type(value) is DeviceMesh]:
        getattr(mesh, "_pg_registry", {}).clear()


def is_main_process() -> bool:
    """Whether this is the process that prints, also outside of `processes`."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def single_process() -> Iterator[None]:
    """Let this process act as if it were the only one."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def get_world_size() -> int:
    """Processes of the run; 1 if none were started."""
    together = dist.is_available() and dist.is_initialized() and not _alone.get()
    return dist.get_world_size() if together else 1


def get_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if get_world_size() > 1 else 0


def broadcast_call(work: Callable[[], Result]) -> Result:
    """The result of `work` on the first process, sent to all.

    A SonoError or OSError is raised on all processes.
    """
    if get_world_size() == 1:
        return work()
    sent: list[Any] = [None]
    if get_rank() == 0:
        try:
            sent[0] = work()
        except (SonoError, OSError) as error:
            sent[0] = error
    dist.broadcast_object_list(sent)
    if isinstance(sent[0], (SonoError, OSError)):
        raise sent[0]
    result: Result = sent[0]
    return result


def broadcast(value: Result) -> Result:
    """The value of the first process, sent to all."""
    return broadcast_call(lambda: value)


def all_gather_texts(values: Sequence[str]) -> list[str]:
    """The values of all processes, in the order of their ranks."""
    if get_world_size() == 1:
        return list(values)
    parts: list[Any] = [None] * get_world_size()
    dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


def all_reduce_mean(value: float, device: torch.device) -> float:
    """The mean of a number over all processes."""
    return (
        value
        if get_world_size() == 1
        else float(all_gather(torch.tensor([value], device=device)).mean())
    )


def any_rank(flags: list[bool], device: torch.device) -> list[bool]:
    """Whether any process has set each flag, so that all take the same branch."""
    if get_world_size() == 1:
        return flags
    return [
        bool(any_of) for any_of in all_gather(torch.tensor([flags], device=device).int()).sum(0)
    ]


def all_gather(own: Tensor) -> Tensor:
    """The rows [n, ...] of all processes [processes * n, ...], with gradients.

    They are in the order of the ranks; every process must have the same number of rows. A process
    gets the gradient of all losses with respect to its own rows, so that the mean of the
    parameters' gradients (as in DDP) is that of the mean loss.
    """
    if get_world_size() == 1:
        return own
    if not own.is_floating_point():
        return _all_rows(own)
    gathered: Tensor = _Gather.apply(own)
    return gathered


def _all_rows(own: Tensor) -> Tensor:
    parts = [
        torch.empty_like(own, memory_format=torch.contiguous_format)
        for _ in range(get_world_size())
    ]
    dist.all_gather(parts, own.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(own: Tensor) -> Tensor:
        return _all_rows(own)

    @staticmethod
    def setup_context(
        ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor
    ) -> None:
        """Nothing is kept: the gradient needs the ranks alone."""

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(get_world_size())[get_rank()]
