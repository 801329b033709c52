"""Third-party plain vision transformers (timm, MAE, TinyUSFM, DINO) in open_clip's layout."""

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from sono.curation.core.errors import SonoError

# Sources of the names: timm's VisionTransformer, facebookresearch/mae models_mae.py,
# facebookresearch/dinov2 dinov2/models/vision_transformer.py, MacDunno/TinyUSFM model/tinyusfm.py;
# to open_clip's VisionTransformer.
_IN_BLOCK = {
    "norm1": "ln_1",
    "attn.qkv.weight": "attn.in_proj_weight",
    "attn.qkv.bias": "attn.in_proj_bias",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "ls1.gamma": "ls_1.gamma",
    "ls2.gamma": "ls_2.gamma",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
# Of a classifier, a decoder or a loss: not a part of the encoder.
NOT_ENCODER = (
    "head.",
    "head_dist.",
    "decoder_",
    "mask_token",
    "dino_head.",
    "ibot_head.",
    "projectors.",
    "lm_head.",
)
# by width, of ViT-Ti, -S, -M, -B, -L and -H
HEAD_WIDTH = {192: 64, 384: 64, 512: 64, 768: 64, 1024: 64, 1280: 80}
# of ViT-H, -g and -bigG by LAION; 64 of all others
CLIP_HEAD_WIDTH = {1280: 80, 1408: 88, 1664: 104}
# it has 12 heads where timm's ViT-Ti has 3; the shapes of the weights do not differ
TINY_USFM_HEAD_WIDTH = 16


def plain_vit_config(
    weights: Mapping[str, Tensor], head_width: int, averaged: bool
) -> dict[str, Any]:
    """open_clip's `vision_cfg` of a transformer with timm's names, inferred from the shapes.

    `averaged`: the feature is the mean of the patches, not the class token.
    """
    width, _, patch, _ = weights["patch_embed.proj.weight"].shape
    _, positions, _ = weights["pos_embed"].shape
    numbers = {match.group(1) for name in weights if (match := _BLOCK.fullmatch(name))}
    config: dict[str, Any] = {
        "image_size": patch * isqrt(positions - 1),
        "patch_size": patch,
        "width": width,
        "layers": len(numbers),
        "head_width": head_width,
        "mlp_ratio": weights["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "no_ln_pre": True,
        "norm_kwargs": {"eps": 1e-6},
        "pool_type": "avg" if averaged else "tok",
        "final_ln_after_pool": averaged,
    }
    return config | ({"ls_init_value": 1.0} if "blocks.0.ls1.gamma" in weights else {})


def plain_vit_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with timm's names under open_clip's, without the projection.

    Unknown names stay unchanged. open_clip's patch filters have no bias: it is added to the
    positions of the patches, which gives the same sum.
    """
    kept = {name: value for name, value in weights.items() if not name.startswith(NOT_ENCODER)}
    if "fc_norm.weight" in kept:  # of the mean of the patches; `norm` is then of no use
        kept = {name: value for name, value in kept.items() if not name.startswith("norm.")}
    state = {_open_clip_name(name): value for name, value in kept.items()}
    state["class_embedding"] = state["class_embedding"].flatten()
    positions = state["positional_embedding"].squeeze(0).clone()
    bias = kept.get("patch_embed.proj.bias")
    if bias is not None:
        positions[1:] += bias
        del state["patch_embed.proj.bias"]
    state["positional_embedding"] = positions
    return state


def unchunked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` without DINOv2's chunks of blocks: `blocks.1.7.` becomes `blocks.7.`."""
    return {
        re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name): value
        for name, value in weights.items()
    }


def head_width_of(weights: Mapping[str, Tensor], names: str, prefix: str) -> int:
    """The width of an attention head, which no shape contains.

    `names` are those of the file and its folder. Raises SonoError for a width that several models
    share, if no name identifies the model.
    """
    width = weights["patch_embed.proj.weight"].shape[0]
    if width == 192 and "tinyusfm" in names:
        return TINY_USFM_HEAD_WIDTH
    if width == 192 and prefix.endswith("model."):
        raise SonoError(
            "TinyUSFM (12 heads) or timm's ViT-Ti (3 heads), whose weights have the same shapes: "
            "rename it to "
            'tinyusfm.pth, or put a config.json with {"architecture": "vit_tiny_patch16_224"} next '
            "to it"
        )
    if width not in HEAD_WIDTH:
        raise SonoError(
            f"a transformer of width {width}, whose number of heads is not known; known widths: "
            f"{', '.join(map(str, HEAD_WIDTH))}; put a config.json with its timm architecture next "
            "to it"
        )
    return HEAD_WIDTH[width]


def _open_clip_name(name: str) -> str:
    ends = {
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj.weight": "conv1.weight",
        "norm.weight": "ln_post.weight",
        "norm.bias": "ln_post.bias",
        "fc_norm.weight": "ln_post.weight",
        "fc_norm.bias": "ln_post.bias",
    }
    match = _BLOCK.fullmatch(name)
    if match is None:
        return ends.get(name, name)
    number, inside = match.groups()
    for theirs, ours in _IN_BLOCK.items():
        if inside == theirs or inside.startswith(f"{theirs}."):
            return f"transformer.resblocks.{number}.{ours}{inside.removeprefix(theirs)}"
    return name


def clip_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """open_clip's `vision_cfg` of a vision transformer with open_clip's names, from the shapes."""
    width, _, patch, _ = weights["conv1.weight"].shape
    positions, _ = weights["positional_embedding"].shape
    start = "transformer.resblocks."
    layers = {name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start)}
    config: dict[str, Any] = {
        "image_size": patch * isqrt(positions - 1),
        "patch_size": patch,
        "width": width,
        "layers": len(layers),
        "head_width": CLIP_HEAD_WIDTH.get(width, 64),
        "mlp_ratio": weights[f"{start}0.mlp.c_fc.weight"].shape[0] / width,
        "no_ln_pre": "ln_pre.weight" not in weights,
    }
    return config | ({"ls_init_value": 1.0} if f"{start}0.ls_1.gamma" in weights else {})


def clip_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A vision tower of CLIP without its projection, which belongs to CLIP's text tower."""
    named = {
        name.replace("attn.in_proj.", "attn.in_proj_"): value for name, value in weights.items()
    }
    return {
        name: value for name, value in named.items() if name != "proj" and torch.is_tensor(value)
    }
