"""What the processes of one run tell each other; alone, everything stays as it is."""

import torch
import torch.distributed as dist
from torch import Tensor


def process_count() -> int:
    """Processes of the run, 1 where none were started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


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
