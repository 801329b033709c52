"""The schedule of a run: rows, pair mixture and learning rate of each step.

They depend only on the settings and the number of the step.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from torch import Tensor

from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch, PairMixture, PairSet, draw_batch, sampling_weights
from sono.training.data.sampling import epoch_rows, seeded
from sono.training.data.shards import Shards
from sono.training.runtime.distributed import get_rank, get_world_size

LEAST = 2  # pairs of a kind that are compared with each other
# more than a run has epochs: the draws of region pairs have separate numbers
REGION_DRAWS = 100_000


@dataclass(frozen=True)
class Plan:
    """All steps of a run over `pairs`."""

    pairs: PairSet
    config: TrainingConfig
    weights: Tensor = field(init=False)
    steps_per_epoch: int = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        size = min(config.batch_size, len(self.pairs))
        check_parts(size, config.accumulate, 2 if separate(self.pairs, config) else 1)
        weights = sampling_weights(
            self.pairs, config.plane_balance, config.center_balance, config.patient_balance
        )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "steps_per_epoch", len(self.places(0)))

    @property
    def total(self) -> int:
        """Steps of the complete run."""
        return self.starts[-1]

    @property
    def starts(self) -> list[int]:
        """The first step of each epoch, and the end."""
        return [epoch * self.steps_per_epoch for epoch in range(self.config.epochs + 1)]

    def places(self, epoch: int) -> list["Places"]:
        """The batches of `epoch`, without the remainder."""
        config, pairs = self.config, self.pairs
        if separate(pairs, config):
            return _separate_places(pairs, self.weights, config, epoch)
        places = pairs.places(config.regions_per_frame)
        return [
            Places(rows)
            for rows in epoch_rows(self.weights, config.batch_size, config.seed, epoch, places)
        ]

    def batches(self, epoch: int, done: int) -> Iterator[tuple[int, Batch]]:
        """The steps of `epoch` after step `done`, each with this process's part of its batch."""
        places, first = self.places(epoch), epoch * self.steps_per_epoch
        for step in range(max(done, first), first + len(places)):
            mixture = PairMixture.at(step / self.total, self.config)
            rows, regional = places[step - first]
            own = local_indices(len(rows), self.config.accumulate)
            yield (
                step,
                draw_batch(
                    self.pairs, rows, mixture, seeded(self.config.seed, step + 1), own, regional
                ),
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(step, self.total, self.config)


class Places(NamedTuple):
    """The frames of a batch, and which of them are region pairs.

    None: drawn by `global_fraction`.
    """

    rows: list[int]
    regional: list[bool] | None = None


def separate(pairs: PairSet | Shards, config: TrainingConfig) -> bool:
    """Whether each batch contains a fixed number of region pairs, apart from whole frames."""
    return config.region_weight > 0 and config.global_fraction < 1 and pairs.regions > 0


def regional_places(size: int, config: TrainingConfig) -> list[bool]:
    """Which places of a part of `size` pairs hold regions: the last ones.

    Each kind has at least two, or one if other processes have more: a pair without another one to
    compare with learns nothing.
    """
    least = LEAST if get_world_size() == 1 else 1
    whole = min(max(least, round(size * config.global_fraction)), size - least)
    return [False] * whole + [True] * (size - whole)


def _separate_places(
    pairs: PairSet, weights: Tensor, config: TrainingConfig, epoch: int
) -> list[Places]:
    """Batches with equal counts of whole frames and region pairs in each part and process.

    An epoch has as many whole frames as the data; several regions of a frame are in one batch.
    """
    size = min(config.batch_size, len(pairs))
    parts = get_world_size() * config.accumulate
    order = regional_places(size // parts, config) * parts
    masked = [row for row, example in enumerate(pairs.examples) if example.regions]
    frames = epoch_rows(weights, order.count(False), config.seed, epoch)
    regions = _region_rows(pairs, weights, masked, config, epoch)
    places = []
    for batch in frames:
        own = iter(batch)
        places.append(Places([next(regions if regional else own) for regional in order], order))
    return places


def _region_rows(
    pairs: PairSet, weights: Tensor, masked: list[int], config: TrainingConfig, epoch: int
) -> Iterator[int]:
    """An endless sequence of frames with masks, each repeated once per region.

    A frame is repeated at most `regions_per_frame` times.
    """
    for turn in count():
        for row in epoch_rows(weights[masked], 1, config.seed, epoch + REGION_DRAWS * (turn + 1)):
            frame = masked[row[0]]
            yield from [frame] * min(len(pairs.examples[frame].regions), config.regions_per_frame)


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine that ends at zero with the last of `total` steps."""
    warmup = config.warmup_fraction * total
    if config.warmup_steps is not None:
        warmup = min(config.warmup_steps, total / 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def local_indices(size: int, accumulate: int) -> list[int]:
    """The places of this process in a batch of `size` pairs, one part after another."""
    processes = get_world_size()
    part = size // (processes * accumulate)
    starts = [(turn * processes + get_rank()) * part for turn in range(accumulate)]
    return [place for start in starts for place in range(start, start + part)]


def check_parts(size: int, accumulate: int, kinds: int = 1) -> None:
    """Raise SonoError if a batch cannot be divided, or a part would be too small.

    `kinds` is the number of kinds of pairs that are not compared with each other (whole frames and
    regions); each process has some of each.
    """
    processes = get_world_size()
    shares = processes * accumulate
    if size % shares or size // accumulate < LEAST * kinds or size // shares < kinds:
        alone = "" if kinds == 1 else ", whole frames and regions apart (or set region_weight = 0)"
        raise SonoError(
            f"a batch of {size} pairs cannot be divided among {processes} processes in "
            f"{accumulate} parts of at least {LEAST * kinds} pairs{alone}; choose a batch_size "
            f"that {shares} divides, or another accumulate"
        )
