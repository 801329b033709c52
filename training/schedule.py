"""What each step of a run does, from the settings and the step's number alone: rows, mixture, learning rate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from sono.curation.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.data import Batch, PairMixture, PairSet, draw_batch, sampling_weights
from sono.training.distributed import process_count, process_rank
from sono.training.sampling import epoch_rows, seeded


@dataclass(frozen=True)
class Plan:
    """All steps of a run over `pairs`."""

    pairs: PairSet
    config: TrainingConfig
    weights: Tensor = field(init=False)
    steps_per_epoch: int = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        check_parts(min(config.batch_size, len(self.pairs)), config.accumulate)
        weights = sampling_weights(self.pairs, config.plane_balance, config.center_balance, config.patient_balance)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "steps_per_epoch", len(epoch_rows(weights, config.batch_size, config.seed, 0)))

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.starts[-1]

    @property
    def starts(self) -> list[int]:
        """The first step of each epoch, and the end."""
        return [epoch * self.steps_per_epoch for epoch in range(self.config.epochs + 1)]

    def batches(self, epoch: int, done: int) -> Iterator[tuple[int, Batch]]:
        """The steps of `epoch` that come after `done` steps of the run, each with this process's part of its batch."""
        places = self.pairs.places(self.config.regions_per_frame)
        rows = epoch_rows(self.weights, self.config.batch_size, self.config.seed, epoch, places)
        first = epoch * self.steps_per_epoch
        for step in range(max(done, first), first + len(rows)):
            mixture = PairMixture.at(step / self.total, self.config)
            some = rows[step - first]
            own = own_places(len(some), self.config.accumulate)
            yield step, draw_batch(self.pairs, some, mixture, seeded(self.config.seed, step + 1), own)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(step, self.total, self.config)


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine that ends at zero with the last of `total` steps."""
    warmup = config.warmup_fraction * total
    if config.warmup_steps is not None:
        warmup = min(config.warmup_steps, total / 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def own_places(size: int, accumulate: int) -> list[int]:
    """Where in a batch of `size` pairs those of this process stand, one part after another."""
    count = process_count()
    part = size // (count * accumulate)
    starts = [(turn * count + process_rank()) * part for turn in range(accumulate)]
    return [place for start in starts for place in range(start, start + part)]


def check_parts(size: int, accumulate: int) -> None:
    """SonoError where a batch cannot be shared out, or a pair would meet no other."""
    count = process_count()
    if size % (count * accumulate) or size // accumulate < 2:
        raise SonoError(
            f"a batch of {size} pairs cannot be shared by {count} processes in {accumulate} parts of at least 2 pairs; "
            f"choose a batch_size that {count * accumulate} divides, or another accumulate"
        )
