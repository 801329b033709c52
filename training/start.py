"""The start of a run: a new model or that of another run, and which weights are trained."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sono.annotation.weights.image_weights import FILES, load_imagenet
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.workspace import Workspace
from sono.training.config import CLIP_TEXT, IMAGENET, SCRATCH, TrainingConfig
from sono.training.interop.encoders import Encoder, load_encoder, read_encoder
from sono.training.model.architectures import LOG_10, SIZES, START_BIAS, ModelConfig
from sono.training.model.checkpoints import MODEL, RunInfo, load_model, load_weights
from sono.training.model.freeze import set_trainable
from sono.training.model.lora import add_lora
from sono.training.model.mask_clip import MaskClip
from sono.training.model.resize import resized
from sono.training.objectives.objective import starting_bias
from sono.training.runtime.distributed import is_main_process

UNKNOWN_PATIENTS = (
    "trained under another pseudonym key: its patients can be recognized by identical frames only"
)
OTHER_KEYS = "several"  # patients of studies whose keys differ
DEFAULT = str(TrainingConfig.model_fields["model"].default)  # has no effect together with `init`
DEFAULT_TEXT = str(TrainingConfig.model_fields["text"].default)  # likewise
CLIP_SCALE = 2 * LOG_10  # the logarithm of 100, where CLIP's softmax ends


@dataclass(frozen=True)
class Start:
    """The configuration of a new model, with an encoder to load, or the model of `init`.

    `info` is the record of the run `init`.
    """

    config: ModelConfig
    model: MaskClip | None = None
    info: RunInfo | None = None
    encoder: Encoder | None = None


def start_of(workspace: Workspace, config: TrainingConfig, saved: Path | None = None) -> Start:
    """A new architecture, or the model of `config.init` at the requested image size.

    Raises SonoError for settings that do not fit the model. A resumed run has all weights in its
    checkpoint `saved`, so the model that it started from may be missing; but adapters are stored
    without the weights that they adapt.
    """
    if saved is not None and not config.lora_rank and (saved / MODEL).is_file():
        model = load_weights(saved)
        return Start(model.config, model)
    if config.init is None:
        encoder = _encoder(workspace, config)
        new = ModelConfig(
            name=config.model,
            image_size=config.image_size,
            text_tower=None if config.text == CLIP_TEXT else config.text,
            context_length=config.context_length,
            region_pool=config.region_pool,
            text_bias=True,
        )
        return Start(new if encoder is None else _around(encoder, new), encoder=encoder)
    if config.start is not None:
        raise SonoError(f"run '{config.init}' has its own weights; leave start out of [training]")
    model, info = load_model(workspace.runs / config.init)
    if config.model not in (DEFAULT, model.config.name):
        raise SonoError(
            f"run '{config.init}' has its own towers ({model.config.name}); leave model "
            f"'{config.model}' out"
        )
    if config.text not in (DEFAULT_TEXT, model.config.text_tower or CLIP_TEXT):
        raise SonoError(
            f"run '{config.init}' has its own text tower; leave text '{config.text}' out"
        )
    has, asked = model.context_length, config.context_length
    if asked is not None and asked != has:
        raise SonoError(
            f"run '{config.init}' has context_length {has}, not {asked}; leave it out of [training]"
        )
    if config.image_size is not None and config.image_size != model.image_size:
        model = resized(model, config.image_size)
    if info.key_check not in ("", workspace.study().key_check) and is_main_process():
        stderr_console.print(
            f"{config.init}: {UNKNOWN_PATIENTS}; an evaluation cannot exclude all of them",
            markup=False,
        )
    return Start(model.config, model, info)


def pretrained(config: TrainingConfig) -> bool:
    """Whether the vision tower of a new model is pretrained, on ImageNet or as an encoder."""
    return config.start != SCRATCH and (config.start is not None or config.model in FILES)


def new_model(
    config: TrainingConfig, architecture: ModelConfig, encoder: Encoder | None = None
) -> MaskClip:
    """A new model, with the weights that `start` names."""

    def load(visual: nn.Module) -> None:
        if encoder is not None:
            load_encoder(visual, encoder)
        elif pretrained(config):
            load_imagenet(visual.get_submodule("trunk"), config.model)

    return MaskClip(architecture, prepare_vision=load)


def _encoder(workspace: Workspace, config: TrainingConfig) -> Encoder | None:
    """The encoder that `start` is the path of.

    Raises SonoError if it is neither a known name nor a file.
    """
    start = config.start
    if start is None or start == SCRATCH or (start == IMAGENET and config.model in FILES):
        return None
    if start == IMAGENET:
        raise SonoError(
            f"no ImageNet weights are known for model '{config.model}'; "
            f'choose {", ".join(FILES)}, or start = "scratch"'
        )
    path = workspace.place(start)
    if not path.is_file():
        known = [IMAGENET, SCRATCH]
        what = "not a file" if path.exists() else f"no such file{did_you_mean(start, known)}"
        raise SonoError(
            f"start '{start}': {what}; give {' or '.join(known)}, or the weight file of an encoder "
            "(a run: --init)"
        )
    if config.model != DEFAULT:
        raise SonoError(
            f"start '{start}' has its own vision tower; leave model '{config.model}' out"
        )
    return read_encoder(path)


def _around(encoder: Encoder, new: ModelConfig) -> ModelConfig:
    """A configuration with the tower of `encoder` and the pixel statistics of its training."""
    sizes = SIZES[DEFAULT]
    assert isinstance(sizes, dict)
    architecture = sizes | {"vision_cfg": encoder.vision_cfg, "quick_gelu": encoder.quick_gelu}
    mean, spread = encoder.pixels
    tower = {"name": encoder.path.stem, "architecture": architecture}
    return new.model_copy(update=tower | {"channels": 3, "pixel_mean": mean, "pixel_std": spread})


def configure_model(
    model: MaskClip, config: TrainingConfig, pairs: int, published: bool = False
) -> MaskClip:
    """Set the initial scale and bias, freeze what is not trained, and add adapters.

    `pairs` is the number of training pairs; `published`: the weights are third-party ones. With
    adapters, the matrices under them are never trained.
    """
    if config.lora_rank and config.trainable != "heads":
        raise SonoError(
            f"lora_rank {config.lora_rank} needs trainable = \"heads\", not '{config.trainable}'"
        )
    # a BERT is pretrained
    reads = config.text != CLIP_TEXT and config.trainable == "vision"
    if config.init is None and config.trainable != "all" and not reads and not pretrained(config):
        stderr_console.print(
            f'trainable = "{config.trainable}" without init: the frozen weights stay random'
        )
    with torch.no_grad():
        untrained = float(model.logit_bias) == START_BIAS and math.isclose(
            float(model.logit_scale), LOG_10, rel_tol=1e-6
        )
        compared = min(config.batch_size // config.accumulate, pairs)
        if config.region_weight:  # whole frames and regions are not compared with each other
            compared = round(compared * max(config.global_fraction, 1 - config.global_fraction))
        model.logit_bias.fill_(starting_bias(config, float(model.logit_bias), compared))
        # the import sets the scale for the sigmoid loss
        if published and config.objective == "softmax" and untrained:
            model.logit_scale.fill_(CLIP_SCALE)
    set_trainable(model, config.trainable, config.text_trainable)
    if config.lora_rank:
        add_lora(model, config.lora_rank, config.lora_alpha)
    return model


def inherit_seen(info: RunInfo, before: RunInfo | None) -> RunInfo:
    """Add to the record of a run what the run that it started from has seen.

    An evaluation excludes both.
    """
    if before is None:
        return info
    return replace(
        info,
        centers_seen=tuple(sorted({*info.centers_seen, *before.centers_seen})),
        patients_seen=info.patients_seen | before.patients_seen,
        image_ids_seen=info.image_ids_seen | before.image_ids_seen,
        origin=before.origin,
        key_check=info.key_check if before.key_check in ("", info.key_check) else OTHER_KEYS,
    )
