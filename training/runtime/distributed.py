"""What the processes of one run tell each other; alone, everything stays as it is."""

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

from sono.curation.core.console import talk
from sono.curation.core.errors import SonoError

Result = TypeVar("Result")
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that `torchrun` has started, of which the first one talks; a single one has nobody to join.

    Let a function of its own do the work: what its frame holds is freed before the processes part.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    talk.quiet = talk.quiet or not is_first()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        with suppress(RuntimeError):  # a process that has died is not waited for
            of_all([""])  # none leaves before all have what they need of it
    except BaseException as error:
        _free_frames(error)
        raise
    finally:
        _free_groups()
        dist.destroy_process_group()


def _free_frames(error: BaseException | None) -> None:
    """Free what the finished functions in the traceback of `error` hold: weights in shares hold their group."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _free_groups() -> None:
    """Drop every reference to the process group, which ends its threads when it is destroyed.

    A thread of gloo's that still runs at the exit of Python may abort the process. Learners are freed by the collector
    alone, and torch's caches keep the mesh of FSDP for good.
    """
    gc.collect()
    for mesh in [value for value in gc.get_objects() if type(value) is DeviceMesh]:
        getattr(mesh, "_pg_registry", {}).clear()


def is_first() -> bool:
    """Whether this is the process that talks and prints, also before and after they have joined."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def alone() -> Iterator[None]:
    """Meanwhile this process is by itself: it sees its own rows and nobody else's."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def process_count() -> int:
    """Processes of the run, 1 where none were started."""
    together = dist.is_available() and dist.is_initialized() and not _alone.get()
    return dist.get_world_size() if together else 1


def process_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


def from_first(work: Callable[[], Result]) -> Result:
    """What `work` gives on the first process, told to all; an error of ours or of the disk is raised everywhere."""
    if process_count() == 1:
        return work()
    told: list[Any] = [None]
    if process_rank() == 0:
        try:
            told[0] = work()
        except (SonoError, OSError) as error:
            told[0] = error
    dist.broadcast_object_list(told)
    if isinstance(told[0], (SonoError, OSError)):
        raise told[0]
    result: Result = told[0]
    return result


def of_first(value: Result) -> Result:
    """The value of the first process."""
    return from_first(lambda: value)


def of_all(values: Sequence[str]) -> list[str]:
    """The values of all processes, in the order of their ranks."""
    if process_count() == 1:
        return list(values)
    parts: list[Any] = [None] * process_count()
    dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


def mean_of(value: float, device: torch.device) -> float:
    """The mean of a number over all processes."""
    return value if process_count() == 1 else float(gather(torch.tensor([value], device=device)).mean())


def agreed(flags: list[bool], device: torch.device) -> list[bool]:
    """Whether any process says so, of each flag: all of them do the same thing at the same step."""
    if process_count() == 1:
        return flags
    return [bool(any_of) for any_of in gather(torch.tensor([flags], device=device).int()).sum(0)]


def gather(own: Tensor) -> Tensor:
    """The rows [n, ...] of all processes in the order of their ranks [processes * n, ...], with gradients.

    Every process must hold as many rows. A process gets the gradient of all losses with respect to its own rows, so
    that the mean of the parameters' gradients (as DDP takes it) is that of the mean loss.
    """
    if process_count() == 1:
        return own
    if not own.is_floating_point():
        return _all_rows(own)
    gathered: Tensor = _Gather.apply(own)
    return gathered


def _all_rows(own: Tensor) -> Tensor:
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(process_count())]
    dist.all_gather(parts, own.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(own: Tensor) -> Tensor:
        return _all_rows(own)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept: the gradient needs the ranks alone."""

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(process_count())[process_rank()]
