"""Self-attention that learns without the detours of torch's module: no turned copies, on a CPU the quicker way."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.MultiheadAttention):
    """As its parent; self-attention without a mask that learns keeps the order [n, tokens, width] throughout.

    In bfloat16 on a CPU it takes plain matrix products: the gradient of torch's fused kernel leaves the matrix units
    (AMX) of the processor idle and takes twice the time (`benchmarks/training.py`).
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]  # the rest of its arguments by name
        """Queries, keys and values [n, tokens, width] to the same, and no weights."""
        if query is key is value and self._is_plain(query, options):
            return self._mixed(query), None
        return super().forward(query, key, value, **options)

    def _is_plain(self, query: Tensor, options: dict[str, Any]) -> bool:
        asked = "need_weights" in options and all(given is None or given is False for given in options.values())
        fits = self.batch_first and self.in_proj_weight is not None and not self.dropout and query.ndim == 3
        return asked and fits and self.training and torch.is_grad_enabled()

    def _mixed(self, tokens: Tensor) -> Tensor:
        """[n, tokens, width] to the same."""
        count, length, width = tokens.shape
        packed = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        query, key, value = packed.view(count, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if query.device.type == "cpu" and query.dtype == torch.bfloat16:
            mixed = _product_attention(query, key, value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(count, length, width))
        return result


def _product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of [n, heads, tokens, d]."""
    flat = [part.flatten(0, 1) for part in (query, key, value)]
    # autocast would make the softmax in float32 and copy it twice
    with torch.autocast("cpu", enabled=False):
        logits = torch.baddbmm(query.new_empty(()), flat[0], flat[1].mT, beta=0, alpha=query.shape[-1] ** -0.5)
        return (logits.softmax(-1) @ flat[2]).view(query.shape)


def quicken(tower: nn.Module) -> None:
    """Let the attention of a tower's blocks choose the quicker way; weights and their names stay."""
    for module in tower.modules():
        if type(module) is nn.MultiheadAttention:
            module.__class__ = SelfAttention
