"""Pool inner features of a convolutional tower under the mask, without effect at the start."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

POOLED_STRIDES = (4, 8, 16)  # at 96 pixels later features have 3 x 3 cells, and most structures less than one
WIDTH = 128  # of what is pooled at each stride
PLACE, PLACE_WIDTH = 5, 32  # numbers of `place_of`, and of what is made of them


class PooledStages(nn.Sequential):
    """The stages of a trunk, whose features after some are averaged under the mask.

    `mask` [n, 1, S, S] is set for each pass, and `pooled` [n, width] is what it leaves: features under the mask, and
    its place, which an average over the frame does not keep.
    """

    def __init__(self, stages: nn.Sequential, channels: Mapping[int, int]) -> None:
        """`channels` by the number of each stage that is pooled."""
        super().__init__(*stages)
        self.views = nn.ModuleDict({str(stage): nn.Conv2d(width, WIDTH, 1) for stage, width in channels.items()})
        self.place = nn.Linear(PLACE, PLACE_WIDTH)
        self.mask: Tensor | None = None
        self.pooled: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        pooled = []
        for name, stage in self.named_children():
            if name in ("views", "place"):
                continue
            features = stage(features)
            if name in self.views and self.mask is not None:
                pooled.append(masked_mean(F.relu(self.views[name](features)), self.mask))
        if self.mask is not None:
            pooled.append(F.relu(self.place(place_of(self.mask))))
            self.pooled = torch.cat(pooled, dim=1)
        return features

    @property
    def width(self) -> int:
        """The number of pooled features of a frame."""
        return WIDTH * len(self.views) + PLACE_WIDTH


class RegionHead(nn.Linear):
    """From pooled features to what is added to the image feature; zero at the start."""

    def __init__(self, stages: PooledStages, embed_dim: int) -> None:
        super().__init__(stages.width, embed_dim, bias=False)
        nn.init.zeros_(self.weight)


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """The mean [n, c] of features [n, c, h, w], weighted by the share of each cell under the mask [n, 1, S, S].

    An empty mask gives zeros.
    """
    share = F.adaptive_avg_pool2d(mask, (features.shape[-2], features.shape[-1]))
    total = share.sum((2, 3)).clamp_min(1e-6)
    return (features * share).sum((2, 3)) / total


def place_of(mask: Tensor) -> Tensor:
    """Where each mask [n, 1, S, S] lies and how large it is [n, 5]: center (x, y), spread (x, y), root of its share.

    A side is 4 long, from -2 to 2. An empty mask gives zeros.
    """
    side = mask.shape[-1]
    line = torch.linspace(-2, 2, side, device=mask.device, dtype=mask.dtype)
    along = mask.mean(2).squeeze(1), mask.mean(3).squeeze(1)  # shares of each column and of each row [n, S]
    share = along[0].mean(1, keepdim=True)
    centers = [(line * each).mean(1, keepdim=True) / share.clamp_min(1e-6) for each in along]
    spreads = [
        ((line - center).square() * each).mean(1, keepdim=True) / share.clamp_min(1e-6)
        for each, center in zip(along, centers, strict=True)
    ]
    return torch.cat([*centers, *(spread.sqrt() for spread in spreads), 2 * share.sqrt()], dim=1)


def pool_stages(visual: nn.Module) -> PooledStages | None:
    """Pool a timm EfficientNet at strides 4, 8 and 16; None where the tower is another."""
    trunk = visual.trunk if isinstance(visual, TimmModel) else None
    if not isinstance(trunk, EfficientNet):
        return None
    ends = [info for info in trunk.feature_info if info["reduction"] in POOLED_STRIDES]
    channels = {int(info["module"].removeprefix("blocks.")): int(info["num_chs"]) for info in ends}
    trunk.blocks = PooledStages(trunk.blocks, channels)
    return trunk.blocks
