"""The image encoder that is probed: that of a run, or third-party weights by path."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sono.annotation.weights.image_weights import FILES, PIXEL_MEAN, PIXEL_STD, SEEN
from sono.curation.core.atomic import file_sha256, sha256
from sono.curation.core.workspace import Workspace
from sono.evaluation.selection import Seen
from sono.training.config import CLIP_TEXT, IMAGENET, SCRATCH, TrainingConfig
from sono.training.model.checkpoints import (
    TEXT,
    WEIGHTS,
    chosen_checkpoint,
    find_run,
    load_model,
)
from sono.training.model.mask_clip import MaskClip
from sono.training.start import UNKNOWN_PATIENTS, new_model, start_of


@dataclass(frozen=True)
class Subject:
    """What is probed.

    Attributes:
        label: As in "run demo" or "encoder usfm.pth".
        folder: Where its features and results are kept, below `runs`.
        seen: The frames and patients of its training that this study knows.
        notes: What else it has seen, in sentences.
    """

    label: str
    folder: Path
    seen: Seen
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Probed(Subject):
    """An encoder.

    Attributes:
        model: The towers; the text tower is untrained without `template`.
        key: Identifies its weights.
        template: The captions of its training; "" for an encoder without texts.
        untrained: Builds the same architecture with random weights.
    """

    model: MaskClip
    key: str
    template: str
    untrained: Callable[[], MaskClip]


def find_probed(workspace: Workspace, run: str | None, encoder: str | None) -> Probed:
    """The encoder of `run` (None: the newest one), or of the weights `encoder`.

    `encoder` is "imagenet", "scratch", or a file that `start` of [training] reads.
    """
    return _of_run(workspace, run) if encoder is None else _of_weights(workspace, encoder)


def _of_run(workspace: Workspace, run: str | None) -> Probed:
    folder = find_run(workspace, run)
    model, info = load_model(folder)
    checkpoint = chosen_checkpoint(folder)
    text = checkpoint / TEXT
    notes = []
    if info.origin:
        notes.append(
            f"the run began with a published model, {info.origin}: what that one was trained on "
            "is not known"
        )
    if info.key_check not in ("", workspace.study().key_check):
        notes.append(f"the run was {UNKNOWN_PATIENTS}: the tested patients may be among them")
    return Probed(
        f"run {'/'.join(folder.relative_to(workspace.runs).parts)} ({checkpoint.name})",
        folder,
        Seen(frozenset(info.centers_seen), info.patients_seen, info.image_ids_seen, info.origin),
        tuple(notes),
        model,
        file_sha256(checkpoint / WEIGHTS),
        info.template,
        lambda: MaskClip(model.config, text if text.is_dir() else None),
    )


def _of_weights(workspace: Workspace, encoder: str) -> Probed:
    config = TrainingConfig.model_validate(
        {"start": encoder, "text": CLIP_TEXT, "region_pool": False}
    )
    start = start_of(workspace, config)
    architecture = start.config
    if encoder == IMAGENET:
        known = {"pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD}
        architecture = architecture.model_copy(update=known)
    random = config.model_copy(update={"start": SCRATCH})
    if start.encoder is not None:
        path, seen = start.encoder.path, start.encoder.seen
        name, key = path.name, file_sha256(path)
    else:
        name = f"{config.model} {encoder}"
        seen = SEEN if encoder == IMAGENET else "random weights: it has seen nothing"
        key = FILES[config.model].sha256 if encoder == IMAGENET else "random"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model(config, architecture, start.encoder)
    return Probed(
        f"encoder {name}",
        workspace.runs / f"encoder {name}",
        Seen(),
        (f"the encoder was trained elsewhere; {seen}",),
        model.eval(),
        sha256(f"{key} {architecture.model_dump_json()}".encode()),
        "",
        lambda: new_model(random, architecture),
    )


def random_twin(probed: Probed) -> MaskClip:
    """The architecture of `probed` with random weights, always the same ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return probed.untrained().to(probed.model.logit_scale.device).eval()
