"""CLIP with a mask channel as published code writes it, in torch alone: what `training.py` here measures against.

RGB frames, the text tower in every step, and attention whose softmax is written out; `fused` takes torch's own
attention instead. The names of the weights are open_clip's, so that both models may hold the same.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """A vision transformer (side and patch in pixels) and its text transformer."""

    side: int
    patch: int
    width: int
    layers: int
    heads: int
    embed_dim: int
    text_width: int
    text_heads: int
    text_layers: int = 12
    context: int = 77
    vocabulary: int = 49408
    quick: bool = False  # OpenAI's approximate GELU

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.side // self.patch) ** 2 + 1

    def image_flops(self) -> float:
        """Floating-point operations of one frame forward, by matrix products alone."""
        dense = 24 * self.width**2 * self.tokens  # of attention's four matrices and the two of the MLP
        mixing = 4 * self.tokens**2 * self.width
        return self.layers * (dense + mixing) + 2 * 2 * self.patch**2 * self.width * (self.tokens - 1)


BASE = Size(224, 16, 768, 12, 12, 512, 512, 8)
LARGE = Size(336, 14, 1024, 24, 16, 768, 768, 12, quick=True)


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """[n, tokens, width] to the same; `hidden` [tokens, tokens] is added to the logits."""
        count, tokens, width = x.shape
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(count, tokens, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
        else:
            logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
            logits = logits if hidden is None else logits + hidden
            mixed = logits.softmax(dim=-1) @ value
        return self.out_proj(mixed.transpose(1, 2).reshape(count, tokens, width))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, fused: bool, quick: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, fused)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.quick = quick

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), hidden)
        inner = self.mlp["c_fc"](self.ln_2(x))
        inner = inner * torch.sigmoid(1.702 * inner) if self.quick else F.gelu(inner)
        return x + self.mlp["c_proj"](inner)


def _blocks(width: int, layers: int, heads: int, fused: bool, quick: bool) -> nn.ModuleDict:
    return nn.ModuleDict({"resblocks": nn.ModuleList(Block(width, heads, fused, quick) for _ in range(layers))})


class Vision(nn.Module):
    """A frame and its mask to features."""

    def __init__(self, size: Size, fused: bool, channels: int) -> None:
        super().__init__()
        width, patch = size.width, size.patch
        self.stem = nn.ModuleDict(
            {
                "image": nn.Conv2d(channels, width, patch, patch, bias=False),
                "mask": nn.Conv2d(1, width, patch, patch, bias=False),
                "depthwise": nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            }
        )
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(size.tokens, width) * width**-0.5)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _blocks(width, size.layers, size.heads, fused, size.quick)
        self.proj = nn.Parameter(torch.randn(width, size.embed_dim) * width**-0.5)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        seen = self.stem["depthwise"](self.stem["image"](image) + self.stem["mask"](mask))
        patches = seen.flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype))
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class Text(nn.Module):
    """Tokens to features; the last word is the token of the highest number."""

    hidden: Tensor

    def __init__(self, size: Size, fused: bool) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(size.vocabulary, size.text_width)
        self.positional_embedding = nn.Parameter(torch.randn(size.context, size.text_width) * 0.01)
        self.transformer = _blocks(size.text_width, size.text_layers, size.text_heads, fused, size.quick)
        self.ln_final = nn.LayerNorm(size.text_width)
        self.text_projection = nn.Parameter(torch.randn(size.text_width, size.embed_dim) * size.text_width**-0.5)
        hidden = torch.full((size.context, size.context), float("-inf")).triu(1)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer["resblocks"]:
            x = block(x, self.hidden)
        return self.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection


class PlainClip(nn.Module):
    """Both towers, the scale and the bias."""

    def __init__(self, size: Size, fused: bool = False, channels: int = 3) -> None:
        super().__init__()
        self.visual = Vision(size, fused, channels)
        self.text = Text(size, fused)
        self.logit_scale = nn.Parameter(torch.tensor(2.302585092994046))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        """Unit features [n, d] of normalised frames [n, c, S, S] and masks [n, 1, S, S]."""
        return F.normalize(self.visual(image, mask).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit features [n, d]."""
        return F.normalize(self.text(tokens).float(), dim=-1)


def plain_loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The sigmoid loss with all logits at once, as published."""
    logits = scale.exp() * image @ text.T + bias
    signs = 2 * torch.eye(len(image), device=image.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(image)
