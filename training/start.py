"""What a run begins with: a new model, or the towers of another run; and which of its weights learn."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from sono.curation.console import talk
from sono.curation.errors import SonoError, did_you_mean
from sono.curation.workspace import Workspace
from sono.training.architectures import LOG_10, START_BIAS, ModelConfig
from sono.training.checkpoints import RunInfo, load_model
from sono.training.config import TrainingConfig
from sono.training.distributed import is_first
from sono.training.freeze import set_trainable
from sono.training.image_weights import FILES, load_imagenet
from sono.training.lora import add_lora
from sono.training.model import MaskClip
from sono.training.objectives import starting_bias
from sono.training.resize import resized

UNKNOWN_WOMEN = "made in a study with another key, so its women are known here by their frames alone"
OTHER_KEYS = "several"  # women of studies whose keys differ
DEFAULT = str(TrainingConfig.model_fields["model"].default)  # which says nothing beside `init`
DEFAULT_TEXT = str(TrainingConfig.model_fields["text"].default)  # likewise
CLIP_TEXT = "clip"  # CLIP's transformer, from scratch
SCRATCH, IMAGENET = "scratch", "imagenet"
CLIP_SCALE = 2 * LOG_10  # the logarithm of 100, where CLIP's softmax ends


@dataclass(frozen=True)
class Start:
    """The configuration to build, or the model of the run `init` with the record of what it has seen."""

    config: ModelConfig
    model: MaskClip | None = None
    info: RunInfo | None = None


def start_of(workspace: Workspace, config: TrainingConfig) -> Start:
    """A new architecture, or the model of `config.init` at the image size asked for; SonoError where that cannot be."""
    if config.init is None:
        return Start(
            ModelConfig(
                name=config.model,
                image_size=config.image_size,
                text_tower=None if config.text == CLIP_TEXT else config.text,
                context_length=config.context_length,
                region_pool=config.region_pool,
                text_bias=True,
            )
        )
    if config.text not in (DEFAULT_TEXT, CLIP_TEXT):
        raise SonoError(f"run '{config.init}' brings its own text tower; leave text out of [training]")
    model, info = load_model(workspace.runs / config.init)
    if config.model not in (DEFAULT, model.config.name):
        raise SonoError(
            f"run '{config.init}' brings its towers ({model.config.name}); leave model '{config.model}' out"
        )
    has, asked = model.context_length, config.context_length
    if asked is not None and asked != has:
        raise SonoError(f"run '{config.init}' has context_length {has}, {asked} is asked; leave it out of [training]")
    if config.image_size is not None and config.image_size != model.image_size:
        model = resized(model, config.image_size)
    if info.key_check not in ("", workspace.study().key_check) and is_first():
        talk.print(f"{config.init}: {UNKNOWN_WOMEN}; an evaluation cannot leave all of them out", markup=False)
    return Start(model.config, model, info)


def pretrained(config: TrainingConfig) -> bool:
    """Whether a new model's vision tower starts from ImageNet weights; SonoError where it is asked and cannot."""
    start = config.start or (IMAGENET if config.model in FILES else SCRATCH)
    if start not in (IMAGENET, SCRATCH):
        raise SonoError(f"unknown start '{start}'{did_you_mean(start, [IMAGENET, SCRATCH])}")
    if start == IMAGENET and config.model not in FILES:
        raise SonoError(
            f"no ImageNet weights are known for model '{config.model}'; "
            f'choose {", ".join(FILES)}, or start = "scratch"'
        )
    return start == IMAGENET


def new_model(config: TrainingConfig, architecture: ModelConfig) -> MaskClip:
    """A model to begin with, from the weights that `start` names."""
    if not pretrained(config):
        return MaskClip(architecture)

    def load(visual: nn.Module) -> None:
        load_imagenet(visual.get_submodule("trunk"), config.model)

    return MaskClip(architecture, prepare_vision=load)


def prepare(model: MaskClip, config: TrainingConfig, pairs: int, published: bool = False) -> MaskClip:
    """Set the scale and bias that a run on so many `pairs` starts with; freeze what does not learn, add adapters.

    `published`: the weights came from others. With adapters the matrices under them never learn.
    """
    if config.lora_rank and config.trainable != "heads":
        raise SonoError(f"lora_rank {config.lora_rank} goes with trainable = \"heads\", not '{config.trainable}'")
    reads = config.text != CLIP_TEXT and config.trainable == "vision"  # a BERT comes with what it has learned
    if config.init is None and config.trainable != "all" and not reads and not pretrained(config):
        talk.print(f'trainable = "{config.trainable}" without init: what is frozen stays random')
    with torch.no_grad():
        untold = float(model.logit_bias) == START_BIAS and math.isclose(float(model.logit_scale), LOG_10, rel_tol=1e-6)
        met = min(config.batch_size // config.accumulate, pairs)
        model.logit_bias.fill_(starting_bias(config, float(model.logit_bias), met))
        if published and config.objective == "softmax" and untold:  # imported as the sigmoid wants it
            model.logit_scale.fill_(CLIP_SCALE)
    set_trainable(model, config.trainable, config.text_trainable)
    if config.lora_rank:
        add_lora(model, config.lora_rank, config.lora_alpha)
    return model


def carried(info: RunInfo, before: RunInfo | None) -> RunInfo:
    """The record of a run that also knows what the run it began with had seen: an evaluation refuses both."""
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
