"""Third-party vision encoders by path: the tower, its weights, and the data they have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from sono.annotation.weights.strict_load import load_strictly
from sono.curation.core.errors import SonoError
from sono.training.interop.encoder_files import FoundWeights, find_weights
from sono.training.interop.encoder_timm import (
    BEIT,
    DINOV2_GIANT,
    DINOV2_REGISTERS,
    beit_names,
    beit_state,
    dinov2_state,
    dinov3_name,
    dinov3_state,
    named_encoder,
    timm_config,
)
from sono.training.interop.encoder_vit import (
    clip_config,
    clip_state,
    head_width_of,
    plain_vit_config,
    plain_vit_state,
    unchunked,
)
from sono.training.model.resize import POSITIONS, resized_positions

Color = tuple[float, float, float]
# mean and standard deviation
IMAGENET: tuple[Color, Color] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Color, Color] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
UNKNOWN = "unknown: state what it has seen before you compare it on public data"
_NOT_KNOWN = "whether FETAL_PLANES_DB is among them is not known"
# By a part of the name of the file or its folder, without `-` and `_`; the first that fits.
SEEN = {
    "tinyusfm": (
        f"TinyUSFM: distilled from USFM on a selection of its ultrasound images; {_NOT_KNOWN}"
    ),
    "ultrafedfm": f"UltraFedFM: 1 M ultrasound images of 16 sites; {_NOT_KNOWN}",
    "fetalus": (
        "FetalUS-188K: the public fetal ultrasound sets together; it has SEEN FETAL_PLANES_DB"
    ),
    "usfmae": "USF-MAE: 46 public ultrasound sets; treat FETAL_PLANES_DB as seen",
    "openus": "OpenUS: 42 public ultrasound sets; it has SEEN FETAL_PLANES_DB",
    "usfm": f"USFM: over 2 M ultrasound images of many organs; {_NOT_KNOWN}",
}
_RELATIVE = "relative_position_bias_table"


@dataclass(frozen=True)
class Encoder:
    """A third-party vision encoder, with the names of the tower of `vision_cfg`."""

    layout: str  # what kind of file it was
    vision_cfg: dict[str, Any]  # open_clip's words
    state: dict[str, Tensor]  # without classifier, decoder and projection
    seen: str  # what it was trained on, one sentence
    path: Path
    # mean and standard deviation of the pixels in [0, 1] it was trained with
    pixels: tuple[Color, Color] = IMAGENET
    quick_gelu: bool = False  # open_clip sets it for both towers

    @property
    def origin(self) -> str:
        """What the record of a run says about it."""
        return f"{self.layout} encoder {self.path.name} ({self.seen})"


def read_encoder(path: Path) -> Encoder:
    """The encoder in the weight file `path`.

    Timm, MAE (UltraFedFM), TinyUSFM, BEiT (USFM), DINO v1-3 or CLIP. No code of the file is run.
    Raises SonoError if it is damaged, of another kind, or of a model of unknown size.
    """
    found = find_weights(path)
    try:
        return _encoder(found)
    except SonoError as error:
        raise SonoError(f"{path}: {error}") from error
    except (LookupError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SonoError(
            f"{path}: weights of an encoder are missing or have odd shapes ({error}); get it again"[
                :300
            ]
        ) from error


def load_encoder(visual: nn.Module, encoder: Encoder) -> None:
    """Load `encoder` into `visual`, a tower of its `vision_cfg`, before it has a mask stem.

    The tower may have any image size: positions are resized to its grid. Its projection keeps its
    values. SonoError lists what does not fit.
    """
    wanted = visual.state_dict()
    state = {name: _fitted(name, value, wanted.get(name)) for name, value in encoder.state.items()}
    load_strictly(visual, state, str(encoder.path), own=("proj", "head."))


def seen_by(path: Path) -> str:
    """What the model in `path` was trained on, by the name of the file or of its folder."""
    names = _names(path)
    return next((seen for part, seen in SEEN.items() if part in names), UNKNOWN)


def _encoder(found: FoundWeights) -> Encoder:
    weights = unchunked(found.weights)
    if found.architecture is not None:
        config, state = named_encoder(found.architecture, weights)
        return _timm(found, "timm", config, state)
    if "class_embedding" in weights:
        return _clip(found)
    if "embeddings.patch_embeddings.projection.weight" in weights:
        weights = beit_names(weights)
    if any(_RELATIVE in name for name in weights):
        table = next(value for name, value in weights.items() if name.endswith(_RELATIVE))
        config = _config(BEIT, weights, (isqrt(len(table) - 3) + 1) // 2, "avg")
        return _timm(found, "BEiT", config, beit_state(weights))
    if "storage_tokens" in weights:
        name = dinov3_name(weights)
        if name is None:
            raise SonoError(
                "a DINOv3 of another size than S, S+, B, L and H+, or of convolutions; choose one "
                "of these"
            )
        return _timm(found, "DINOv3", timm_config(name, 256, "token"), dinov3_state(weights, name))
    if "register_tokens" in weights or "blocks.0.mlp.w12.weight" in weights:
        names = DINOV2_REGISTERS if "register_tokens" in weights else DINOV2_GIANT
        config = _config(names, weights, isqrt(weights["pos_embed"].shape[1] - 1), "token")
        return _timm(found, "DINOv2", config, dinov2_state(weights))
    return _plain_vit(found, weights)


def _timm(
    found: FoundWeights, layout: str, config: dict[str, Any], state: Mapping[str, Tensor]
) -> Encoder:
    trunk = {f"trunk.{name}": value for name, value in state.items()}
    known = get_pretrained_cfg(config["timm_model_name"])
    pixels = (_color(known.mean), _color(known.std)) if known else IMAGENET
    return Encoder(layout, config, trunk, seen_by(found.path), found.path, pixels)


def _color(values: Sequence[float]) -> Color:
    red, green, blue = values
    return red, green, blue


def _config(
    names: Mapping[int, str], weights: Mapping[str, Tensor], grid: int, pool: str
) -> dict[str, Any]:
    """The `vision_cfg` of the one of `names`, by width, that has these weights.

    `grid` is the number of patches on a side.
    """
    width, _, patch, _ = weights["patch_embed.proj.weight"].shape
    if width not in names:
        known = ", ".join(map(str, names))
        raise SonoError(
            f"a transformer of width {width}; known widths of this layout: {known}; choose one of "
            "these"
        )
    return timm_config(names[width], grid * patch, pool)


def _clip(found: FoundWeights) -> Encoder:
    if "conv1_alpha.weight" in found.weights:
        raise SonoError(
            "a CLIP with a mask channel: use sono model import, and init = its name in [training]"
        )
    if found.quick_gelu is None:
        raise SonoError(
            "a CLIP that does not say whether it has QuickGELU: put its open_clip_config.json next "
            "to it, "
            'with {"model_cfg": {"quick_gelu": true or false}}'
        )
    config, state = clip_config(found.weights), clip_state(found.weights)
    return Encoder("CLIP", config, state, seen_by(found.path), found.path, CLIP, found.quick_gelu)


def _plain_vit(found: FoundWeights, weights: Mapping[str, Tensor]) -> Encoder:
    names = _names(found.path)
    head_width = head_width_of(weights, names, found.prefix)
    layout = "timm"
    if any(name.startswith("decoder_") for name in weights) or "ultrafedfm" in names:
        layout = "MAE"
    elif head_width == 16:
        layout = "TinyUSFM"
    elif "blocks.0.ls1.gamma" in weights:
        layout = "DINOv2"
    elif "backbone." in found.prefix:
        layout = "DINO"
    # as their own fine-tuning does
    averaged = layout in ("MAE", "TinyUSFM") or "fc_norm.weight" in weights
    config = plain_vit_config(weights, head_width, averaged)
    return Encoder(layout, config, plain_vit_state(weights), seen_by(found.path), found.path)


def _names(path: Path) -> str:
    resolved = path.absolute()
    return f"{resolved.parent.name}/{resolved.name}".lower().replace("-", "").replace("_", "")


def _fitted(name: str, value: Tensor, wanted: Tensor | None) -> Tensor:
    """`value` at the size of the tower where it is a grid of positions; anything else as it is."""
    if wanted is None or wanted.shape == value.shape or value.ndim < 2 or wanted.ndim < 2:
        return value
    if name.endswith(POSITIONS):
        resized = resized_positions(value, wanted.shape[-2])
        return value if resized is None else resized
    return _resized_biases(value, len(wanted)) if name.endswith(_RELATIVE) else value


def _resized_biases(table: Tensor, count: int) -> Tensor:
    """BEiT's biases [(2 w - 1)^2 + 3, heads] by relative position, resized to `count`.

    The class token has the last 3. Bicubic over a square of offsets: an offset keeps its meaning as
    a part of the side of the image. (timm's own geometric resizing indexes by a list, which newer
    versions of torch will interpret differently.)
    """
    side, new = isqrt(max(len(table) - 3, 0)), isqrt(count - 3)
    if table.shape[0] != side * side + 3:
        return table
    square = table[:-3].T.reshape(1, -1, side, side)
    resized = F.interpolate(square, (new, new), mode="bicubic", align_corners=False)
    return torch.cat([resized.reshape(-1, new * new).T, table[-3:]])
