"""The towers of a model: built-in sizes, open_clip architectures, other text towers."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import open_clip
from pydantic import Field, field_validator

from sono.curation.core.config import Config
from sono.curation.core.errors import SonoError, did_you_mean

LOG_10 = 2.302585092994046  # where SigLIP and SonoCLIP start the logarithm of the scale
START_BIAS = -10.0
MAX_SIDE = 4096  # pixels
MAX_NUMBER = 1 << 20  # of an architecture: the largest vocabulary has half as many words
MAX_WIDTH, MAX_LAYERS = 1 << 14, 256


def _convolutional(trunk: str, side: int, embed_dim: int, text_layers: int) -> dict[str, Any]:
    """A convolutional timm trunk, which learns from few frames, and a narrow text transformer."""
    vision = {
        "timm_model_name": trunk,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": side,
    }
    text = {
        "context_length": 77,
        "vocab_size": 49408,
        "width": embed_dim,
        "heads": 4,
        "layers": text_layers,
    }
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}


# Our sizes, in open_clip's words or as a name of open_clip's; every other name is looked up there.
SIZES: dict[str, dict[str, Any] | str] = {
    "lite0": _convolutional("tf_efficientnet_lite0", 128, 128, 2),
    "lite1": _convolutional("tf_efficientnet_lite1", 128, 128, 2),
    "lite2": _convolutional("tf_efficientnet_lite2", 128, 128, 2),
    "nano": _convolutional("resnet10t", 128, 128, 2),
    "small": _convolutional("resnet26t", 192, 256, 4),
    "base": "ViT-B-16",
    "large": "ViT-L-14-336-quickgelu",  # as published by SonoCLIP
}


class ModelConfig(Config):
    """What is needed to build the model again; stored in every checkpoint."""

    name: str = "nano"
    # of an imported model, in open_clip's words; None: that of `name`
    architecture: dict[str, Any] | None = None
    # pixels; None: the architecture's own
    image_size: int | None = Field(default=None, ge=1, le=MAX_SIDE)
    # tokens; None: the text tower's own
    context_length: int | None = Field(default=None, ge=1, le=MAX_WIDTH)
    # a BERT by Hugging Face name or folder; None: the architecture's own
    text_tower: str | None = None
    text_bias: bool = False  # of the projection of a BERT
    # inner features are averaged under the mask and added (sono.training.model.region_pool)
    region_pool: bool = False
    channels: Literal[1, 3] = 1  # of the image filters; three take gray frames too
    # of values in [0, 1], per channel where there are three
    pixel_mean: float | tuple[float, float, float] = 0.2
    pixel_std: float | tuple[float, float, float] = 0.2
    logit_scale: float = LOG_10  # its logarithm
    logit_bias: float = START_BIAS

    @field_validator("architecture")
    @classmethod
    def _can_be_built(cls, architecture: dict[str, Any] | None) -> dict[str, Any] | None:
        """Refuse sizes that do not fit into memory."""
        for name, value in settings_of(architecture or {}):
            most = {
                "embed_dim": MAX_WIDTH,
                "width": MAX_WIDTH,
                "layers": MAX_LAYERS,
                "image_size": MAX_SIDE,
            }
            if isinstance(value, int | float) and not abs(value) <= most.get(name, MAX_NUMBER):
                raise ValueError(f"{name} is {value}; at most {most.get(name, MAX_NUMBER)}")
            if isinstance(value, int) and name in most and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        return architecture


def settings_of(architecture: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every number and text of an architecture with its name, including the items of lists."""
    for name, value in architecture.items():
        if isinstance(value, Mapping):
            yield from settings_of(value)
        else:
            yield from (
                (name, part) for part in (value if isinstance(value, list | tuple) else [value])
            )


def architecture_of(config: ModelConfig) -> dict[str, Any]:
    """The keyword arguments of open_clip's CustomTextCLIP.

    Raises SonoError for an unknown or unsupported model.
    """
    known = config.architecture or _look_up(config.name)
    vision, text = dict(known["vision_cfg"]), dict(known["text_cfg"])
    if "multimodal_cfg" in known or text.get("output_tokens") or vision.get("output_tokens"):
        raise SonoError(
            f"model '{config.name}' writes captions (CoCa); choose one with two plain towers"
        )
    vision["timm_model_pretrained"] = False  # nothing is fetched from a network
    if config.image_size is not None:
        vision["image_size"] = config.image_size
    vision.setdefault("image_size", 224)
    if config.text_tower is not None:
        text = {
            "hf_model_name": config.text_tower,
            "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler",
        }
    text["context_length"] = config.context_length or text.get(
        "context_length", 77 if config.text_tower is None else 128
    )
    names = ("embed_dim", "quick_gelu")
    return {
        **{name: known[name] for name in names if name in known},
        "vision_cfg": vision,
        "text_cfg": text,
    }


def side_of(architecture: dict[str, Any]) -> int:
    """The side in pixels of the square input of `architecture`.

    Raises SonoError if it is not a square.
    """
    size = architecture["vision_cfg"]["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise SonoError(
            f"the model expects {height} x {width} pixels, but frames are letterboxed to a square; "
            "choose another model"
        )
    return int(height)


def _look_up(name: str) -> dict[str, Any]:
    ours = SIZES.get(name)
    if isinstance(ours, dict):
        return copy.deepcopy(ours)
    found = (
        open_clip.get_model_config(ours or name) if "/" not in name and ":" not in name else None
    )
    if found is None:
        raise SonoError(
            f"unknown model '{name}'{did_you_mean(name, [*SIZES, *open_clip.list_models()])}"
        )
    return dict(found)
