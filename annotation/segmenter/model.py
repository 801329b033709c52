"""A U-Net over EfficientNet-Lite0: a probability per pixel for each structure."""

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sono.annotation.weights.image_weights import PIXEL_MEAN, PIXEL_STD, load_imagenet

TRUNK = "tf_efficientnet_lite0"
STAGES = (0, 1, 2, 4, 6)  # blocks whose maps are used: strides 2, 4, 8, 16, 32
CHANNELS = (16, 24, 40, 112, 320)  # of these maps
WIDTHS = (32, 48, 64, 96)  # of the decoder's maps at strides 2, 4, 8, 16


class Segmenter(nn.Module):
    """Logits [n, structures, S, S] of frames [n, 1, S, S] with tones 0 to 1; S is divisible by 32.

    Structures are independent, so they may overlap.
    """

    def __init__(self, structures: int) -> None:
        """Weights are random until `start_from_imagenet` or `load_state_dict`."""
        super().__init__()
        self.trunk: Any = timm.create_model(TRUNK, num_classes=0)
        self.ups = nn.ModuleList(
            _Up(deep, skip, width)
            for deep, skip, width in zip(
                (*WIDTHS[1:], CHANNELS[-1]), CHANNELS[:-1], WIDTHS, strict=True
            )
        )
        self.head = nn.Conv2d(WIDTHS[0], structures, 1)

    def start_from_imagenet(self) -> None:
        """Load the ImageNet weights of the extra `pretrained`; raises SonoError without it."""
        load_imagenet(self.trunk, "lite0")

    def forward(self, frames: Tensor) -> Tensor:
        """Logits at the size of the frames."""
        maps = self._maps((frames.expand(-1, 3, -1, -1) - PIXEL_MEAN) / PIXEL_STD)
        found = maps.pop()
        for up, skip in zip(reversed(self.ups), reversed(maps), strict=True):
            found = up(found, skip)
        logits: Tensor = self.head(found)
        return F.interpolate(logits, size=frames.shape[-2:], mode="bilinear", align_corners=False)

    def _maps(self, colors: Tensor) -> list[Tensor]:
        features = self.trunk.bn1(self.trunk.conv_stem(colors))
        maps = []
        for number, block in enumerate(self.trunk.blocks):
            features = block(features)
            if number in STAGES:
                maps.append(features)
        return maps


class _Up(nn.Module):
    """Enlarge the deeper map, join the skipped one, and mix both."""

    def __init__(self, deep: int, skip: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(deep + skip, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        larger = F.interpolate(deep, size=skip.shape[-2:], mode="nearest")
        mixed: Tensor = self.mix(torch.cat([larger, skip], dim=1))
        return mixed
