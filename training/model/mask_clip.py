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
    """SonoCLIP's stem: depthwise(image conv(frame) + mask conv(mask)) (arXiv 2606.29586).

    At the start the mask conv is zero and the depthwise conv is the identity, so every finite mask
    gives bit-equal features.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, conv: nn.Conv2d, mean: Tensor, std: Tensor) -> None:
        """Build the stem from `conv`, a convolution with three input channels.

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

        The frame must be normalized if it has as many channels as the filters. A gray frame for
        filters of three channels must be in [0, 1].
        """
        frame, mask = x[:, :-1], x[:, -1:]
        image = (
            self.image(frame)
            if frame.shape[1] == self.image.in_channels
            else self._gray_features(frame)
        )
        features: Tensor = self.depthwise(image + self.mask(mask))
        return features

    def _gray_features(self, gray: Tensor) -> Tensor:
        """Features of a gray frame by the RGB filters, with mean and std folded into one channel.

        In a normalized RGB frame, zero padding is the mean color, which is not gray. Therefore the
        contribution of the means comes from a channel of ones, which is padded with zeros, too.
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
    """An image tower with frame and mask as input, and a text tower, with one feature space.

    The features of both towers are [n, embed_dim].
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        config: ModelConfig,
        text_folder: Path | None = None,
        prepare_vision: Callable[[nn.Module], None] | None = None,
    ) -> None:
        """Build a new model.

        `text_folder` is the folder of a checkpoint with its BERT. `prepare_vision` may load weights
        into the vision tower before the mask stem replaces its first convolution of three channels.
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
        del self.towers.logit_scale  # replaced by `self.logit_scale`
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))
        self.logit_bias = nn.Parameter(torch.tensor(config.logit_bias))
        self.register_buffer("pixel_mean", _per_channel(config.pixel_mean, config.channels))
        self.register_buffer("pixel_std", _per_channel(config.pixel_std, config.channels))
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
        self.adapted = False  # set by sono.training.model.lora
        self._captions: dict[str, Tensor] = {}  # features of the frozen part of the text tower
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
        # cached, because an adapted matrix is used several times in one pass
        with parametrize.cached() if self.adapted else nullcontext():
            features: Tensor = self.towers.visual(self.stem_input(image, mask))
        return features if self.region_pool is None else features + self.region_pool(mask)

    def mask_weights(self) -> list[Tensor]:
        """The weights applied to the mask: filters of the stem, and the pooling under the mask."""
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
        """Features [n, d], not normalized, of token ids [n, length <= context_length]."""
        return text_features(self.towers.text, tokens)

    def tokenize(self, texts: list[str]) -> Tensor:
        """Token ids [n, context_length]; a text that is too long is truncated."""
        tokens: Tensor = self.tokenizer(texts)
        return tokens

    def count_truncated(self, texts: Sequence[str]) -> int:
        """The number of texts that fill the complete context, so they may be truncated."""
        padding = padding_token(self.tokenizer)
        parts = (
            self.tokenize(list(texts[start : start + 256])) for start in range(0, len(texts), 256)
        )
        return sum(int((tokens[:, -1] != padding).sum()) for tokens in parts)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Features [n, d], not normalized, of texts, computed without padding."""
        return self.encode_text(self.tokens(texts))

    def encode_captions(self, texts: list[str]) -> Tensor:
        """Features [n, d], not normalized, of texts, with gradients for training.

        The frozen part of the text tower is computed only once for each text.
        """
        head, weights = text_head(self.towers.text)
        learning = {id(weight) for weight in self.towers.text.parameters() if weight.requires_grad}
        if learning - set(map(id, weights)):
            return self.encode_texts(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._captions]
        # the kept tensors are used in later backward passes, so they must not be inference tensors
        with torch.inference_mode(False), torch.no_grad():
            # One text at a time: the last bits of a row depend on the other rows and the padding of
            # its batch, and a resumed run computes the texts in other batches.
            for text in new:
                self._captions[text] = text_body(self.towers.text, self.tokens([text])).float()[0]
        return head(torch.stack([self._captions[text] for text in texts]))

    def forget_captions(self) -> None:
        """Drop the features cached by `encode_captions`; call it if the text tower has changed."""
        self._captions.clear()

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids [n, length] on the device of the model; length is that of the longest text."""
        return without_padding(self.towers.text, self.tokenize(texts)).to(self.logit_scale.device)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, in which frozen modules stay in evaluation mode.

        They neither use dropout nor update their statistics.
        """
        super().train(mode)
        if all(weight.requires_grad for weight in self.towers.parameters()):
            return self
        for module in self.towers.modules():
            weights = list(module.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                module.eval()
        return self


def _per_channel(value: float | tuple[float, ...], channels: int) -> Tensor:
    """A mean or deviation as a tensor: a scalar for one channel, [3, 1, 1] for three."""
    return (
        torch.tensor(value)
        if channels == 1
        else torch.tensor(value).expand(3)[:, None, None].clone()
    )


def _conv_with_channels(conv: nn.Conv2d, channels: int, bias: bool) -> nn.Conv2d:
    """A conv of the same class and geometry with another number of input channels.

    The class is kept, because timm implements SAME padding as a subclass.
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
    """Replace the only convolution of three channels by a MaskStem; returns its name."""
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
