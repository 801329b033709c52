"""Weights in shards (FSDP): each process has a part, gathered when the full weights are needed."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from sono.training.runtime.distributed import get_rank, get_world_size


def share_weights(learner: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Shard the trained weights of `learner`, whose `blocks` are gathered one at a time.

    Frozen weights and scalars stay complete on every process.
    """
    stays = {
        weight for weight in learner.parameters() if not (weight.requires_grad and weight.ndim)
    }
    for weight in set(learner.parameters()) - stays:
        weight.data = weight.data.contiguous()  # shares cannot have the channels innermost
    for block in blocks:
        if not stays.issuperset(block.parameters()):
            fully_shard(block, ignored_params=stays)
    fully_shard(learner, ignored_params=stays)
    register_fsdp_forward_method(learner, "with_weights")


def whole(values: Any) -> Any:
    """The same tree of dicts with full tensors, on the first process.

    The other processes must call it, too, and get nothing.
    """
    if isinstance(values, dict):
        return {name: whole(value) for name, value in values.items()}
    if not isinstance(values, DTensor):
        return values
    full = values.full_tensor()
    return full.cpu() if get_rank() == 0 else None


def load_whole(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state of full tensors into a module that may be sharded.

    Names and shapes must match, as in `load_state_dict`.
    """
    own = module.state_dict()
    module.load_state_dict({name: _share(value, own.get(name)) for name, value in state.items()})


def finite(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights; raises ValueError if one of them has a value that is not finite."""
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"'{name}' is not finite")
    return weights


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Load the full AdamW state of each weight; the weights may be sharded.

    Raises ValueError if it does not fit.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    shares = {
        number: {
            name: _share(values[name], weights[number])
            for name in _fitting(values, weights[number])
        }
        for number, values in state.items()
    }
    optimizer.load_state_dict(
        {"state": shares, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _fitting(values: dict[str, Tensor], own: Tensor) -> dict[str, Tensor]:
    """The AdamW state for the weight `own`, checked: AdamW trusts its shapes."""
    for name, shape in {
        "step": torch.Size(),
        "exp_avg": own.shape,
        "exp_avg_sq": own.shape,
    }.items():
        has = values[name]
        if has.shape != shape or has.dtype != own.dtype:
            raise ValueError(
                f"{name} is {has.dtype} {list(has.shape)}, {own.dtype} {list(shape)} is needed"
            )
    return finite(values)


def _share(value: Tensor, own: Tensor | None) -> Tensor:
    """The shard of a full tensor on this process, if the tensor `own` is sharded."""
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    return distribute_tensor(
        value.to(own.device), own.device_mesh, own.placements, src_data_rank=None
    )


@torch.no_grad()
def clip_shares(weights: Iterable[Tensor], most: float) -> float:
    """Average the gradients of unsharded weights over the processes, then clip all gradients.

    Returns the norm before clipping.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    shares = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    numbers = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    for gradient in numbers:
        dist.all_reduce(gradient.div_(get_world_size()))
    squares = torch.stack([share.square().sum() for share in shares]).sum()
    dist.all_reduce(squares)
    norm = float((squares + sum(number.square().sum() for number in numbers)).sqrt())
    for gradient in [*shares, *numbers]:
        gradient.mul_(min(1.0, most / (norm + 1e-6)))
    return norm
