"""Faster self-attention for training, and a last block that computes only the class token."""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn


class SelfAttention(nn.MultiheadAttention):
    """torch's MultiheadAttention without transposing [n, tokens, width] in training.

    In bfloat16 on a CPU it uses plain matrix products: the gradient of torch's fused kernel does
    not use the matrix units (AMX) of the processor and takes twice the time
    (`benchmarks/training.py`).
    """

    # the rest of its arguments by name
    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from queries [n, some, width] to keys and values [n, tokens, width].

        Returns [n, some, width], and None instead of the attention weights.
        """
        if key is value and self._is_plain(query, options):
            return self._mixed(query, key), None
        return super().forward(query, key, value, **options)

    def _is_plain(self, query: Tensor, options: dict[str, Any]) -> bool:
        asked = "need_weights" in options and all(
            given is None or given is False for given in options.values()
        )
        fits = (
            self.batch_first
            and self.in_proj_weight is not None
            and not self.dropout
            and query.ndim == 3
        )
        return asked and fits and self.training and torch.is_grad_enabled()

    def _mixed(self, asking: Tensor, tokens: Tensor) -> Tensor:
        """Attention of `asking` [n, some, width] over `tokens` [n, tokens, width].

        Returns [n, some, width].
        """
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if asking is tokens:
            query, key, value = self._projected(tokens, weight, bias)
        else:
            width = asking.shape[-1]
            (query,) = self._projected(asking, weight[:width], bias[:width])
            key, value = self._projected(tokens, weight[width:], bias[width:])
        if query.device.type == "cpu" and query.dtype == torch.bfloat16:
            mixed = _product_attention(query, key, value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(asking.shape))
        return result

    def _projected(self, tokens: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Queries, keys and values [n, heads, tokens, d], or those that the weights give."""
        count, length, width = tokens.shape
        packed = F.linear(tokens, weight, bias)
        # taken apart before they are turned, their gradients come together in one copy
        parts = packed.view(count, length, -1, self.num_heads, width // self.num_heads).unbind(2)
        return [part.transpose(1, 2) for part in parts]


class CLSOnlyBlock(ResidualAttentionBlock):  # type: ignore[misc]  # open_clip is untyped
    """The last block of a tower, computed only for its first token.

    The other tokens are only keys and values.
    """

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Tokens [n, tokens, width] to the first [n, 1, width]."""
        tokens = self.ln_1(q_x)
        first = q_x[:, :1] + self.ls_1(self.attention(tokens[:, :1], tokens, tokens, attn_mask))
        return first + self.ls_2(self.mlp(self.ln_2(first)))  # type: ignore[no-any-return]


def _product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of [n, heads, tokens, d]."""
    flat = [part.flatten(0, 1) for part in (query, key, value)]
    # autocast would make the softmax in float32 and copy it twice
    with torch.autocast("cpu", enabled=False):
        logits = torch.baddbmm(
            query.new_empty(()), flat[0], flat[1].mT, beta=0, alpha=query.shape[-1] ** -0.5
        )
        return (logits.softmax(-1) @ flat[2]).view(query.shape)


def use_fast_attention(tower: nn.Module) -> None:
    """Let the attention of a tower's blocks choose the faster way.

    Weights and their names stay the same.
    """
    for module in tower.modules():
        if type(module) is nn.MultiheadAttention:
            module.__class__ = SelfAttention
    if (
        isinstance(tower, VisionTransformer)
        and tower.attn_pool is None
        and tower.pool_type == "tok"
    ):
        *_, last = tower.transformer.resblocks
        if type(last) is ResidualAttentionBlock and not tower.output_tokens:
            last.__class__ = CLSOnlyBlock
