"""CLIP with a mask channel as in published code, in plain torch: the baseline of `training.py`.

RGB frames, the text tower in every step, attention with explicit softmax, AdamW tensor by tensor.
Architectures and the names of the weights are open_clip's, so that both models can have the same
weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """[n, tokens, width] to the same; `hidden` [tokens, tokens] is added to the logits."""
        count, tokens, width = x.shape
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(
            count, tokens, 3, self.heads, -1
        )
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        logits = logits if hidden is None else logits + hidden
        mixed = logits.softmax(dim=-1) @ value
        return self.out_proj(mixed.transpose(1, 2).reshape(count, tokens, width))


class Block(nn.Module):
    """Attention and MLP, each after a norm and with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), hidden)
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


def _blocks(width: int, layers: int, heads: int) -> nn.ModuleDict:
    return nn.ModuleDict({"resblocks": nn.ModuleList(Block(width, heads) for _ in range(layers))})


class Vision(nn.Module):
    """A frame and its mask to features."""

    def __init__(self, vision: dict[str, Any], embed_dim: int) -> None:
        super().__init__()
        width, patch = vision["width"], vision["patch_size"]
        tokens = (vision["image_size"] // patch) ** 2 + 1  # patches and the class token
        self.stem = nn.ModuleDict(
            {
                "image": nn.Conv2d(3, width, patch, patch, bias=False),
                "mask": nn.Conv2d(1, width, patch, patch, bias=False),
                "depthwise": nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            }
        )
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _blocks(width, vision["layers"], width // vision.get("head_width", 64))
        self.proj = nn.Parameter(torch.randn(width, embed_dim) * width**-0.5)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        seen = self.stem["depthwise"](self.stem["image"](image) + self.stem["mask"](mask))
        patches = seen.flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = self.ln_pre(
            torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        )
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class Text(nn.Module):
    """Tokens to features; the last word is the token of the highest number."""

    hidden: Tensor

    def __init__(self, text: dict[str, Any], embed_dim: int) -> None:
        super().__init__()
        width, context = text["width"], text["context_length"]
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(context, width) * 0.01)
        self.transformer = _blocks(width, text["layers"], text["heads"])
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed_dim) * width**-0.5)
        self.register_buffer(
            "hidden", torch.full((context, context), float("-inf")).triu(1), persistent=False
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer["resblocks"]:
            x = block(x, self.hidden)
        return self.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection


class PlainClip(nn.Module):
    """Both towers, the scale and the bias, of an architecture in open_clip's terms.

    The text tower is frozen.
    """

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.visual = Vision(architecture["vision_cfg"], architecture["embed_dim"])
        self.text = Text(architecture["text_cfg"], architecture["embed_dim"]).requires_grad_(False)
        self.logit_scale = nn.Parameter(torch.tensor(2.302585092994046))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        """Unit features [n, d] of normalized frames [n, 3, S, S] and masks [n, 1, S, S]."""
        return F.normalize(self.visual(image, mask).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit features [n, d]."""
        return F.normalize(self.text(tokens).float(), dim=-1)


def plain_loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The sigmoid loss with all logits at once, as published."""
    logits = scale.exp() * image @ text.T + bias
    signs = 2 * torch.eye(len(image), device=image.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(image)


def plain_optimizer(
    model: PlainClip, rate: float, decay: float, scale_rate: float
) -> torch.optim.Optimizer:
    """torch's AdamW for a `PlainClip`.

    Matrices have weight decay; scale and bias learn at `scale_rate` times the rate.
    """
    weights = list(model.visual.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": decay},
        {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
        {
            "params": [model.logit_scale, model.logit_bias],
            "weight_decay": 0.0,
            "lr": rate * scale_rate,
        },
    ]
    return torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))


def plain_step(
    model: PlainClip,
    optimizer: torch.optim.Optimizer,
    pairs: tuple[Tensor, Tensor, Tensor],
    precision: torch.dtype,
) -> float:
    """One step on normalized frames and masks and tokens, gradients clipped at 1.

    Returns the loss.
    """
    image, mask, tokens = pairs
    optimizer.zero_grad()
    with torch.autocast(image.device.type, precision, enabled=precision != torch.float32):
        features = model.encode_image(image, mask), model.encode_text(tokens)
    loss = plain_loss(*features, model.logit_scale, model.logit_bias)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())
