"""Contrastive objectives: pure functions of unit features, scale and bias."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_loss(image_features: Tensor, text_features: Tensor, scale: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """SigLIP's loss: -(1/n) sum_ij log sigmoid(y_ij (scale z_i.w_j + bias)), y = +1 where `targets`, else -1.

    Features [n, d] and [m, d] of unit length, targets [n, m] bool, scale = exp(logit_scale).
    Source: SigLIP, ICCV 2023.
    """
    logits = scale * image_features @ text_features.T + bias
    signs = targets.to(logits.dtype) * 2 - 1
    return -F.logsigmoid(signs * logits).sum() / len(image_features)


def identity_targets(size: int, device: torch.device | None = None) -> Tensor:
    """Only a pair's own caption is a positive: [n, n] bool."""
    return torch.eye(size, dtype=torch.bool, device=device)


def caption_targets(caption_ids: Tensor) -> Tensor:
    """Every equal caption is a positive: [n, n] bool from caption numbers [n]."""
    return caption_ids[:, None] == caption_ids[None, :]


def prior_bias(batch_size: int) -> float:
    """The bias at which one positive among `batch_size` candidates is expected: log(1 / (n - 1))."""
    return -math.log(max(batch_size - 1, 1))
