"""Export a model as the published SonoCLIP pair, which imports back to the same weights."""

import io
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from torch import Tensor

from sono.curation.core.atomic import write_bytes
from sono.curation.core.errors import SonoError
from sono.training.model.mask_clip import MaskClip
from sono.training.model.published import CLIP_MEAN, CLIP_STD, HEAD_WIDTH, published_names

BASE, VISION = "base_clip.pt", "sonoclip_vision.pth"


def export_sonoclip(model: MaskClip, folder: Path) -> tuple[Path, Path]:
    """Write the CLIP file (text tower) and the vision file (mask stem, scale, bias).

    Returns both paths. Raises SonoError if the published code cannot represent the model.
    """
    odd = _not_published(model)
    if odd:
        raise SonoError(
            f"model '{model.config.name}' does not fit the SonoCLIP format: {odd}; export it as "
            "onnx"
        )
    weights = {
        theirs: model.state_dict()[ours].cpu().clone()
        for ours, theirs in published_names(model).items()
    }
    vision = {
        name.removeprefix("visual."): value
        for name, value in weights.items()
        if name.startswith("visual.")
    }
    scalars = {
        "logit_scale": model.logit_scale.detach().cpu(),
        "logit_bias": model.logit_bias.detach().cpu(),
    }
    published = {
        f"module.{name.replace('attn.in_proj_', 'attn.in_proj.')}": value
        for name, value in vision.items()
    }
    write_bytes(folder / VISION, _saved({"visual": published, **scalars, "step": 0}))
    plain = {
        name.removeprefix("text."): value for name, value in weights.items() if _is_plain(name)
    }
    write_bytes(folder / BASE, _saved(plain | {"logit_scale": scalars["logit_scale"]}))
    return folder / BASE, folder / VISION


def _is_plain(name: str) -> bool:
    return not name.startswith(("visual.conv1_alpha", "visual.dwconv"))


def _saved(content: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _not_published(model: MaskClip) -> str:
    """What the published code cannot represent of this model; "" if it can represent all."""
    visual, text = model.towers.visual, model.towers.text
    if not isinstance(visual, VisionTransformer) or not isinstance(text, TextTransformer):
        return "it takes a vision transformer and a CLIP text transformer"
    if model.config.channels != 3:
        return "its image filters see one gray channel, the format has three"
    if not (_is(model.pixel_mean, CLIP_MEAN) and _is(model.pixel_std, CLIP_STD)):
        return "its pixel statistics are not OpenAI's, which the published code has built in"
    blocks = [*visual.transformer.resblocks, *text.transformer.resblocks]
    if any(not isinstance(block.mlp.gelu, QuickGELU) for block in blocks):
        return "its activation is not QuickGELU"
    if any(block.attn.embed_dim != HEAD_WIDTH * block.attn.num_heads for block in blocks):
        return f"its attention heads are not {HEAD_WIDTH} wide"
    return ""


def _is(statistic: Tensor, published: tuple[float, ...]) -> bool:
    return torch.allclose(statistic.flatten().cpu(), torch.tensor(published))
