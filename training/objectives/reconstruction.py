"""Masked-region modeling: predict a hidden region from the rest of the frame and the caption."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sono.training.runtime.distributed import all_gather, get_world_size

GRID = 16  # cells a side of the coarse picture that is guessed
WIDTH = 256


class RegionReconstruction(nn.Module):
    """Predicts the gray of every cell of a hole in a frame.

    The inputs are the features of the frame with the hole and of the region's caption.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.guess = nn.Sequential(
            nn.Linear(2 * width, WIDTH), nn.GELU(), nn.Linear(WIDTH, GRID * GRID)
        )

    def forward(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """A coarse picture [n, GRID, GRID] from features [n, d].

        It is in standard deviations of the hidden pixels' gray.
        """
        picture: Tensor = self.guess(torch.cat([image_features, text_features], dim=1))
        return picture.view(-1, GRID, GRID)


def with_hole(image: Tensor, mask: Tensor) -> Tensor:
    """Frames [n, 1, S, S] whose pixels under the mask are the mean of those outside it."""
    outside = 1 - mask
    mean = (image * outside).sum((1, 2, 3), keepdim=True) / outside.sum(
        (1, 2, 3), keepdim=True
    ).clamp_min(1)
    return torch.where(mask > 0, mean, image)


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalization unchanged meanwhile."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def hidden_cells(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean gray [n, GRID, GRID] of each cell's masked pixels, and the masked share of the cell."""
    share = F.adaptive_avg_pool2d(mask, GRID)
    mean = F.adaptive_avg_pool2d(image * mask, GRID) / share.clamp_min(1e-6)
    return mean[:, 0], share[:, 0]


def reconstruction_loss(guess: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the `guess` [n, GRID, GRID] over the masked cells.

    Each frame is scaled by the spread of its own cells. Frames whose mask is full or empty have
    nothing to predict and do not count; 0 if no other frame is left. A guess of 0 costs about 1.
    The mean over the processes is that of the global batch, even if its regions are spread
    unevenly.
    """
    whole = mask.flatten(1).all(1) | ~mask.flatten(1).any(1)
    wanted, share = hidden_cells(image, mask)
    weight = share / share.sum((1, 2), keepdim=True).clamp_min(1e-6)
    mean = (wanted * weight).sum((1, 2), keepdim=True)
    spread = ((wanted - mean).square() * weight).sum((1, 2), keepdim=True).add(1e-4).sqrt()
    error = ((guess - (wanted - mean) / spread).square() * weight).sum((1, 2))
    count = all_gather((~whole).sum()[None]).float().mean()
    return (error * ~whole).sum() / count.clamp_min(1 / get_world_size())
