"""Augmentation of a batch on tensors: one affine map for frame and mask, then gain, gamma and speckle for the frame."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sono.training.config import AugmentConfig


def augment(
    image: Tensor, mask: Tensor, may_flip: Tensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change frames [n, 1, S, S] in [0, 1] and masks [n, 1, S, S] in {0, 1}; a mask of ones stays one everywhere."""
    theta = _affine(len(image), may_flip & config.flip, config, generator)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, align_corners=False)
    moved_mask = (F.grid_sample(mask, grid, align_corners=False) >= 0.5).to(mask.dtype)
    whole = mask.flatten(1).all(dim=1)
    moved_mask = torch.where(whole[:, None, None, None], torch.ones_like(mask), moved_mask)
    return _photometry(moved, config, generator), moved_mask


def _uniform(count: int, half_width: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator) * 2 - 1) * half_width


def _affine(count: int, flip: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Random maps [n, 2, 3] from target to source, in the units of affine_grid (-1 to 1 across the side)."""
    angle = _uniform(count, math.radians(config.rotation_degrees), generator)
    zoom = 1 / (1 + _uniform(count, config.scale, generator))
    shift = torch.stack([_uniform(count, 2 * config.shift, generator) for _ in range(2)], dim=1)
    mirror = torch.where(flip & (torch.rand(count, generator=generator) < 0.5), -1.0, 1.0)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    linear = torch.stack([torch.stack([cosine * mirror, -sine], 1), torch.stack([sine * mirror, cosine], 1)], 1)
    return torch.cat([linear, shift[:, :, None]], dim=2)


def _photometry(image: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    gain = 1 + _column(_uniform(len(image), config.gain, generator))
    gamma = 1 + _column(_uniform(len(image), config.gamma, generator))
    if config.blur:
        share = _column(torch.rand(len(image), generator=generator) * config.blur)
        image = torch.lerp(image, F.avg_pool2d(image, 3, 1, 1, count_include_pad=False), share)
    noise = torch.randn(image.shape, generator=generator)
    if config.grain:
        coarse = F.interpolate(
            torch.randn(noise[..., ::2, ::2].shape, generator=generator), noise.shape[-2:], mode="bilinear"
        )
        noise = torch.lerp(noise, coarse * 1.5, _column(torch.rand(len(image), generator=generator) * config.grain))
    return (image.clamp(1e-4, 1) ** gamma * gain * (1 + config.speckle * noise)).clamp(0, 1)


def _column(values: Tensor) -> Tensor:
    """One value a frame [n] as [n, 1, 1, 1]."""
    return values[:, None, None, None]
