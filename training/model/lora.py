"""Low-rank adapters on the matrices of the vision tower (LoRA, arXiv 2106.09685)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sono.curation.core.errors import SonoError
from sono.training.model.mask_clip import MaskClip


class LowRank(nn.Module):
    """weight + (alpha / rank) up @ down.

    `up` starts at zero, so nothing changes before training.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.down = nn.Parameter(
            nn.init.kaiming_uniform_(weight.new_empty(rank, columns), a=math.sqrt(5))
        )
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_lora(model: MaskClip, rank: int, alpha: float) -> int:
    """Add adapters to all matrices of the vision tower and freeze these; returns their number.

    The matrices are those of attention and MLP. Raises SonoError if the tower has none (a
    convolutional one).
    """
    places = [
        (module, matrix)
        for name, module in model.towers.visual.named_modules()
        for matrix in _matrices(module)
        if not name.startswith("head.")  # the projection, which is new
    ]
    if not places:
        raise SonoError(
            f"model '{model.config.name}' has no attention or MLP for LoRA; set lora_rank = 0"
        )
    for module, name in places:
        weight = getattr(module, name)
        parametrize.register_parametrization(module, name, LowRank(weight.detach(), rank, alpha))
        weight.requires_grad_(False)
    model.adapted = True
    return len(places)


def merge_lora(model: MaskClip) -> MaskClip:
    """Add the adapters into their matrices, in place; the model is a plain one again."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in [
                name for name, _ in module.get_submodule("parametrizations").named_children()
            ]:
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    model.adapted = False
    return model


def merged_state(model: MaskClip, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state of `model` after `merge_lora`, without changing the model.

    `weights` replace those of the model, if given.
    """
    state = {}
    for name, tensor in (weights or model.state_dict()).items():
        owner, mark, inner = name.partition(".parametrizations.")
        if not mark:
            state[name] = tensor
        elif inner.endswith(".original"):
            matrix = inner.removesuffix(".original")
            state[f"{owner}.{matrix}"] = getattr(model.get_submodule(owner), matrix).detach()
    return state


def adapter_state(model: MaskClip) -> dict[str, Tensor]:
    """All that learns in a model with adapters, by name; empty for a plain model."""
    if not model.adapted:
        return {}
    return {
        name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad
    }


@torch.no_grad()
def load_adapters(model: MaskClip, state: dict[str, Tensor]) -> None:
    """Copy the result of `adapter_state` into a model with the same adapters.

    Raises SonoError if the two differ.
    """
    own = adapter_state(model)
    odd = sorted(own.keys() ^ state.keys()) or sorted(
        name for name in own if own[name].shape != state[name].shape
    )
    if odd:
        raise SonoError(
            f"the adapters are of another model or rank ({odd[0]} and {len(odd) - 1} more)"
        )
    for name, weight in own.items():
        weight.copy_(state[name])


def _matrices(module: nn.Module) -> Iterator[str]:
    """Names of the matrices of one module.

    A linear layer has one; an attention has one joint projection.
    """
    if isinstance(module, nn.Linear):
        yield "weight"
    if isinstance(getattr(module, "in_proj_weight", None), nn.Parameter):
        yield "in_proj_weight"
