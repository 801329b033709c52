"""Third-party models: load SonoCLIP, Alpha-CLIP, OpenAI CLIP and open_clip checkpoints strictly."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sono.annotation.weights.weight_files import read_weights
from sono.curation.core.atomic import read_json
from sono.curation.core.checkpoint_names import opened, unwrapped
from sono.curation.core.config import validated
from sono.curation.core.errors import SonoError
from sono.training.model.architectures import LOG_10, START_BIAS, ModelConfig, architecture_of
from sono.training.model.mask_clip import MaskClip

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
_NOT_WEIGHTS = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
    "embeddings.position_ids",
)
HEAD_WIDTH = 64  # of every CLIP transformer by OpenAI


@dataclass(frozen=True)
class Published:
    """A checkpoint with open_clip's names (`visual.`, `text.`), and the kind of its file."""

    kind: str
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Description:
    """Architecture in open_clip's terms, and the statistics of the pixels it was trained on."""

    name: str
    architecture: dict[str, Any]
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD


def load_published(
    checkpoint: Path, base: Path | None = None, architecture: str | None = None
) -> tuple[MaskClip, str]:
    """The model of a published checkpoint and the kind of its file.

    `base` is the CLIP file with the text tower if `checkpoint` has only the vision tower.
    `architecture` is an open_clip name or a JSON file; without it the sizes are inferred from the
    weights and the rest is OpenAI's. Raises SonoError for weights that are missing, left over or of
    another shape.
    """
    published = read_published(checkpoint, base)
    described = (
        _described(architecture) if architecture else _inferred(published.weights, checkpoint)
    )
    weights = dict(published.weights)
    scalars = {name: weights.pop(name) for name in ("logit_scale", "logit_bias") if name in weights}
    scale, bias = LOG_10, START_BIAS
    if len(scalars) == 2:  # trained by a sigmoid loss; else both get that loss's initial values
        scale, bias = (_scalar(name, value, checkpoint) for name, value in scalars.items())
    values = {
        "name": described.name,
        "architecture": described.architecture,
        "channels": 3,
        "pixel_mean": described.pixel_mean,
        "pixel_std": described.pixel_std,
        "logit_scale": scale,
        "logit_bias": bias,
    }
    model = _built(validated(values, "model", ModelConfig, checkpoint), checkpoint)
    _fill(model, weights, checkpoint)
    return model.eval(), published.kind


def read_published(checkpoint: Path, base: Path | None) -> Published:
    """All weights of a checkpoint, with the text tower of `base` if it has none."""
    content = read_weights(checkpoint)
    if isinstance(content.get("visual"), Mapping):
        vision = {f"visual.{name}": value for name, value in _named(content["visual"]).items()}
        scalars = _named(
            {name: value for name, value in content.items() if name.startswith("logit_")}
        )
        return Published("SonoCLIP", vision | _text_of(checkpoint, base) | scalars)
    weights = _named(opened(content))
    if any(name.startswith("towers.") for name in weights):
        raise SonoError(
            f"{checkpoint}: weights of sono; copy the complete folder of their run into runs/ of "
            "this workspace"
        )
    if "visual.conv1_alpha.weight" in weights:
        return Published("Alpha-CLIP", weights)
    if "conv1.weight" in weights:
        vision = {f"visual.{name}": value for name, value in weights.items()}
        kind = "Alpha-CLIP" if "conv1_alpha.weight" in weights else "vision tower of CLIP"
        return Published(kind, vision | _text_of(checkpoint, base))
    if base is not None:
        raise SonoError(f"{checkpoint}: has its own text tower; leave --base out")
    return Published("CLIP", weights)


def published_names(model: MaskClip) -> dict[str, str]:
    """The published name of each weight; pixel statistics have none."""
    stem = f"towers.visual.{model.stem_name}"
    special = {
        f"{stem}.mask.weight": f"visual.{model.stem_name}_alpha.weight",
        f"{stem}.depthwise.weight": "visual.dwconv.weight",
    }
    names = {}
    for name in model.state_dict():
        if name.startswith("towers."):
            plain = name.replace(f"{stem}.image.", f"{stem}.").removeprefix("towers.")
            names[name] = special.get(name, plain)
    return names


def _text_of(checkpoint: Path, base: Path | None) -> dict[str, Tensor]:
    if base is None:
        raise SonoError(
            f"{checkpoint}: has no text tower; name the CLIP file it was trained from with --base"
        )
    weights = _named(opened(read_weights(base)))
    text = {name: value for name, value in weights.items() if name.startswith("text.")}
    if not text:
        raise SonoError(
            f"{base}: has no text tower; give the CLIP file that {checkpoint.name} was trained from"
        )
    return text


def _named(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors with open_clip's names.

    The prefix of a wrapper is removed, attention becomes one matrix, and the names of the text
    tower begin with `text.`.
    """
    named = {}
    tensors = unwrapped(
        {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    )
    for name, value in tensors.items():
        if name.endswith(_NOT_WEIGHTS):
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise SonoError(
                f"weight '{name}' is sparse, quantized or complex; give the plain weights"
            )
        if value.is_meta or value.nbytes > value.untyped_storage().nbytes():
            raise SonoError(
                f"weight '{name}' declares {value.numel():,} numbers but does not have them; get "
                "the file again"
            )
        named[name.replace("attn.in_proj.", "attn.in_proj_")] = (
            value.float() if value.is_floating_point() else value
        )
    joined = "text_projection" in named  # as in OpenAI's CLIP, where the text tower has no prefix
    return {
        f"text.{name}" if joined and name.startswith(_TEXT) else name: value
        for name, value in named.items()
    }


def _described(architecture: str) -> Description:
    path = Path(architecture)
    if path.suffix != ".json":
        known = architecture_of(ModelConfig(name=architecture))
        return Description(
            architecture, known | {"text_cfg": known["text_cfg"] | {"hf_model_pretrained": False}}
        )
    try:
        content = read_json(path)
        model, pixels = content.get("model_cfg", content), content.get("preprocess_cfg", {})
        known = {name: model[name] for name in ("embed_dim", "vision_cfg", "text_cfg")}
        known["quick_gelu"] = bool(model.get("quick_gelu"))
        # the weights come from the checkpoint
        known["text_cfg"] = known["text_cfg"] | {"hf_model_pretrained": False}
        mean, std = tuple(pixels.get("mean", CLIP_MEAN)), tuple(pixels.get("std", CLIP_STD))
        return Description(path.stem, known, mean, std)
    except FileNotFoundError as error:
        raise SonoError(
            f"{path}: no such file; give an open_clip name or its configuration as JSON"
        ) from error
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise SonoError(f"{path}: not a configuration of open_clip ({error!r})"[:300]) from error


def _inferred(weights: Mapping[str, Tensor], checkpoint: Path) -> Description:
    """Sizes inferred from the weights of an OpenAI vision transformer.

    Its heads are 64 wide, and its activation is QuickGELU.
    """
    try:
        width, _, patch, _ = weights["visual.conv1.weight"].shape
        positions, _ = weights["visual.positional_embedding"].shape
        vocabulary, text_width = weights["text.token_embedding.weight"].shape
        context, _ = weights["text.positional_embedding"].shape
        embed_dim = weights["visual.proj"].shape[1]
    except (LookupError, ValueError) as error:
        raise SonoError(
            f"{checkpoint}: does not have the names of OpenAI's vision transformers (no {error}); "
            "give its --architecture: an open_clip name or a JSON file"
        ) from error
    side = patch * round(max(positions - 1, 1) ** 0.5)
    vision = {
        "image_size": side,
        "layers": _layers(weights, "visual."),
        "width": width,
        "head_width": HEAD_WIDTH,
        "patch_size": patch,
    }
    text = {
        "context_length": context,
        "vocab_size": vocabulary,
        "width": text_width,
        "heads": max(text_width // HEAD_WIDTH, 1),
        "layers": _layers(weights, "text."),
    }
    architecture = {
        "embed_dim": embed_dim,
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    return Description(f"ViT-{width}-{patch}-{side}", architecture)


def _layers(weights: Iterable[str], tower: str) -> int:
    start = f"{tower}transformer.resblocks."
    return len(
        {name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start)}
    )


def _scalar(name: str, value: Tensor, checkpoint: Path) -> float:
    if value.numel() != 1:
        raise SonoError(f"{checkpoint}: {name} is one number, not {list(value.shape)}")
    return float(value)


def _built(config: ModelConfig, checkpoint: Path) -> MaskClip:
    try:
        return MaskClip(config)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        LookupError,
        AssertionError,
        ZeroDivisionError,
        AttributeError,
    ) as error:
        raise SonoError(
            f"{checkpoint}: this architecture cannot be built ({error})"[:300]
        ) from error


@torch.no_grad()
def _fill(model: MaskClip, weights: dict[str, Tensor], checkpoint: Path) -> None:
    """Copy every weight.

    Only the mask stem may be missing, and nothing may be left over.
    """
    own, names = model.state_dict(), published_names(model)
    new = {name for name in names if ".mask." in name or ".depthwise." in name}
    missing = sorted(
        names[name] for name in names if names[name] not in weights and name not in new
    )
    left_over = sorted(set(weights) - set(names.values()))
    shapes = sorted(
        f"{names[name]} {list(weights[names[name]].shape)} for {list(own[name].shape)}"
        for name in names
        if names[name] in weights and weights[names[name]].shape != own[name].shape
    )
    odd = sorted(
        name
        for name, value in weights.items()
        if name not in left_over and not value.isfinite().all()
    )
    problems = [
        _format_names("missing", missing),
        _format_names("left over", left_over),
        _format_names("of another shape", shapes),
        _format_names("with values that are not finite", odd),
    ]
    if any(problems):
        raise SonoError(
            f"{checkpoint}: not the weights of '{model.config.name}': "
            f"{'; '.join(filter(None, problems))}"
        )
    for name, theirs in names.items():
        if theirs in weights:
            own[name].copy_(weights[theirs])


def _format_names(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}" if names else ""
