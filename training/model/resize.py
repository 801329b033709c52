"""Change the image size of a trained model: position embeddings are resized, the rest is kept."""

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sono.curation.core.errors import SonoError
from sono.training.model.architectures import architecture_of
from sono.training.model.mask_clip import MaskClip

POSITIONS = ("positional_embedding", "pos_embed")  # in the words of open_clip and timm
NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def resized(model: MaskClip, side: int) -> MaskClip:
    """`model` itself, changed to squares of `side` pixels.

    At its own size nothing changes. Raises SonoError if a weight of the vision tower depends on the
    size and is not a grid of positions.
    """
    architecture = architecture_of(model.config) | {"text_cfg": NO_TEXT}
    config = model.config.model_copy(update={"image_size": side})
    change = f"from {model.image_size} to {side} pixels"
    try:
        other = MaskClip(
            config.model_copy(update={"architecture": architecture, "text_tower": None})
        ).eval()
        _fill(other.towers.visual, model.towers.visual.state_dict(), change)
        with torch.no_grad():  # towers that do not fit raise only when they see a frame
            other.encode_image(torch.zeros(1, 1, side, side), torch.ones(1, 1, side, side))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise SonoError(
            f"model '{config.name}' cannot be resized {change} ({error})"[:300]
        ) from error
    model.towers.visual = other.towers.visual.train(model.training)
    model.config, model.image_size = config, side
    return model


def _fill(visual: nn.Module, weights: dict[str, Tensor], change: str) -> None:
    """Load the weights of a tower of another size."""
    wanted = visual.state_dict()
    for name in (name for name in wanted if wanted[name].shape != weights[name].shape):
        fitting = (
            resized_positions(weights[name], wanted[name].shape[-2])
            if name.endswith(POSITIONS)
            else None
        )
        if fitting is None:
            raise SonoError(
                f"'{name}' of the vision tower cannot be resized {change}; keep the old image_size"
            )
        weights[name] = fitting
    visual.load_state_dict(weights)


def resized_positions(positions: Tensor, count: int) -> Tensor | None:
    """Embeddings [..., n, d] of a square grid, resized to `count` of them.

    Leading embeddings of other tokens are kept. Bicubic, as in timm and open_clip. The result is
    None if the two are not square grids after the same number of other tokens.
    """
    side, new = isqrt(positions.shape[-2]), isqrt(count)
    others = positions.shape[-2] - side * side
    if count - new * new != others:
        return None
    whole, grid = positions[..., :others, :], positions[..., others:, :]
    rows = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    rows = F.interpolate(rows, (new, new), mode="bicubic", antialias=True, align_corners=False)
    grid = (
        rows.permute(0, 2, 3, 1).reshape(*positions.shape[:-2], new * new, -1).to(positions.dtype)
    )
    return torch.cat([whole, grid], dim=-2)
