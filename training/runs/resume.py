"""Save and restore the state of a run.

It is written as one folder, so that old and new files are never mixed.
"""

import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, FiniteFloat, NonNegativeInt, TypeAdapter
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError

from sono.annotation.weights.weight_files import DAMAGED, short
from sono.curation.core.atomic import check_regular, write_bytes
from sono.curation.core.atomic_folders import atomic_folder, finish_replace
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.model import checkpoints
from sono.training.model.checkpoints import BEST, END, LAST, STATE
from sono.training.objectives.objective import load_heads, save_heads
from sono.training.runtime.distributed import broadcast_call
from sono.training.runtime.sharding import load_optimizer, whole
from sono.training.step import Trainer

SAVE_SECONDS = 20.0  # between two saves: the most that a killed run loses, if saving is quick
SAVE_SHARE = 0.05  # of the time may be spent on saving


@dataclass(config=ConfigDict(strict=True, extra="forbid"))
class State:
    """The progress of a run.

    It consists of the finished steps and epochs, the losses of this epoch, and the best epoch.
    """

    step: NonNegativeInt = 0
    epoch: NonNegativeInt = 0
    losses: list[FiniteFloat] = field(default_factory=list)
    left_out: NonNegativeInt = 0  # skipped steps of the current epoch
    best: float = -math.inf
    best_epoch: NonNegativeInt = 0

    def after_step(self, step: int, loss: float, left_out: bool = False) -> None:
        """Count step number `step` as done; `left_out`: it was skipped."""
        self.step, self.left_out = step + 1, self.left_out + left_out
        self.losses.append(loss)

    def after_epoch(self, score: float | None) -> bool:
        """Count a validated epoch; whether it is the best so far (ties go to the later one)."""
        self.epoch, self.losses, self.left_out = self.epoch + 1, [], 0
        if score is None or score < self.best:
            return False
        self.best, self.best_epoch = score, self.epoch
        return True


class Saver:
    """Writes the checkpoints of a run, on its first process."""

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self._folder, self._trainer = folder, trainer
        self._next = time.monotonic() + SAVE_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether it is time to save, by the clock of this process.

        All processes must agree before they save.
        """
        return time.monotonic() >= self._next

    def save(self, state: State) -> None:
        """Save everything that `restore` needs."""
        started, trainer = time.monotonic(), self._trainer
        weights, heads = whole(trainer.model.state_dict()), whole(trainer.heads.state_dict())
        moving = asdict(state) | whole(_moving(trainer))

        def write(new: Path) -> None:
            checkpoints.save_model(new, trainer.model, weights)
            save_heads(new, heads)
            write_bytes(new / STATE, _packed(moving))

        self._write(LAST, write)
        ended = time.monotonic()
        self._next = ended + max(SAVE_SECONDS, (ended - started) / SAVE_SHARE)

    def save_checkpoint(self, name: str) -> None:
        """Write the model as the checkpoint `name`."""
        model = self._trainer.model
        weights = whole(model.state_dict())
        self._write(name, lambda new: checkpoints.save_model(new, model, weights))

    def _write(self, name: str, write: Callable[[Path], None]) -> None:
        """Let the first process write the folder `name` while all wait for it."""

        def work() -> None:
            with explain_write_errors(self._folder), atomic_folder(self._folder / name) as new:
                write(new)

        broadcast_call(work)


def restore(folder: Path, trainer: Trainer, starts: Sequence[int]) -> State:
    """Restore the run in `folder` into `trainer`.

    Its epochs begin at the steps `starts`. A run that was killed before its first save starts
    again.
    """
    now = trainer.config.record()
    known = TrainingConfig.model_validate({}).record() | checkpoints.read_run(folder).config
    changed = sorted(key for key in known if known[key] != now.get(key))
    if changed:
        raise SonoError(
            f"{folder}: started with other settings ({', '.join(changed)}); resume with the same "
            f"ones, or repeat it with others: `sono train --from {folder.name}`"
        )
    if not broadcast_call(partial(_is_saved, folder)):
        return State()
    checkpoints.restore(folder / LAST, trainer.model)
    load_heads(folder / LAST, trainer.heads)
    state = _unpacked(folder / LAST / STATE, trainer, starts)
    if state.best_epoch and not (folder / BEST).exists():
        stderr_console.print(
            f"{folder}: {BEST}/ is missing; the best of the remaining epochs is kept", markup=False
        )
        state.best, state.best_epoch = -math.inf, 0
    return state


def _is_saved(folder: Path) -> bool:
    finish_replace(folder / LAST)
    if (folder / LAST).exists():
        return True
    if (folder / END).exists():
        raise SonoError(f"{folder}: has ended, and {LAST}/ is missing; {_repeat_help(folder)}")
    stderr_console.print(
        f"{folder}: nothing was saved to resume from, so it starts again", markup=False
    )
    return False


def _repeat_help(folder: Path) -> str:
    return f"start a new run with the same settings by `sono train --from {folder.name}`"


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn write errors into a SonoError; the earlier checkpoint stays, ready to resume."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise SonoError(
            f"{folder}: the run could not be written ({error}); make room, then `sono "
            f"train --name {folder.name} --resume`"
        ) from error


def _moving(trainer: Trainer) -> dict[str, Any]:
    """The state of the optimizer and the gradient scaler."""
    return {"optimizer": trainer.optimizer.state_dict(), "scaler": trainer.scaler.state_dict()}


def _packed(values: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(values, content)
    return content.getvalue()


def _unpacked(path: Path, trainer: Trainer, starts: Sequence[int]) -> State:
    try:
        check_regular(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
        load_optimizer(trainer.optimizer, values.pop("optimizer")["state"])
        trainer.scaler.load_state_dict(
            TypeAdapter(dict[str, int | FiniteFloat]).validate_python(values.pop("scaler"))
        )
        state = State(**values)
        if starts[state.epoch] + len(state.losses) != state.step:
            raise ValueError(
                f"step {state.step} after {state.epoch} epochs and {len(state.losses)} steps"
            )
        return state
    except DAMAGED as error:
        raise SonoError(
            f"{path}: missing or damaged ({short(error)}); {_repeat_help(path.parents[1])}"
        ) from error
