"""The mask-channel CLIP: any open_clip architecture with gray or RGB frames and a mask.

At the start the mask has no effect.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Self

import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from sono.curation.core.errors import SonoError
from sono.training.model.architectures import ModelConfig, architecture_of, side_of
from sono.training.model.attention import use_fast_attention
from sono.training.model.region_pool import RegionPool, pooled_blocks
from sono.training.model.text_towers import (
    build_towers,
    give_bias,
    padding_token,
    stored_text,
    text_body,
    text_features,
    text_head,
    without_padding,
)

MASK_MEAN, MASK_STD = 0.5, 0.26  # Alpha-CLIP's scaling of a 0/1 mask


class MaskStem(nn.Module):
    """depthwise(image conv(frame) + mask conv(mask)): SonoCLIP's stem (arXiv 2606.29586).

    At the start the mask conv is zero and the depthwise conv the identity, so any finite mask gives
    bit-equal features.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, conv: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
        """Filters of `conv`, which has three input channels.

        `mean` and `std` [channels] are those of the frames.
        """
        super().__init__()
        channels = len(mean)
        self.image = _conv_with_channels(conv, channels, bias=conv.bias is not None)
        self.mask = _conv_with_channels(conv, 1, bias=False)
        self.depthwise = nn.Conv2d(
            conv.out_channels, conv.out_channels, 3, padding=1, groups=conv.out_channels, bias=False
        )
        self.register_buffer("gain", 1 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        with torch.no_grad():
            # A gray frame has R = G = B with one set of statistics, so the RGB filters act as
            # their sum.
            self.image.weight.copy_(
                conv.weight if channels == 3 else conv.weight.sum(dim=1, keepdim=True)
            )
            if conv.bias is not None and self.image.bias is not None:
                self.image.bias.copy_(conv.bias)
            self.mask.weight.zero_()
            nn.init.dirac_(self.depthwise.weight, groups=conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, width, s, s] of `x` [n, c + 1, S, S]: the frame and its normalized mask.

        A frame with as many channels as the filters is normalized; a gray frame for filters of
        three channels is in [0, 1].
        """
        frame, mask = x[:, :-1], x[:, -1:]
        seen = (
            self.image(frame) if frame.shape[1] == self.image.in_channels else self._folded(frame)
        )
        features: Tensor = self.depthwise(seen + self.mask(mask))
        return features

    def _folded(self, gray: Tensor) -> Tensor:
        """The RGB filters with mean and std folded into one channel.

        Zero padding would be the mean color, which no gray has, so the contribution of the means is
        computed from a channel of ones that is padded with zeros too.
        """
        weight = self.image.weight
        folded = torch.stack(
            [torch.einsum("ochw,c->ohw", weight, by) for by in (self.gain, self.shift)], dim=1
        )
        features: Tensor = functional_call(
            self.image, {"weight": folded}, torch.cat([gray, torch.ones_like(gray)], dim=1)
        )
        return features


class MaskClip(nn.Module):
    """An image tower with a frame and a mask as input, and a text tower, into one space.

    Features of both are [n, embed_dim].
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        config: ModelConfig,
        text_folder: Path | None = None,
        prepare_vision: Callable[[nn.Module], None] | None = None,
    ) -> None:
        """A new model.

        `text_folder` is where a checkpoint keeps its BERT. `prepare_vision` may load weights into
        the vision tower while its first conv still has three channels.
        """
        super().__init__()
        architecture = architecture_of(config)
        if text_folder is not None:
            architecture = stored_text(architecture, text_folder)
        self.config = config
        self.image_size = side_of(architecture)
        self.context_length = int(architecture["text_cfg"]["context_length"])
        self.towers, self.tokenizer = build_towers(architecture)
        if config.text_bias:
            give_bias(self.towers.text)
        _fit_size(self.towers.visual, self.image_size)
        if prepare_vision is not None:
            prepare_vision(self.towers.visual)
        del self.towers.logit_scale  # replaced by ours, next to the bias
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))
        self.logit_bias = nn.Parameter(torch.tensor(config.logit_bias))
        self.register_buffer("pixel_mean", _statistic(config.pixel_mean, config.channels))
        self.register_buffer("pixel_std", _statistic(config.pixel_std, config.channels))
        self.stem_name = _put_stem(
            self.towers.visual, self.pixel_mean.flatten(), self.pixel_std.flatten()
        )
        blocks = pooled_blocks(self.towers.visual) if config.region_pool else {}
        self.region_pool = (
            RegionPool(self.towers.visual, blocks, int(architecture["embed_dim"]))
            if blocks
            else None
        )
        use_fast_attention(self.towers.visual)
        self.to(memory_format=torch.channels_last)
        self.adapted = False  # by sono.training.model.lora
        self._captions: dict[str, Tensor] = {}  # of a frozen text tower
        nn.Module.register_load_state_dict_post_hook(
            self, lambda module, _: module.forget_captions()
        )

    @staticmethod
    def side_of(config: ModelConfig) -> int:
        """The side in pixels of the square input of a model of `config`."""
        return side_of(architecture_of(config))

    @property
    def stem(self) -> MaskStem:
        """The input layer of frame and mask."""
        stem = self.towers.visual.get_submodule(self.stem_name)
        assert isinstance(stem, MaskStem)
        return stem

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        """Features [n, d], not normalized, of frames under masks.

        Frames are [n, 1 or 3, S, S] in [0, 1], masks [n, 1, S, S] in {0, 1}.
        """
        # an adapted matrix is used several times in a pass, but computed once
        with parametrize.cached() if self.adapted else nullcontext():
            features: Tensor = self.towers.visual(self.stem_input(image, mask))
        return features if self.region_pool is None else features + self.region_pool(mask)

    def mask_weights(self) -> list[Tensor]:
        """The weights that read the mask: filters of the stem, and the pooling under the mask."""
        return [self.stem.mask.weight, *(self.region_pool.parameters() if self.region_pool else ())]

    def stem_input(self, image: Tensor, mask: Tensor) -> Tensor:
        """The input [n, c + 1, S, S] of the stem: frames in [0, 1] and masks in {0, 1}."""
        channels = self.config.channels
        if image.shape[1] not in (1, channels):
            raise SonoError(
                f"frames have {image.shape[1]} channels, the model expects {channels}; give gray "
                "frames"
            )
        if image.shape[1] == channels:
            image = (image - self.pixel_mean) / self.pixel_std
        x = torch.cat([image, (mask - MASK_MEAN) / MASK_STD], dim=1)
        # convolutions on a CPU are a third faster with channels last
        return x.contiguous(memory_format=torch.channels_last)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features [n, d], not normalized, of token ids [n, length], at most the context."""
        return text_features(self.towers.text, tokens)

    def tokenize(self, texts: list[str]) -> Tensor:
        """Token ids [n, context_length]; a text that is too long is truncated."""
        tokens: Tensor = self.tokenizer(texts)
        return tokens

    def count_truncated(self, texts: Sequence[str]) -> int:
        """How many texts fill the complete context, so that the rest of them is not read."""
        padding = padding_token(self.tokenizer)
        parts = (
            self.tokenize(list(texts[start : start + 256])) for start in range(0, len(texts), 256)
        )
        return sum(int((tokens[:, -1] != padding).sum()) for tokens in parts)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Features [n, d], not normalized, of texts, computed without padding."""
        return self.encode_text(self.tokens(texts))

    def encode_captions(self, texts: list[str]) -> Tensor:
        """Features [n, d] of texts for training.

        The frozen part of the text tower is computed once for each text.
        """
        head, weights = text_head(self.towers.text)
        learning = {id(weight) for weight in self.towers.text.parameters() if weight.requires_grad}
        if learning - set(map(id, weights)):
            return self.encode_texts(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._captions]
        # the kept tensors are used in later backward passes, so they must not be inference tensors
        with torch.inference_mode(False), torch.no_grad():
            # One text at a time: the last bits of a row depend on the rows and the padding of its
            # batch, and a resumed run does not meet the texts in the same batches.
            for text in new:
                self._captions[text] = text_body(self.towers.text, self.tokens([text])).float()[0]
        return head(torch.stack([self._captions[text] for text in texts]))

    def forget_captions(self) -> None:
        """Drop the features kept by `encode_captions`, after the text tower has changed."""
        self._captions.clear()

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids [n, length] on the device of the model, as long as the longest text."""
        return without_padding(self.towers.text, self.tokenize(texts)).to(self.logit_scale.device)

    def train(self, mode: bool = True) -> Self:
        """Training mode only for modules with trained weights.

        Frozen modules neither use dropout nor update their statistics.
        """
        super().train(mode)
        if all(weight.requires_grad for weight in self.towers.parameters()):
            return self
        for module in self.towers.modules():
            weights = list(module.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                module.eval()
        return self


def _statistic(value: float | tuple[float, ...], channels: int) -> Tensor:
    """A scalar for one channel, [3, 1, 1] for three."""
    return (
        torch.tensor(value)
        if channels == 1
        else torch.tensor(value).expand(3)[:, None, None].clone()
    )


def _conv_with_channels(conv: nn.Conv2d, channels: int, bias: bool) -> nn.Conv2d:
    """A conv of the same class and geometry with other input channels.

    timm's SAME padding is a subclass.
    """
    same = copy.deepcopy(conv)
    same.in_channels = channels
    same.weight = nn.Parameter(torch.empty(conv.out_channels, channels, *conv.kernel_size))
    if not bias:
        same.bias = None
    return same


def _fit_size(visual: nn.Module, side: int) -> None:
    """Set the image size of a timm tower, which open_clip does not do."""
    if isinstance(visual, TimmModel) and visual.trunk.default_cfg["input_size"][-1] != side:
        visual.set_input_size(side)


def _put_stem(visual: nn.Module, mean: Tensor, std: Tensor) -> str:
    """Replace the convolution on three channels by a MaskStem; returns its name."""
    first = [
        (name, module)
        for name, module in visual.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == 3
    ]
    if len(first) != 1:
        raise SonoError(
            f"{type(visual).__name__} has {len(first)} convolutions on three channels, the mask "
            "stem needs exactly one; choose another model"
        )
    visual.set_submodule(first[0][0], MaskStem(first[0][1], mean, std))
    return str(first[0][0])
