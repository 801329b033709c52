"""Fine-tuning: all weights of an image encoder are trained with a linear head, on labels alone."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sono.annotation.segmenter.fit import warmed_cosine
from sono.curation.core.console import Advance, progress
from sono.evaluation.config import FineTuneConfig
from sono.evaluation.probes.classes import (
    FINE_TUNED,
    FINE_TUNED_SHUFFLED,
    FINE_TUNED_UNTRAINED,
)
from sono.evaluation.probes.classify import Labels, Reals, macro_accuracy
from sono.evaluation.probes.encoder import random_twin
from sono.evaluation.probes.features import pooled_and_embedded, squares_of
from sono.evaluation.probes.parts import Part, Rows, shuffled
from sono.evaluation.probes.study import Probe
from sono.training.config import AugmentConfig, TrainingConfig
from sono.training.data.augment import augment, carries_side
from sono.training.model.mask_clip import MaskClip

WARMUP = 0.1  # of all steps
HELD = 256  # frames of a batch without gradients


@dataclass(frozen=True)
class Examples:
    """Frames [n, S, S] with the mask that the encoder is given and their label.

    `may_flip` [n] is False where a mirrored frame would have another label.
    """

    squares: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None  # None: the whole square
    labels: Labels
    classes: int
    may_flip: NDArray[np.bool_]

    def inputs(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Frames [rows, 1, S, S] in [0, 1] and their masks."""
        image = torch.from_numpy(self.squares[rows]).float().div_(255)[:, None]
        if self.masks is None:
            return image, torch.ones_like(image)
        return image, torch.from_numpy(self.masks[rows]).float()[:, None]


class TunedEncoder(nn.Module):
    """A copy of an encoder with a linear head on its standardized features."""

    mean: Tensor
    sd: Tensor

    def __init__(self, model: MaskClip, frozen: Reals, classes: int, with_mask: bool) -> None:
        """`frozen` [n, width] are the features of the frames to fit on, before any training."""
        super().__init__()
        self.model = copy.deepcopy(model)
        self.with_mask = with_mask
        self.head = nn.Linear(frozen.shape[1], classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.from_numpy(frozen.mean(axis=0)))
        self.register_buffer("sd", torch.from_numpy(frozen.std(axis=0) + 1e-6))
        pool = self.model.region_pool
        self.weights = [
            *self.model.towers.visual.parameters(),
            *(pool.parameters() if pool is not None else ()),
            *self.head.parameters(),
        ]
        for weight in self.weights:
            weight.requires_grad_(True)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Logits [n, classes]."""
        device = self.mean.device
        pooled, embedded = pooled_and_embedded(self.model, image.to(device), mask.to(device))
        features = torch.cat([pooled, embedded], dim=1) if self.with_mask else pooled
        logits: Tensor = self.head((features - self.mean) / self.sd)
        return logits


@dataclass(frozen=True)
class Tuned:
    """The answers [tested] of the rate and epoch with the best macro accuracy on validation."""

    answers: Labels
    rate: float
    epoch: int
    val: float


@dataclass(frozen=True)
class Tuner:
    """Fine-tunes copies of `model`, whose frozen features [n, width] are known."""

    model: MaskClip
    frozen: Reals
    examples: Examples
    how: FineTuneConfig
    augmentation: AugmentConfig
    seed: int
    advance: Advance

    def best(self, part: Part) -> Tuned:
        """The answers at the best rate and epoch; of equal ones, the first."""
        best: Tuned | None = None
        for rate in self.how.learning_rates:
            for epoch, encoder in enumerate(self.epochs(part.train, rate), 1):
                answers = self._answers(encoder, part.val)
                val = macro_accuracy(answers, self.examples.labels[part.val])
                if best is None or val > best.val:
                    best = Tuned(self._answers(encoder, part.test), rate, epoch, val)
        assert best is not None  # there is a rate and an epoch
        return best

    def epochs(self, rows: Rows, rate: float) -> Iterator[TunedEncoder]:
        """The encoder after each epoch of one training on `rows`."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            frozen = np.asarray(self.frozen[rows], np.float32)
            with_mask = self.examples.masks is not None
            encoder = TunedEncoder(self.model, frozen, self.examples.classes, with_mask)
            encoder.to(self.model.logit_scale.device)
            size = min(self.how.batch_size, len(rows))
            steps = self.how.epochs * (len(rows) // size)
            adam = torch.optim.AdamW(encoder.weights, rate, weight_decay=self.how.weight_decay)
            plan = torch.optim.lr_scheduler.LambdaLR(
                adam, lambda step: warmed_cosine(step, steps, WARMUP)
            )
            balance = _balance(self.examples.labels[rows], self.examples.classes)
            dice = torch.Generator().manual_seed(self.seed)
            rng = np.random.default_rng(self.seed)
            for _ in range(self.how.epochs):
                order = rng.permutation(rows)
                encoder.train()
                for start in range(0, len(order) - size + 1, size):
                    adam.zero_grad()
                    self._loss(encoder, order[start : start + size], balance, dice).backward()
                    nn.utils.clip_grad_norm_(encoder.weights, 1.0)
                    adam.step()
                    plan.step()
                self.advance(len(order))
                yield encoder.eval()

    def _loss(
        self, encoder: TunedEncoder, rows: Rows, balance: Tensor, dice: torch.Generator
    ) -> Tensor:
        may_flip = torch.from_numpy(self.examples.may_flip[rows])
        moved = augment(*self.examples.inputs(rows), may_flip, self.augmentation, dice)
        logits, labels = encoder(*moved), torch.from_numpy(self.examples.labels[rows])
        return F.cross_entropy(logits, labels.to(logits.device), balance.to(logits.device))

    @torch.no_grad()
    def _answers(self, encoder: TunedEncoder, rows: Rows) -> Labels:
        starts = range(0, len(rows), HELD)
        parts = [encoder(*self.examples.inputs(rows[start : start + HELD])) for start in starts]
        return np.asarray(torch.cat(parts).argmax(1).cpu().numpy(), np.int64)


def fine_tune(probe: Probe) -> tuple[dict[str, Labels], dict[str, list[dict[str, Any]]]]:
    """The answers [tested] by fine-tuning and its controls, and what was chosen in each part.

    The controls are the same encoder with random weights, and labels in random order at the rate
    that was chosen.
    """
    data, how, seed = probe.labeled, probe.settings.fine_tune, probe.settings.seed
    examples = _examples(probe)
    rng = np.random.default_rng(seed)
    found: dict[str, list[Tuned]] = {
        FINE_TUNED: [],
        FINE_TUNED_UNTRAINED: [],
        FINE_TUNED_SHUFFLED: [],
    }
    runs = 2 * len(how.learning_rates) + 1
    frames = sum(len(part.train) for part in data.parts)
    with progress("fine-tuning", frames * how.epochs * runs) as advance:
        own = Tuner(
            probe.probed.model, probe.used, examples, how, _augmentation(probe), seed, advance
        )
        random = replace(own, model=random_twin(probe.probed), frozen=probe.untrained)
        for part in data.parts:
            best = own.best(part)
            found[FINE_TUNED].append(best)
            found[FINE_TUNED_UNTRAINED].append(random.best(part))
            same_rate = how.model_copy(update={"learning_rates": (best.rate,)})
            others = replace(examples, labels=shuffled(data.labels, part, rng))
            found[FINE_TUNED_SHUFFLED].append(
                replace(own, examples=others, how=same_rate).best(part)
            )
    answers: dict[str, Labels] = {}
    chosen: dict[str, list[dict[str, Any]]] = {}
    for name, each in found.items():
        every = np.zeros(len(data.labels), np.int64)
        for part, one in zip(data.parts, each, strict=True):
            every[part.test] = one.answers
        answers[name] = every[data.tested]
        chosen[name] = [
            {"learning_rate": one.rate, "epoch": one.epoch, "validation": one.val} for one in each
        ]
    return answers, chosen


def _examples(probe: Probe) -> Examples:
    data, side = probe.labeled, probe.probed.model.image_size
    squares, masks = squares_of(probe.workspace, probe.frames, probe.masks, side)
    name_of = probe.workspace.planes().title
    fixed = np.array([carries_side(name_of(name)) for name in data.names])
    return Examples(squares, masks, data.labels, len(data.names), ~fixed[data.labels])


def _augmentation(probe: Probe) -> AugmentConfig:
    """That of the study's training; masks stay those that the encoder is probed with."""
    own = probe.workspace.settings("training", TrainingConfig).augment
    return own.model_copy(update={"mask_stray": 0.0})


def _balance(labels: Labels, classes: int) -> Tensor:
    """Weights [classes] that give every class of `labels` the same weight in total."""
    counts = np.bincount(labels, minlength=classes)
    return torch.from_numpy(len(labels) / (classes * np.maximum(counts, 1))).float()
