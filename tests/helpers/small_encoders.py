"""Make small vision encoders of other projects with random weights; register small timm models."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from open_clip.model import _build_vision_tower
from timm.models import _registry
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sono.training.interop.encoders import Encoder, load_encoder

NORM = partial(nn.LayerNorm, eps=1e-6)
WIDTH = 192  # the narrowest whose heads are known


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """`module` in evaluation mode with random weights, including those that start as 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(
                torch.randn(weight.shape, generator=generator) * 0.1
                + (weight.ndim == 1 and "bias" not in name)
            )
        for name, value in module.named_buffers():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return module.eval()


def small_vit(**changes: Any) -> nn.Module:
    """timm's VisionTransformer of 2 blocks on 4 x 4 patches, without a classifier."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": 3}
    return drawn(VisionTransformer(**{**sizes, "num_classes": 0, "norm_layer": NORM, **changes}))


def small_beit(**changes: Any) -> Beit:
    """timm's Beit of 2 blocks of width 64 on 4 x 4 patches, without a classifier."""
    sizes = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 64,
        "depth": 2,
        "num_heads": 4,
        "init_values": 0.1,
    }
    return Beit(
        **{**sizes, "num_classes": 0, "use_abs_pos_emb": False, "use_rel_pos_bias": True, **changes}
    )


def small_eva(**changes: Any) -> Eva:
    """timm's Eva as it builds DINOv3, of 2 blocks of width 64."""
    sizes = {
        "img_size": 64,
        "patch_size": 16,
        "embed_dim": 64,
        "depth": 2,
        "num_heads": 2,
        "init_values": 1e-5,
    }
    rope = {
        "rope_type": "dinov3",
        "rope_temperature": 100,
        "rope_rotate_half": True,
        "use_rot_pos_emb": True,
    }
    plain = {
        "use_abs_pos_emb": False,
        "num_reg_tokens": 4,
        "use_fc_norm": False,
        "dynamic_img_size": True,
    }
    return Eva(
        **{
            **sizes,
            **rope,
            **plain,
            "num_classes": 0,
            "norm_layer": partial(nn.LayerNorm, eps=1e-5),
            **changes,
        }
    )


def register(
    monkeypatch: pytest.MonkeyPatch, name: str, build: Callable[..., nn.Module], side: int
) -> None:
    """Let timm build `build` under `name`, as open_clip asks it to."""

    def entry(pretrained: bool = False, **options: Any) -> nn.Module:
        model = build(
            **{
                key: value
                for key, value in options.items()
                if key in ("num_classes", "global_pool")
            }
        )
        model.default_cfg = {"input_size": (3, side, side), "pool_size": None, "classifier": "head"}
        return model

    monkeypatch.setitem(_registry._model_entrypoints, name, entry)
    assert timm.is_model(name)


def loaded(encoder: Encoder, width: int, image_size: int | None = None) -> nn.Module:
    """The tower of `encoder`, filled, whose projection changes nothing."""
    config = encoder.vision_cfg | ({"image_size": image_size} if image_size else {})
    tower = _build_vision_tower(width, config, quick_gelu=encoder.quick_gelu)
    if image_size and "timm_model_name" in config:
        tower.set_input_size(image_size)
    load_encoder(tower, encoder)
    with torch.no_grad():
        projection = tower.head.proj.weight if "timm_model_name" in config else tower.proj
        projection.copy_(torch.eye(width))
    return tower.eval()


def frames(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(5))


def same(first: nn.Module, second: nn.Module, side: int = 32) -> bool:
    """Whether two encoders give equal features for the same frames, and unequal ones for others."""
    with torch.inference_mode():
        one, other = first(frames(side)), second(frames(side))
    assert not torch.allclose(one[0], one[1], atol=1e-2)
    return torch.allclose(one, other, atol=2e-4, rtol=1e-3)
