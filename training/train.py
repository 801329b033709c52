"""The training stage: a workspace in, a run folder out. Read `_train` from top to bottom."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from sono.curation.core.atomic import write_text
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError, StoppedError
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch, PairSet
from sono.training.data.sampling import process_seed
from sono.training.data.schedule import Plan
from sono.training.data.shards import Shards
from sono.training.data.stream import StreamPlan, resolve_config
from sono.training.inputs import TrainingInputs, initial_model, read_inputs
from sono.training.model import checkpoints
from sono.training.model.architectures import architecture_of
from sono.training.model.checkpoints import BEST, END, FAILED, LAST, SUMMARY
from sono.training.model.mask_clip import MaskClip
from sono.training.objectives.objective import Heads
from sono.training.runs.log import Log, live_progress
from sono.training.runs.resume import Saver, State, explain_write_errors, restore
from sono.training.runs.run_info import check_data, next_run_name, run_info
from sono.training.runtime.distributed import (
    all_gather_texts,
    any_rank,
    broadcast,
    broadcast_call,
    is_main_process,
    processes,
)
from sono.training.runtime.memory import reuse_freed_memory
from sono.training.runtime.stop import stopping
from sono.training.start import configure_model
from sono.training.step import Learner, Trainer, explain_memory_errors, parts_of
from sono.training.validation import score_of, validate


@dataclass(frozen=True)
class TrainSummary:
    """The result of a run, and its folder."""

    run: str
    folder: Path
    train_frames: int
    # the other frames of the train split by reason; None with shards
    train_left_out: dict[str, int] | None
    val_frames: int
    region_pairs: int
    epochs: int
    steps: int
    best_epoch: int | None  # None: nothing was validated
    best_score: float | None  # None: nothing was validated
    seconds: float


def train(
    workspace: Workspace, config: TrainingConfig, name: str | None = None, resume: bool = False
) -> TrainSummary:
    """Train a mask-channel CLIP on the train split, on all processes started by `torchrun`.

    The validation split picks the best epoch; without one there is only the end of the run. SIGINT
    and SIGTERM finish the step, save and raise StoppedError.
    """
    with processes():
        return _train(workspace, config, name, resume)


def _train(
    workspace: Workspace, config: TrainingConfig, name: str | None, resume: bool
) -> TrainSummary:
    started = time.perf_counter()
    reuse_freed_memory()
    with ExitStack() as held:
        folder = broadcast_call(
            lambda: checkpoints.run_folder(workspace.runs, name or next_run_name(workspace), resume)
        )
        torch.manual_seed(config.seed)
        config = resolve_config(workspace, config, folder if resume else None)
        if resume:
            broadcast_call(partial(check_data, workspace, folder.name, config))
        inputs = read_inputs(workspace, config, folder / LAST if resume else None)
        explain_errors = partial(explain_memory_errors, config, inputs.val.size)
        plan = _plan(inputs.train, config)
        with explain_errors():
            trainer = Trainer(_learner(inputs, config))
        folder = broadcast_call(
            lambda: held.enter_context(_own_run(workspace, folder, resume, unnamed=name is None))
        )
        state = restore(folder, trainer, plan.starts) if resume else State()
        if not resume:
            info = run_info(workspace, inputs, config, folder.name)
            broadcast_call(partial(checkpoints.write_run, folder, info))
        broadcast_call(partial((folder / FAILED).unlink, missing_ok=True))
        saver = Saver(folder, trainer)
        log = Log(folder, state.epoch)
        with stopping() as stop, live_progress(plan.total, state.step, config.epochs) as watch:
            for epoch in range(state.epoch, config.epochs):
                for step, batch in plan.batches(epoch, done=state.step):
                    torch.manual_seed(process_seed(config.seed, step))
                    with explain_errors():
                        loss = _step(trainer, batch, step, plan, folder)
                    state.after_step(step, loss, trainer.left_out)
                    watch.step(f"epoch {epoch + 1} loss {loss:.3f}")
                    asked, due = any_rank([stop.asked, saver.is_due], trainer.device)
                    if asked or due:
                        saver.save(state)
                    if asked:
                        raise StoppedError(_resume_help(folder, state, plan))
                with explain_errors():
                    own = trainer.learner.with_weights(
                        partial(validate, trainer.model, inputs.val, config, epoch)
                    )
                scores = broadcast(own)  # on other hardware they differ in the last digits
                with explain_write_errors(folder):
                    watch.epoch(log.write(_epoch_values(trainer, state, plan) | scores))
                if state.after_epoch(score_of(scores)):
                    saver.save_checkpoint(BEST)
                if any(any_rank([saver.is_due], trainer.device)):
                    saver.save(state)
            saver.save(state)
            saver.save_checkpoint(END)
        summary = _summary(folder, inputs, plan, state, time.perf_counter() - started)
        values = {name: value for name, value in asdict(summary).items() if name != "folder"}
        broadcast_call(partial(write_text, folder / SUMMARY, json.dumps(values, indent=1)))
        broadcast_call(partial(check_privacy, workspace))
    return summary


@contextmanager
def _own_run(workspace: Workspace, folder: Path, resume: bool, unnamed: bool) -> Iterator[Path]:
    """Lock the run in `folder`.

    An unnamed run takes the next free folder if another process was faster.
    """
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(checkpoints.own_run(folder, resume))
                break
            except SonoError:
                if not unnamed:
                    raise
            # another process began under this name while this one read its frames
            folder = workspace.runs / next_run_name(workspace, after=folder.name)
        yield folder


def _summary(
    folder: Path, inputs: TrainingInputs, plan: Plan | StreamPlan, state: State, seconds: float
) -> TrainSummary:
    return TrainSummary(
        run=folder.name,
        folder=folder,
        train_frames=len(inputs.train),
        train_left_out=inputs.train_left_out,
        val_frames=len(inputs.val),
        region_pairs=inputs.train.regions,
        epochs=plan.config.epochs,
        steps=plan.total,
        best_epoch=state.best_epoch or None,
        best_score=state.best if state.best_epoch else None,
        seconds=seconds,
    )


def _learner(inputs: TrainingInputs, config: TrainingConfig) -> Learner:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    info = inputs.start.info
    model = configure_model(
        initial_model(inputs, config), config, len(inputs.train), bool(info and info.origin)
    ).to(device)
    if isinstance(inputs.train, PairSet) and is_main_process():
        _warn_truncated(model, inputs.train.captions)
    heads = Heads(config, inputs.train.table.rows, architecture_of(model.config)["embed_dim"]).to(
        device
    )
    return Learner(model, heads, config)


def _warn_truncated(model: MaskClip, captions: list[str]) -> None:
    count_truncated = model.count_truncated(captions)
    if count_truncated:
        stderr_console.print(
            f"{count_truncated} of {len(captions)} different captions fill all "
            f"{model.context_length} tokens that the text tower reads and are truncated: raise "
            "context_length under [training], or shorten the template",
            markup=False,
        )


def _plan(pairs: PairSet | Shards, config: TrainingConfig) -> Plan | StreamPlan:
    return StreamPlan(pairs, config) if isinstance(pairs, Shards) else Plan(pairs, config)


def _step(
    trainer: Trainer, batch: Batch, step: int, plan: Plan | StreamPlan, folder: Path
) -> float:
    try:
        return trainer.step(parts_of(batch, plan.config), plan.rate(step))
    except ArithmeticError as error:
        ids = all_gather_texts(batch.image_ids)
        failure = {"step": step + 1, "error": str(error), "image_ids": ids}
        with suppress(OSError):  # a full disk must not hide the failure
            broadcast_call(partial(write_text, folder / FAILED, json.dumps(failure, indent=1)))
        raise SonoError(
            f"{error} at step {step + 1} (frames {', '.join(ids[:4])}, ...: all {len(ids)} in "
            f"{folder / FAILED}); check them, or start again with a lower learning_rate under "
            "[training]"
        ) from error


def _epoch_values(trainer: Trainer, state: State, plan: Plan | StreamPlan) -> dict[str, float]:
    """The logged values of an epoch, before it is counted."""
    model = trainer.model
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        "loss": sum(state.losses) / len(state.losses),
        "learning_rate": plan.rate(state.step - 1),
        "logit_scale": model.logit_scale.exp().item(),
        "logit_bias": model.logit_bias.item(),
        "left_out": state.left_out,
    }


def _resume_help(folder: Path, state: State, plan: Plan | StreamPlan) -> str:
    return (
        f"stopped and saved after step {state.step} of {plan.total}; continue with `sono train "
        f"--name {folder.name} --resume`"
    )
