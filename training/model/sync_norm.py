"""Batch normalization over the frames of all processes, also on a CPU."""

from types import MethodType

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sono.training.runtime.distributed import all_gather, get_world_size


def share_norms(model: nn.Module) -> None:
    """Let every batch normalization of `model` use the frames of all processes.

    The names of weights stay the same.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            # of this module alone
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(norm: _BatchNorm, frames: Tensor) -> Tensor:
    """Normalize [n, c, h, w] in training by the mean and variance over all processes.

    In evaluation, or with one process, as the module does. Every process must have the same number
    of frames.
    """
    if not norm.training or get_world_size() == 1:
        plain: Tensor = type(norm).forward(norm, frames)
        return plain
    values = frames.float()
    mean = all_gather(values.mean((0, 2, 3))[None]).mean(0)
    centered = values - mean[:, None, None]
    variance = all_gather(centered.square().mean((0, 2, 3))[None]).mean(0)
    _keep_statistics(norm, mean, variance, frames.numel() // frames.shape[1] * get_world_size())
    features = centered * torch.rsqrt(variance + norm.eps)[:, None, None]
    features = (features * norm.weight[:, None, None] + norm.bias[:, None, None]).to(frames.dtype)
    # timm's norm comes with an activation
    return norm.act(norm.drop(features)) if isinstance(norm, BatchNormAct2d) else features


@torch.no_grad()
def _keep_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.momentum is None:
        return
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * count / max(count - 1, 1), norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
