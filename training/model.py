"""The mask-channel CLIP: any open_clip architecture, gray input, and a mask beside it that starts without effect."""

import copy
import math
from typing import Any

import open_clip
import torch
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn

from sono.curation.config import Config
from sono.curation.errors import SonoError, did_you_mean

MASK_MEAN, MASK_STD = 0.5, 0.26  # Alpha-CLIP's scaling of a 0/1 mask

# Our own sizes, in open_clip's words; every other name is looked up in open_clip itself.
SIZES: dict[str, dict[str, Any]] = {
    "nano": {
        "embed_dim": 128,
        "vision_cfg": {
            "timm_model_name": "resnet10t",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": 128,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
    },
}


class ModelConfig(Config):
    """What is needed to build the model again: stored in every checkpoint."""

    name: str = "nano"
    image_size: int | None = None  # pixels; None: the architecture's own
    pixel_mean: float = 0.2  # of gray values in [0, 1]
    pixel_std: float = 0.2
    logit_scale: float = math.log(10)  # of the logarithm, as SigLIP starts
    logit_bias: float = -10.0


class MaskStem(nn.Module):
    """depthwise(image conv(gray) + mask conv(mask)): SonoCLIP's stem (arXiv 2606.29586), with one gray channel.

    At the start the mask conv is zero and the depthwise conv the identity, so any finite mask gives bit-equal features.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.image = _like(conv, bias=conv.bias is not None)
        self.mask = _like(conv, bias=False)
        channels = conv.out_channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        with torch.no_grad():
            # R = G = B in a gray frame, so the RGB filters act as their sum
            self.image.weight.copy_(conv.weight.sum(dim=1, keepdim=True))
            if conv.bias is not None and self.image.bias is not None:
                self.image.bias.copy_(conv.bias)
            self.mask.weight.zero_()
            nn.init.dirac_(self.depthwise.weight, groups=channels)

    def forward(self, pair: Tensor) -> Tensor:
        """`pair` [n, 2, S, S]: gray and mask, both normalised."""
        gray, mask = pair[:, :1], pair[:, 1:]
        features: Tensor = self.depthwise(self.image(gray) + self.mask(mask))
        return features


class MaskClip(nn.Module):
    """An image tower that sees a frame and a mask, and a text tower, both into the same space [n, embed_dim]."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        architecture = architecture_of(config)
        self.config = config
        self.image_size = self.side_of(config)
        self.context_length = int(architecture["text_cfg"].get("context_length", 77))
        self.towers = CustomTextCLIP(**architecture)
        _put_stem(self.towers.visual)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))
        self.logit_bias = nn.Parameter(torch.tensor(config.logit_bias))
        del self.towers.logit_scale  # ours, so that one place starts, learns and saves them
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean))
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std))
        self.to(memory_format=torch.channels_last)
        self._tokenizer = open_clip.SimpleTokenizer(context_length=self.context_length)

    @staticmethod
    def side_of(config: ModelConfig) -> int:
        """The side in pixels of the square that a model of `config` sees."""
        return int(architecture_of(config)["vision_cfg"]["image_size"])

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        """Features [n, d], not normalised, of frames [n, 1, S, S] in [0, 1] and masks [n, 1, S, S] in {0, 1}."""
        gray = (image - self.pixel_mean) / self.pixel_std
        pair = torch.cat([gray, (mask - MASK_MEAN) / MASK_STD], dim=1)
        # convolutions are a third faster on a CPU with the channels innermost
        features: Tensor = self.towers.visual(pair.contiguous(memory_format=torch.channels_last))
        return features

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features [n, d], not normalised, of token ids [n, length]."""
        features: Tensor = self.towers.text(tokens)
        return features

    def tokenize(self, texts: list[str]) -> Tensor:
        """Token ids [n, context_length]; a text that is too long is cut at its end."""
        tokens: Tensor = self._tokenizer(texts)
        return tokens


def architecture_of(config: ModelConfig) -> dict[str, Any]:
    """The keyword arguments of open_clip's CustomTextCLIP for a named size or any open_clip architecture."""
    known = SIZES.get(config.name) or open_clip.get_model_config(config.name)
    if known is None:
        raise SonoError(f"unknown model '{config.name}'{did_you_mean(config.name, [*SIZES, *open_clip.list_models()])}")
    if "hf_model_name" in known["text_cfg"]:
        raise SonoError(f"model '{config.name}' needs a Hugging Face text tower; choose one with a CLIP text tower")
    vision = dict(known["vision_cfg"])
    vision["timm_model_pretrained"] = False  # nothing is fetched from a network
    if config.image_size is not None:
        vision["image_size"] = config.image_size
    vision.setdefault("image_size", 224)
    names = ("embed_dim", "text_cfg", "quick_gelu")
    return {**{name: known[name] for name in names if name in known}, "vision_cfg": vision}


def _like(conv: nn.Conv2d, bias: bool) -> nn.Conv2d:
    """A conv of the same class and geometry with one input channel (timm's SAME padding is a subclass)."""
    same = copy.deepcopy(conv)
    same.in_channels = 1
    same.weight = nn.Parameter(torch.empty(conv.out_channels, 1, *conv.kernel_size))
    if not bias:
        same.bias = None
    return same


def _put_stem(visual: nn.Module) -> None:
    """Replace the first convolution on three channels by a MaskStem."""
    for name, module in visual.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            parent, _, child = name.rpartition(".")
            setattr(visual.get_submodule(parent), child, MaskStem(module))
            return
    raise SonoError(f"{type(visual).__name__} has no convolution on three channels to put the mask stem at")
