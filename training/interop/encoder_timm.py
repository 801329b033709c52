"""Encoders that need a timm model: BEiT, USFM, DINOv2 with registers, DINOv3, and timm names."""

import re
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from sono.curation.core.errors import SonoError, did_you_mean
from sono.training.interop.encoder_vit import NOT_ENCODER

BEIT = {768: "beit_base_patch16_224", 1024: "beit_large_patch16_224"}  # by width
DINOV2_REGISTERS = {
    384: "vit_small_patch14_reg4_dinov2",
    768: "vit_base_patch14_reg4_dinov2",
    1024: "vit_large_patch14_reg4_dinov2",
    1536: "vit_giant_patch14_reg4_dinov2",
}
DINOV2_GIANT = {1536: "vit_giant_patch14_dinov2"}
# By width and whether the feed-forward layers are gated.
DINOV3 = {
    (384, False): "vit_small_patch16_dinov3",
    (384, True): "vit_small_plus_patch16_dinov3",
    (768, False): "vit_base_patch16_dinov3",
    (1024, False): "vit_large_patch16_dinov3",
    (1280, True): "vit_huge_plus_patch16_dinov3",
}
# Hugging Face's BeitModel -> microsoft/unilm beit and USFM, which timm follows.
_HF_ENDS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "encoder.relative_position_bias.relative_position_bias_table": "rel_pos_bias.relative_position_bias_table",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
    "pooler.layernorm.weight": "fc_norm.weight",
    "pooler.layernorm.bias": "fc_norm.bias",
}
_HF_IN_BLOCK = {
    "attention.attention.query.bias": "attn.q_bias",
    "attention.attention.value.bias": "attn.v_bias",
    "attention.attention.relative_position_bias.relative_position_bias_table": "attn.relative_position_bias_table",
    "attention.output.dense.weight": "attn.proj.weight",
    "attention.output.dense.bias": "attn.proj.bias",
    "intermediate.dense.weight": "mlp.fc1.weight",
    "intermediate.dense.bias": "mlp.fc1.bias",
    "output.dense.weight": "mlp.fc2.weight",
    "output.dense.bias": "mlp.fc2.bias",
    "layernorm_before.weight": "norm1.weight",
    "layernorm_before.bias": "norm1.bias",
    "layernorm_after.weight": "norm2.weight",
    "layernorm_after.bias": "norm2.bias",
    "lambda_1": "gamma_1",
    "lambda_2": "gamma_2",
}
_HF_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_HF_QUERY = "attention.attention.query.weight"
_SHARED_BIAS = "rel_pos_bias.relative_position_bias_table"


def timm_config(name: str, image_size: int, pool: str) -> dict[str, Any]:
    """open_clip's `vision_cfg` of the timm model `name`."""
    return {
        "timm_model_name": name,
        "timm_pool": pool,
        "timm_proj": "linear",
        "image_size": image_size,
    }


def beit_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Hugging Face's BeitModel with BEiT's own names.

    Query, key and value become one matrix.
    """
    named = {}
    for name, value in weights.items():
        block = _HF_BLOCK.fullmatch(name)
        if block is None:
            named[_HF_ENDS.get(name, name.removeprefix("embeddings."))] = value
        elif block[2] == _HF_QUERY:
            parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
            named[f"blocks.{block[1]}.attn.qkv.weight"] = torch.cat(
                [weights[part] for part in parts]
            )
        elif block[2] not in (
            _HF_QUERY.replace("query", "key"),
            _HF_QUERY.replace("query", "value"),
        ):
            named[f"blocks.{block[1]}.{_HF_IN_BLOCK.get(block[2], block[2])}"] = value
    return named


def beit_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BEiT's weights in timm's layout.

    A shared table of positions is copied to each block, the last norm is after pooling.
    """
    state = {name: value for name, value in weights.items() if not _is_left_out(name)}
    shared = state.pop(_SHARED_BIAS, None)
    if shared is not None:
        blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
        state |= {f"blocks.{block}.attn.relative_position_bias_table": shared for block in blocks}
    if "fc_norm.weight" in state:
        return {name: value for name, value in state.items() if not name.startswith("norm.")}
    return {
        name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: state[name]
        for name in state
    }


def dinov2_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's weights in timm's layout.

    The position of the class token is added to it; gated layers are renamed.
    """
    renamed = {"mlp.w12.": "mlp.fc1.", "mlp.w3.": "mlp.fc2."}
    state = {
        _replaced(name, renamed): value
        for name, value in weights.items()
        if not name.startswith(NOT_ENCODER)
    }
    if "register_tokens" in state:
        positions = state["pos_embed"]
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        state["pos_embed"] = positions[:, 1:]
    return state


def dinov3_name(weights: Mapping[str, Tensor]) -> str | None:
    """timm's name of a DINOv3 model; None if there is none."""
    gated = "blocks.0.mlp.w1.weight" in weights
    name = DINOV3.get((weights["cls_token"].shape[-1], gated))
    biases = [value for key, value in weights.items() if key.endswith("attn.qkv.bias")]
    return f"{name}_qkvb" if name and any(_query_and_value(bias).any() for bias in biases) else name


def dinov3_state(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """DINOv3's weights in the layout of timm's Eva `name`.

    The bias of the keys, which DINOv3 masks, is left out.
    """
    renamed = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2", "storage_tokens": "reg_token"}
    renamed |= {"mlp.w1.": "mlp.fc1_g.", "mlp.w2.": "mlp.fc1_x.", "mlp.w3.": "mlp.fc2."}
    left_out = (*NOT_ENCODER, "rope_embed.", "local_cls_norm.")
    state = {}
    for key, value in weights.items():
        if key.startswith(left_out) or key.endswith(".bias_mask"):
            continue
        if not key.endswith("attn.qkv.bias"):
            state[_replaced(key, renamed)] = value
        elif name.endswith("_qkvb"):
            query, second = _query_and_value(value)
            state |= {
                key.replace("qkv.bias", "q_bias"): query,
                key.replace("qkv.bias", "v_bias"): second,
            }
    return state


def named_encoder(
    name: str, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The `vision_cfg` and the weights of the timm model `name`, without its classifier."""
    plain = name.partition(".")[0]  # the rest is the tag of its training
    if not timm.is_model(plain):
        raise SonoError(f"unknown timm model '{name}'{did_you_mean(plain, timm.list_models())}")
    with torch.device("meta"):
        model: Any = timm.create_model(plain)
    given = model.default_cfg.get("classifier") or ()
    # of networks of convolutions a module, which means avg
    pool = getattr(model, "global_pool", None)
    classifiers = tuple(f"{part}." for part in ([given] if isinstance(given, str) else given))
    state = {key: value for key, value in weights.items() if not key.startswith(classifiers)}
    side = model.default_cfg["input_size"][-1]
    return timm_config(plain, side, pool if isinstance(pool, str) else "avg"), state


def _is_left_out(name: str) -> bool:
    return name.startswith(NOT_ENCODER) or name.endswith(("relative_position_index", "mask_token"))


def _query_and_value(bias: Tensor) -> Tensor:
    """The parts [2, width] of a bias [3 width] of queries, keys and values that are not of keys."""
    return bias.view(3, -1)[[0, 2]]


def _replaced(name: str, pairs: Mapping[str, str]) -> str:
    for theirs, ours in pairs.items():
        name = name.replace(theirs, ours)
    return name
