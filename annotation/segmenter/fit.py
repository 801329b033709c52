"""Train a segmenter on the accepted masks of the train split: the stage `masks train`."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sono.annotation.segmenter.config import SegmenterConfig
from sono.annotation.segmenter.examples import Examples, as_input, load_examples, usable_masks
from sono.annotation.segmenter.files import SegmenterInfo, new_file, save_segmenter
from sono.annotation.segmenter.model import Segmenter
from sono.curation.core.console import progress, warn
from sono.curation.core.errors import SonoError, StoppedError, did_you_mean
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import training_rows
from sono.curation.dataset.split_checks import check_splits
from sono.curation.privacy.gate import check_privacy

LOOKS = 15  # at the validation frames during a run
WARM_UP = 0.05  # of the steps
LEAST_INSIDE = 0.2  # weight of the pixels inside of a mask in its cross-entropy
TURN, GROWTH, SHIFT, GAMMA = 15.0, 0.15, 0.08, 0.35  # degrees, and shares, of the augmentation


@dataclass(frozen=True)
class FitSummary:
    """A trained segmenter.

    `dice` are means over validation frames with a mask of the structure, by structure (of the whole
    square, before thresholds for small parts); empty without validation frames.
    """

    file: Path
    structures: tuple[str, ...]
    train_frames: int
    val_frames: int
    steps: int
    best_step: int
    dice: dict[str, float]
    mean_dice: float | None
    seconds: float


@dataclass(frozen=True)
class Learned:
    """A segmenter at its best step, and its mean Dice [structures] on validation frames."""

    model: Segmenter
    info: SegmenterInfo
    train_frames: int
    val_frames: int
    best_step: int
    dice: NDArray[np.float64]


def train_segmenter(
    workspace: Workspace,
    name: str,
    structures: Sequence[str] = (),
    hold_out: Sequence[str] = (),
    config: SegmenterConfig | None = None,
) -> FitSummary:
    """Train on accepted and edited masks of the train split; the val split picks the best step.

    All structures with masks are learned, or only `structures`. Frames that are related to the
    centers `hold_out` are not used. Raises SonoError if no frame or structure is left, or if the
    ImageNet weights are not installed; StoppedError after Ctrl-C, when nothing is kept.
    """
    started = time.perf_counter()
    config = config or workspace.settings("segmenter", SegmenterConfig)
    target = new_file(workspace, name)
    accepted = workspace.accepted_images()
    check_splits(accepted)
    frames = training_rows(accepted, hold_out).drop_duplicates("image_id")
    masks = usable_masks(workspace.masks(), frames)
    names = _structures(workspace, frames, masks, structures)
    taught = frames["image_id"].isin(masks.loc[masks["structure"].isin(names), "image_id"])
    if "val" not in set(frames.loc[taught, "split"]):
        warn(
            "no frame of the val split has a mask of these structures, so the last step is kept "
            "and nothing shows how good it is; raise val under [splits] in sono.toml"
        )
    try:
        found = learn(workspace, frames, masks, names, config, hold_out)
    except KeyboardInterrupt as end:
        raise StoppedError(
            f"interrupted: a segmenter is written at its last step, so nothing of runs/{name} was "
            "kept; run the same command again to begin at step 0 (--steps makes it shorter)"
        ) from end
    save_segmenter(target, found.model.state_dict(), found.info)
    check_privacy(workspace)
    means = dict(zip(names, found.dice.round(4).tolist(), strict=True))
    scores = {one: score for one, score in means.items() if not math.isnan(score)}
    mean = round(float(np.nanmean(found.dice)), 4) if scores else None
    return FitSummary(
        target, tuple(names), found.train_frames, found.val_frames, config.steps, found.best_step,
        scores, mean, round(time.perf_counter() - started, 1),
    )  # fmt: skip


def learn(
    workspace: Workspace,
    frames: pd.DataFrame,
    masks: pd.DataFrame,
    structures: Sequence[str],
    config: SegmenterConfig,
    hold_out: Sequence[str] = (),
) -> Learned:
    """Train on the `masks` of those `frames` that the column `split` puts into train.

    Those in val pick the best step; without them it is the last one.
    """
    train, val = (
        load_examples(
            workspace, frames[frames["split"] == split], masks, structures, config.image_size
        )
        for split in ("train", "val")
    )
    torch.manual_seed(config.seed)
    model = Segmenter(len(structures))
    model.start_from_imagenet()
    info = SegmenterInfo(
        structures=list(structures),
        image_size=config.image_size,
        planes={plane: list(found) for plane, found in train.planes.items()},
        image_ids_seen=sorted(frames.loc[frames["split"].isin(["train", "val"]), "image_id"]),
        held_out=list(hold_out),
        settings=config.model_dump(),
    )
    best, best_step, dice = -1.0, config.steps, np.full(len(structures), np.nan)
    weights = model.state_dict()
    for step in _fit(model, train, config):
        found = mean_dice(model, val)
        if len(val) and np.nanmean(found) > best:
            best, best_step, dice = float(np.nanmean(found)), step, found
            weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)
    return Learned(model.eval(), info, len(train), len(val), best_step, dice)


def _structures(
    workspace: Workspace, frames: pd.DataFrame, masks: pd.DataFrame, wanted: Sequence[str]
) -> list[str]:
    """The structures to learn: those with masks in the train split."""
    train = set(frames.loc[frames["split"] == "train", "image_id"])
    known = sorted(set(masks.loc[masks["image_id"].isin(train), "structure"]))
    if not known:
        raise SonoError(
            f"{workspace.root}: no accepted mask in the train split; import masks, or accept "
            "proposals with `sono masks review`"
        )
    for name in wanted:
        if name not in known:
            raise SonoError(
                f"--structure '{name}': no accepted mask in the train split has it"
                f"{did_you_mean(name, known)}"
            )
    return sorted(set(wanted)) or known


def _fit(model: Segmenter, train: Examples, config: SegmenterConfig) -> Iterator[int]:
    """Train; yields the number of steps whenever the model is to be looked at, and at the end."""
    trunk = list(model.trunk.parameters())
    own = {id(one) for one in trunk}
    rest = [one for one in model.parameters() if id(one) not in own]
    rates = [config.rate * config.trunk_rate, config.rate]
    groups = [{"params": part, "lr": rate} for part, rate in zip((trunk, rest), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    draw = torch.Generator().manual_seed(config.seed)
    batches = _batches(len(train), config.batch_size, draw)
    every = max(1, config.steps // LOOKS)
    with progress("segmenter", config.steps) as advance:
        for step in range(config.steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * warmed_cosine(step, config.steps, WARM_UP)
            model.train()
            loss = segmentation_loss(model, train, next(batches), draw)
            if not torch.isfinite(loss):
                raise SonoError(
                    f"the loss at step {step + 1} is not finite; set a lower `rate` than "
                    f"{config.rate} under [segmenter] in sono.toml"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            advance(note=f"loss {float(loss.detach()):.3f}")
            if (step + 1) % every == 0 or step + 1 == config.steps:
                yield step + 1


def warmed_cosine(step: int, steps: int, warm_up: float) -> float:
    """The share of the learning rate at a step: a linear rise, then half a cosine to zero.

    `warm_up` is the share of the steps that the rise takes.
    """
    warm = max(1, round(warm_up * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _batches(count: int, size: int, draw: torch.Generator) -> Iterator[NDArray[np.intp]]:
    """Numbers of frames without end: each frame once per pass, in a new order."""
    order: list[int] = []
    while True:
        while len(order) < size:
            order += torch.randperm(count, generator=draw).tolist()
        batch, order = order[:size], order[size:]
        yield np.array(batch, np.intp)


def segmentation_loss(
    model: Segmenter, examples: Examples, numbers: NDArray[np.intp], draw: torch.Generator
) -> Tensor:
    """`masked_loss` of augmented frames."""
    frames = as_input(examples.frames[numbers])
    masks = torch.from_numpy(examples.masks_of(numbers).astype(np.float32))
    frames, masks = shaken(frames, masks, draw)
    known = torch.from_numpy(examples.known[numbers].astype(np.float32))
    drawn = torch.from_numpy(examples.drawn[numbers].astype(np.float32))
    return masked_loss(model(frames), masks, known, drawn)


def masked_loss(logits: Tensor, masks: Tensor, known: Tensor, drawn: Tensor) -> Tensor:
    """1 - Dice and cross-entropy, over what is drawn and what is absent.

    In the cross-entropy of a mask the pixels inside of it have at least a fifth of the weight:
    otherwise that of a small structure is that of the background, and it is never found. What is
    drawn and what is absent have means of their own, as a plane shows few of all structures.

    Logits and masks are [n, structures, S, S], `known` and `drawn` [n, structures] of 0 and 1.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    inside, outside = (_mean(entropy, part, (2, 3)) for part in (masks, 1 - masks))
    share = torch.sigmoid(logits)
    common = (share * masks).sum((2, 3))
    dice = (2 * common + 1) / (share.sum((2, 3)) + masks.sum((2, 3)) + 1)
    part = masks.mean((2, 3)).clamp(min=LEAST_INSIDE)
    shown = _mean(part * inside + (1 - part) * outside + 1 - dice, drawn)
    return shown + _mean(outside, known * (1 - drawn))


def _mean(values: Tensor, weights: Tensor, over: tuple[int, ...] = (0, 1)) -> Tensor:
    return (values * weights).sum(over) / weights.sum(over).clamp(min=1)


def shaken(frames: Tensor, masks: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames and masks turned, scaled, shifted and mirrored together; frames of another gamma."""
    count = len(frames)
    low, high = torch.rand(2, count, 3, generator=draw) * 2 - 1
    turn = torch.deg2rad(low[:, 0] * TURN)
    size = 1 + low[:, 1] * GROWTH
    mirror = torch.where(high[:, 0] < 0, -1.0, 1.0)
    rows = torch.stack([torch.cos(turn) * mirror, -torch.sin(turn), low[:, 2] * SHIFT], dim=1)
    columns = torch.stack([torch.sin(turn) * mirror, torch.cos(turn), high[:, 1] * SHIFT], dim=1)
    theta = torch.stack([rows, columns], dim=1) * size[:, None, None]
    grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
    moved, carried = (
        F.grid_sample(one, grid, mode="bilinear", align_corners=False) for one in (frames, masks)
    )
    gamma = torch.exp(high[:, 2] * GAMMA)[:, None, None, None]
    return moved.clamp(0, 1) ** gamma, carried


@torch.inference_mode()
def mean_dice(model: Segmenter, examples: Examples, batch: int = 16) -> NDArray[np.float64]:
    """The mean Dice of each structure [structures] over frames with a mask of it; NaN for none."""
    model.eval()
    total = np.zeros(examples.drawn.shape[1])
    for start in range(0, len(examples), batch):
        numbers = np.arange(start, min(start + batch, len(examples)))
        frames = as_input(examples.frames[numbers])
        found = (model(frames) > 0).numpy()
        truth = examples.masks_of(numbers)
        common = (found & truth).sum((2, 3))
        dice = 2 * common / np.maximum(1, found.sum((2, 3)) + truth.sum((2, 3)))
        total += np.where(examples.drawn[numbers], dice, 0).sum(axis=0)
    count = examples.drawn.sum(axis=0)
    return np.where(count > 0, total / np.maximum(1, count), np.nan)
