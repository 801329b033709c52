"""Find the weights of a vision encoder in a third-party checkpoint: in a container or by prefix."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sono.annotation.weights.weight_files import read_weights
from sono.curation.core.atomic import read_json
from sono.curation.core.checkpoint_names import unwrapped
from sono.curation.core.errors import SonoError

TRUNK = "visual.trunk."  # of a timm model in an open_clip checkpoint
# A name that each layout has once; what comes before it is the prefix of the encoder.
ANCHORS = (
    "patch_embed.proj.weight",  # timm, MAE, BEiT, DINO
    "embeddings.patch_embeddings.projection.weight",  # BEiT by Hugging Face
    "class_embedding",  # CLIP
)
# by timm, MAE, BEiT; the best first
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")


@dataclass(frozen=True)
class FoundWeights:
    """The weights of one encoder, without the prefix of their names, and where they were."""

    path: Path
    weights: dict[str, Tensor]
    prefix: str = ""  # a container ends with `/`, a module with `.`
    # a timm name, where the file or a configuration next to it gives one
    architecture: str | None = None
    quick_gelu: bool | None = None  # of a CLIP; None: nothing says it


def find_weights(path: Path) -> FoundWeights:
    """The weights of the encoder in `path`.

    Raises SonoError if it is not a weight file or contains several encoders.
    """
    # MAE and DINO save their options: data, no code
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = read_weights(path)
    timm = _configuration(path.with_name("config.json"))
    clip = _inside(_configuration(path.with_name("open_clip_config.json")), "model_cfg")
    trunk = _inside(clip, "vision_cfg").get("timm_model_name")
    for name in (content.get("arch"), timm.get("architecture"), trunk):
        if isinstance(name, str) and name:
            return FoundWeights(
                path, _checked(_container_tensors(content), path), architecture=name
            )
    named = dict(_flat(content, ""))
    prefix = _prefix(named, path)
    inside = {
        name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)
    }
    # OpenAI's files alone have these names, and its models QuickGELU
    quick = (
        True if "input_resolution" in content else bool(clip.get("quick_gelu")) if clip else None
    )
    return FoundWeights(path, _checked(inside, path), prefix, quick_gelu=quick)


def _configuration(path: Path) -> dict[str, Any]:
    """A JSON file as timm and open_clip store it next to the weights; {} if there is none."""
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SonoError(
            f"{path}: cannot be read ({error}); correct it or remove it"[:300]
        ) from error
    return content if isinstance(content, dict) else {}


def _inside(configuration: dict[str, Any], name: str) -> dict[str, Any]:
    part = configuration.get(name)
    return part if isinstance(part, dict) else {}


def _container_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the best container or of the file, without wrapper prefixes of names."""
    inner = next(
        (content[name] for name in CONTAINERS if isinstance(content.get(name), Mapping)), content
    )
    named = unwrapped({name: value for name, value in inner.items() if isinstance(value, Tensor)})
    trunk = {name: value for name, value in named.items() if name.startswith(TRUNK)}
    return {name.removeprefix(TRUNK): value for name, value in (trunk or named).items()}


def _flat(content: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield f"{before}{name}", value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}/")


def _prefix(named: Mapping[str, Tensor], path: Path) -> str:
    """The prefix of the encoder's names.

    A teacher is preferred to a student, averaged weights to others.
    """
    found = sorted(
        {
            name.removesuffix(anchor)
            for name in named
            for anchor in ANCHORS
            if name.endswith(anchor)
        },
        key=lambda prefix: ("teacher" not in prefix, "ema" not in prefix, prefix),
    )
    found = [prefix for prefix in found if not prefix or prefix[-1] in "./"]
    if not found:
        raise SonoError(
            f"{path}: no vision encoder that is known (timm, MAE, BEiT, DINO, CLIP); of another "
            f"timm model, "
            'put its config.json with {"architecture": NAME} next to it'
        )
    averaged = "teacher" in found[0] or "ema" in found[0]
    if len(found) > 1 and not averaged:
        names = ", ".join(f"'{prefix}'" for prefix in found[:3])
        raise SonoError(
            f"{path}: holds several encoders ({names}); save the one you want in a file of its own"
        )
    return found[0]


def _checked(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`weights` in float32; raises SonoError for anything but plain tensors of numbers."""
    for name, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise SonoError(
                f"{path}: weight '{name}' is sparse, quantized or complex; give the plain weights"
            )
        if value.is_meta or value.nbytes > value.untyped_storage().nbytes():
            raise SonoError(
                f"{path}: weight '{name}' has more numbers than the file; get the file again"
            )
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }
