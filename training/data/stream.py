"""A run over shards: the settings that a stream supports, and the steps of each process."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import pandas as pd

from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import related_rows
from sono.curation.records.centers import center_form
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch, PairMixture, draw_batch
from sono.training.data.sampling import seeded
from sono.training.data.schedule import check_parts, learning_rate, regional_places, separate
from sono.training.data.shards import Reader, Shards, stream_batches, stream_pairs
from sono.training.model.checkpoints import read_run
from sono.training.runtime.distributed import get_rank, get_world_size

SEQUENTIAL = {
    "plane_balance": 0.0,
    "center_balance": 0.0,
    "patient_balance": 0.0,
    "regions_per_frame": 1,
}


@dataclass(frozen=True)
class StreamPlan:
    """All steps of a run over shards; every process has the same number.

    A batch is this process's share of a global batch.
    """

    shards: Shards
    config: TrainingConfig
    reader: Reader = field(init=False)
    share: int = field(init=False)  # pairs of a batch that this process reads
    starts: list[int] = field(init=False)  # the first step of each epoch, and the end

    def __post_init__(self) -> None:
        config, count = self.config, get_world_size()
        check_parts(config.batch_size, config.accumulate, 2 if separate(self.shards, config) else 1)
        share = config.batch_size // count
        steps = [
            self.shards.even_steps(count, share, config.seed, epoch)
            for epoch in range(config.epochs)
        ]
        if not min(steps):
            raise SonoError(
                f"{self.shards.folder}: {len(self.shards)} pairs in {len(self.shards.names)} "
                f"shards leave one of {count} processes without a batch of {share}; lower "
                "batch_size or write shards of fewer --pairs"
            )
        object.__setattr__(self, "reader", Reader(get_rank(), count))
        object.__setattr__(self, "share", share)
        object.__setattr__(self, "starts", [0, *accumulate(steps)])

    @property
    def total(self) -> int:
        """Steps of the complete run."""
        return self.starts[-1]

    def batches(self, epoch: int, done: int) -> Iterator[tuple[int, Batch]]:
        """The steps of `epoch` that come after `done` steps of the run, each with its batch."""
        seed, first = self.config.seed, max(self.starts[epoch], done)
        skip = (first - self.starts[epoch]) * self.share
        sets = stream_batches(
            self.shards, stream_pairs(self.shards, self.reader, seed, epoch, skip), self.share
        )
        for step, pairs in zip(range(first, self.starts[epoch + 1]), sets, strict=False):
            mixture = PairMixture.at(step / self.total, self.config)
            number = (step + 1) * self.reader.of + self.reader.number
            yield (
                step,
                draw_batch(
                    pairs, range(self.share), mixture, seeded(seed, number), None, self._regional()
                ),
            )

    def _regional(self) -> list[bool] | None:
        """Which places of a share are region pairs, if their frame has a mask."""
        if not separate(self.shards, self.config):
            return None
        return (
            regional_places(self.share // self.config.accumulate, self.config)
            * self.config.accumulate
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(step, self.total, self.config)


def resolve_config(
    workspace: Workspace, config: TrainingConfig, resumed: Path | None = None
) -> TrainingConfig:
    """The settings as a stream supports them, with a message on those that it does not.

    Without shards the settings stay unchanged. Raises SonoError if the shards contain centers to
    hold out, or the run `resumed` had another number of processes.
    """
    if config.shards is None:
        return config
    shards = open_shards(workspace, config.shards)
    held = shards.source.hold_out
    if config.hold_out and set(map(center_form, config.hold_out)) != set(map(center_form, held)):
        raise SonoError(
            f"{shards.folder}: written with {_format_list(held)} held out, not "
            f"{_format_list(config.hold_out)}; write the shards again with --hold-out, or leave it "
            "out here"
        )
    began = (
        str(get_world_size())
        if resumed is None
        else read_run(resumed).environment.get("processes", "?")
    )
    if began != str(get_world_size()):
        raise SonoError(
            f"{resumed}: a stream shared by {began} processes must continue with {began}, not "
            f"{get_world_size()}"
        )
    changes = {name: value for name, value in SEQUENTIAL.items() if getattr(config, name) != value}
    if changes:
        had = ", ".join(f"{name} {getattr(config, name):g}" for name in changes)
        stderr_console.print(
            f"{shards.folder}: shards are read in sequence, so these settings are off: {had}",
            markup=False,
        )
    return config.model_copy(update=changes | {"hold_out": held})


def open_shards(workspace: Workspace, folder: str) -> Shards:
    """The shards in `folder`, which is relative to the workspace."""
    return Shards.open(workspace.place(folder))


def check_shards(
    shards: Shards, workspace: Workspace, config: TrainingConfig, template: str, side: int
) -> None:
    """Raise SonoError if the shards belong to another study, split, template set or settings."""
    source = shards.source
    if source.key_check != workspace.study().key_check:
        raise SonoError(
            f"{shards.folder}: of another study, whose patients cannot be distinguished from those "
            f"of {workspace.root}; write shards of this study with `sono export shards`"
        )
    wanted = {
        "split": (source.split, "train"),
        "template": (source.template, template),
        "image_size": (str(shards.contents.side), str(side)),
        "mask_states": (_format_list(source.mask_states), _format_list(config.mask_states)),
    }
    for name, (has, asked) in wanted.items():
        if has != asked:
            raise SonoError(
                f"{shards.folder}: its {name} is {has}, {asked} is needed; put the other settings "
                "of the run (model, init, image_size) into sono.toml and write the shards again "
                "with `sono export shards`"
            )


def check_apart(shards: Shards, images: pd.DataFrame, val: pd.DataFrame) -> None:
    """Raise SonoError if the shards contain a frame of `val`, its patient or a near duplicate."""
    leaks = related_rows(val, images, shards.contents.image_ids, shards.contents.patients)
    if leaks.any():
        raise SonoError(
            f"{shards.folder}: {int(leaks.sum())} of the {len(val)} validation frames are of "
            "patients or near duplicates in these shards: the splits have changed; write them "
            "again with `sono export shards`"
        )


def _format_list(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(names)) or "nothing"
