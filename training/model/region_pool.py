"""Average inner features of a vision tower under the mask, without effect at the start."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer as TimmTransformer
from torch import Tensor, nn

# at 96 pixels later features have 3 x 3 cells, and most structures less than one
POOLED_STRIDES = (4, 8, 16)
WIDTH = 128  # of what is pooled of each block
PLACE, PLACE_WIDTH = 5, 32  # numbers of `place_of`, and of what is made of them


class RegionPool(nn.Module):
    """The addition of a mask to the image feature; zero at the start.

    Inner features of the tower are averaged under the mask, which represents even small structures,
    and combined with the place of the mask, which an average does not contain. Hooks store the
    features of the pass.
    """

    def __init__(self, visual: nn.Module, channels: Mapping[str, int], embed_dim: int) -> None:
        """`channels` by the name of each block of `visual` that is pooled."""
        super().__init__()
        self.views = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in channels.values())
        self.place = nn.Linear(PLACE, PLACE_WIDTH)
        self.head = nn.Linear(WIDTH * len(channels) + PLACE_WIDTH, embed_dim, bias=False)
        nn.init.zeros_(self.head.weight)
        self._seen: list[Tensor | None] = [None] * len(channels)
        for number, name in enumerate(channels):
            visual.get_submodule(name).register_forward_hook(partial(self._keep, number))

    def _keep(self, number: int, block: nn.Module, given: object, features: Tensor) -> None:
        self._seen[number] = features

    def forward(self, mask: Tensor) -> Tensor:
        """The addition [n, embed_dim] for masks [n, 1, S, S].

        The tower must have processed their frames before.
        """
        pooled = []
        for number, view in enumerate(self.views):
            features, self._seen[number] = self._seen[number], None
            assert features is not None, "the tower goes first"
            pooled.append(masked_mean(F.relu(view(as_map(features))), mask))
        pooled.append(F.relu(self.place(place_of(mask))))
        added: Tensor = self.head(torch.cat(pooled, dim=1))
        return added

    def by_cell(self, mask: Tensor, direction: Tensor) -> list[Tensor]:
        """What each cell of each block adds to the product with `direction`, as maps [n, h, w].

        The place of the mask is left out. The tower must have processed the frames before.
        """
        weights = direction @ self.head.weight
        maps = []
        for number, view in enumerate(self.views):
            features, self._seen[number] = self._seen[number], None
            assert features is not None, "the tower goes first"
            seen = F.relu(view(as_map(features)))
            share = F.adaptive_avg_pool2d(mask, (seen.shape[-2], seen.shape[-1]))
            share = share / share.sum((2, 3), keepdim=True).clamp_min(1e-6)
            part = weights[number * WIDTH : (number + 1) * WIDTH]
            maps.append(torch.einsum("nchw,c->nhw", seen * share, part))
        return maps


def as_map(features: Tensor) -> Tensor:
    """Features as a map [n, c, h, w].

    Tokens [n, prefix + h * h, c] of a transformer are reshaped without the prefix.
    """
    if features.ndim == 4:
        return features
    side = int(features.shape[1] ** 0.5)
    tokens: Tensor = features[:, -side * side :].mT.unflatten(2, (side, side))
    return tokens


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """The mean [n, c] of features [n, c, h, w] under a mask [n, 1, S, S].

    Each cell has the weight of its masked share. An empty mask gives zeros.
    """
    share = F.adaptive_avg_pool2d(mask, (features.shape[-2], features.shape[-1]))
    total = share.sum((2, 3)).clamp_min(1e-6)
    return (features * share).sum((2, 3)) / total


def place_of(mask: Tensor) -> Tensor:
    """Place and size of each mask [n, 1, S, S] as [n, 5].

    Center (x, y), spread (x, y), root of its share. The side is 4 long, from -2 to 2. An empty mask
    gives zeros.
    """
    side = mask.shape[-1]
    line = torch.linspace(-2, 2, side, device=mask.device, dtype=mask.dtype)
    # shares of each column and of each row [n, S]
    along = mask.mean(2).squeeze(1), mask.mean(3).squeeze(1)
    share = along[0].mean(1, keepdim=True)
    centers = [(line * each).mean(1, keepdim=True) / share.clamp_min(1e-6) for each in along]
    spreads = [
        ((line - center).square() * each).mean(1, keepdim=True) / share.clamp_min(1e-6)
        for each, center in zip(along, centers, strict=True)
    ]
    return torch.cat([*centers, *(spread.sqrt() for spread in spreads), 2 * share.sqrt()], dim=1)


def pooled_blocks(visual: nn.Module) -> dict[str, int]:
    """Which blocks of a tower are pooled, with their channels; empty for other kinds of towers.

    For convolutions (EfficientNet, ResNet) the stages of strides 4, 8 and 16; for a vision
    transformer three blocks: after a third, after two thirds, and the one before the last, since
    the last may give only one token.
    """
    if isinstance(visual, VisionTransformer):
        width = int(visual.class_embedding.shape[-1])
        return _three(
            [
                f"transformer.resblocks.{number}"
                for number in range(len(visual.transformer.resblocks))
            ],
            width,
        )
    trunk = visual.trunk if isinstance(visual, TimmModel) else None
    if isinstance(trunk, TimmTransformer):
        return _three(
            [f"trunk.blocks.{number}" for number in range(len(trunk.blocks))], trunk.embed_dim
        )
    if isinstance(trunk, EfficientNet | ResNet):
        stages: Any = [info for info in trunk.feature_info if info["reduction"] in POOLED_STRIDES]
        return {f"trunk.{info['module']}": int(info["num_chs"]) for info in stages}
    return {}


def _three(blocks: Sequence[str], width: int) -> dict[str, int]:
    count = len(blocks)
    return dict.fromkeys(
        (blocks[max(number, 0)] for number in (count // 3 - 1, 2 * count // 3 - 1, count - 2)),
        width,
    )
