"""Attention in bfloat16 on a CPU: plain matrix products, which take half the time of torch's fused kernel there."""

from typing import Any

import torch
from torch import Tensor, nn


class CpuAttention(nn.MultiheadAttention):
    """As its parent, but for self-attention that learns under bfloat16 autocast on a CPU, where it is quicker.

    The fused kernel's gradient leaves the matrix units (AMX) of the processor idle (`benchmarks/training.py`).
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]  # the rest of its arguments by name
        """Queries, keys and values [n, tokens, width] to the same, and no weights."""
        if query is key is value and self._gains(query, options):
            return self._mixed(query), None
        return super().forward(query, key, value, **options)

    def _gains(self, query: Tensor, options: dict[str, Any]) -> bool:
        plain = "need_weights" in options and all(given is None or given is False for given in options.values())
        slow = query.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
        fits = self.batch_first and self.in_proj_weight is not None and not self.dropout and query.ndim == 3
        return plain and slow and fits and torch.get_autocast_dtype("cpu") == torch.bfloat16

    def _mixed(self, tokens: Tensor) -> Tensor:
        """[n, tokens, width] to the same."""
        count, length, width = tokens.shape
        packed = nn.functional.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        parts = packed.view(count, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.reshape(3, count * self.num_heads, length, -1)
        # autocast would make the softmax in float32 and copy it twice
        with torch.autocast("cpu", enabled=False):
            logits = torch.baddbmm(query.new_empty(()), query, key.mT, beta=0, alpha=query.shape[-1] ** -0.5)
            mixed = logits.softmax(-1) @ value
        mixed = mixed.view(count, self.num_heads, length, -1).transpose(1, 2).reshape(count, length, width)
        result: Tensor = self.out_proj(mixed)
        return result


def quicken(tower: nn.Module) -> None:
    """Let the attention of a tower's blocks choose the quicker way; weights and their names stay."""
    for module in tower.modules():
        if type(module) is nn.MultiheadAttention:
            module.__class__ = CpuAttention
