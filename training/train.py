"""The training stage: a workspace in, a run folder out. Read `train` from top to bottom."""

import csv
import hashlib
import io
import math
import platform
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from sono import __version__
from sono.annotation.captions import CaptionConfig
from sono.curation.console import progress
from sono.curation.errors import SonoError
from sono.curation.privacy import check_privacy
from sono.curation.splits import check_splits, training_rows
from sono.curation.storage import write_text
from sono.curation.workspace import Workspace
from sono.templates.loader import BUILT_IN, load_templates
from sono.training import checkpoints
from sono.training.architectures import ModelConfig, architecture_of
from sono.training.attributes import caption_numbers
from sono.training.checkpoints import RunInfo
from sono.training.config import TrainingConfig
from sono.training.data import Batch, PairMixture, PairSet, draw_batch, load_pairs, sampling_weights
from sono.training.model import MaskClip
from sono.training.objectives import Heads, Pairs, load_heads, pairs_loss, save_heads
from sono.training.reconstruction import kept_statistics, reconstruction_loss, with_hole
from sono.training.sampling import epoch_rows, seeded
from sono.training.start import carried, prepare, start_of
from sono.training.validation import plane_accuracy

SAVE_SECONDS = 20.0  # between two saves of what --resume needs: the most that a killed run loses
LOG_COLUMNS = (
    "epoch",
    "step",
    "loss",
    "learning_rate",
    "logit_scale",
    "logit_bias",
    "val_loss",
    "val_top1_macro",
    "seconds",
)


@dataclass(frozen=True)
class TrainSummary:
    """What a run did and where it stands."""

    run: str
    folder: Path
    train_frames: int
    val_frames: int
    region_pairs: int
    epochs: int
    steps: int
    best_epoch: int
    best_score: float
    seconds: float


@dataclass
class _Progress:
    """The moving part of a run."""

    epochs: int
    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    saved_at: float = -math.inf  # seconds of the performance counter


def train(workspace: Workspace, config: TrainingConfig, name: str, resume: bool = False) -> TrainSummary:
    """Train a mask-channel CLIP on the train split of `workspace`.

    The validation split picks the best epoch; where it is empty, the end of the run stands.
    """
    folder = checkpoints.run_folder(workspace.runs, name, resume)
    started = time.perf_counter()
    torch.manual_seed(config.seed)
    images, template = _rows(workspace, config)
    start = start_of(workspace, config)
    side = MaskClip.side_of(start.config)
    templates = load_templates(template)
    prompts = {plane.id: templates.render_prompts(plane.name) for plane in workspace.planes().planes}
    train_set = load_pairs(workspace, images[images["split"] == "train"], config.mask_states, prompts, side)
    val_set = load_pairs(workspace, images[images["split"] == "val"], config.mask_states, prompts, side)
    if len(train_set) < 2:
        held = f" after holding out {', '.join(config.hold_out)}" if config.hold_out else ""
        raise SonoError(
            f"{workspace.root}: {len(train_set)} captioned frames in the train split{held}, at least 2 are needed; "
            "run `sono captions build` again, or `sono split` with another --seed or [splits] train"
        )

    model = start.model or MaskClip(_with_statistics(start.config, train_set))
    model = prepare(model, config, len(train_set)).to(_device())
    heads = Heads(config, train_set.table.rows, architecture_of(model.config)["embed_dim"]).to(_device())
    optimizer = _optimizer(model, config, heads)
    state = _Progress(config.epochs)
    if resume:
        state = _restore(folder, model, optimizer, config)
        load_heads(folder / "last", heads)
    else:
        checkpoints.write_run(folder, carried(_run_info(workspace, images, config, name, template), start.info))
    weights = sampling_weights(train_set, config.plane_balance, config.center_balance, config.patient_balance)
    places = train_set.places(config.regions_per_frame)
    steps_per_epoch = len(epoch_rows(weights, config.batch_size, config.seed, 0))
    total = steps_per_epoch * config.epochs
    with progress("train", total) as advance, closing(_Log(folder, keep=state.epoch)) as log:
        advance(state.epoch * steps_per_epoch)
        for epoch in range(state.epoch, config.epochs):
            losses = []
            for number, rows in enumerate(epoch_rows(weights, config.batch_size, config.seed, epoch, places)):
                step = epoch * steps_per_epoch + number
                rate = learning_rate(step, total, config)
                batch = draw_batch(train_set, rows, _mixture(config, step / total), seeded(config.seed, step + 1))
                losses.append(_step(model, optimizer, batch, rate, config, heads))
                _refuse_nan(losses[-1], step, batch, train_set)
                advance(1, f"epoch {epoch + 1} loss {losses[-1]:.3f}")
            scores = _validate(model, val_set, config) if _is_due(epoch, config) else {}
            saved_at, state = state.saved_at, _keep(folder, model, optimizer, state, epoch, scores)
            if state.saved_at != saved_at:
                save_heads(folder / "last", heads)
            log.write(epoch, (epoch + 1) * steps_per_epoch, model, sum(losses) / len(losses), rate, scores)
    checkpoints.save_model(folder / "end", model)
    check_privacy(workspace)
    regions = sum(len(example.regions) for example in train_set.examples)
    seconds = time.perf_counter() - started
    return TrainSummary(
        name, folder, len(train_set), len(val_set), regions, config.epochs, total, state.best_epoch, state.best, seconds
    )


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine that ends at zero with the last of `total` steps."""
    warmup = config.warmup_fraction * total
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def next_run_name(workspace: Workspace) -> str:
    """run-001, run-002, ...: the first that is free."""
    taken = {path.name for path in workspace.runs.glob("run-*")}
    return next(name for number in range(1, 10_000) if (name := f"run-{number:03d}") not in taken)


def best_precision() -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware (a GPU, or a CPU with AMX), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def _rows(workspace: Workspace, config: TrainingConfig) -> tuple[pd.DataFrame, str]:
    """The frames that may be used, and the template set of their captions."""
    images = workspace.accepted_images()
    check_splits(images)
    images = training_rows(images, config.hold_out)
    if images.empty:
        raise SonoError(
            f"{workspace.root}: no frame is left to train on after holding out {', '.join(config.hold_out)}"
        )
    return images, _template_set(workspace)


def _template_set(workspace: Workspace) -> str:
    """The name of the template set that wrote the captions; its prompts go with the model."""
    written = sorted(workspace.captions()["template"].unique())
    configured = workspace.settings("captions", CaptionConfig).template
    for name in dict.fromkeys((configured, *BUILT_IN)):
        if [load_templates(name).id] == written:
            return name
    raise SonoError(
        f"{workspace.root}: the captions were written by template set {', '.join(written)}, which is not there now; "
        "name the set in sono.toml ([captions] template) and run `sono captions build` again"
    )


def _with_statistics(model: ModelConfig, pairs: PairSet) -> ModelConfig:
    """With the pixel statistics of the training frames."""
    mean, spread = float(pairs.frames.mean()) / 255, float(pairs.frames.std()) / 255
    changes = {"pixel_mean": round(mean, 4), "pixel_std": round(max(spread, 1e-3), 4)}
    return model.model_copy(update=changes)


def _optimizer(model: MaskClip, config: TrainingConfig, heads: Heads) -> torch.optim.Optimizer:
    """AdamW; only matrices are decayed, and logit scale and bias learn `scale_rate` times as fast as the rest."""
    scalars = [model.logit_scale, model.logit_bias]
    weights = [*model.parameters(), *heads.parameters()]
    matrices = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
        {"params": scalars, "weight_decay": 0.0, "factor": config.scale_rate},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def _step(
    model: MaskClip,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    config: TrainingConfig,
    heads: Heads,
) -> float:
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    loss = batch_loss(model, batch, config, heads)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return float(loss.detach())


def batch_loss(model: MaskClip, batch: Batch, config: TrainingConfig, heads: Heads | None = None) -> Tensor:
    """The loss of one batch; equal captions are encoded once. `heads` take part in training alone."""
    device = model.logit_scale.device
    unique = sorted(set(batch.captions))
    ids = torch.tensor([unique.index(caption) for caption in batch.captions], device=device)
    frame, mask, said = batch.image.to(device), batch.mask.to(device), batch.attributes.to(device)
    guess = heads.reconstruction if heads else None
    precision = best_precision()
    with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        image = model.encode_image(frame, mask)
        text = model.encode_captions(unique)
        with kept_statistics(model):
            holed = model.encode_image(with_hole(frame, mask), mask) if guess else image
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)[ids]
    fused = heads.graph(text, said) if heads and heads.graph else text
    pairs = Pairs(image, fused, caption_numbers(batch.captions, device), said)
    loss = pairs_loss(pairs, model.logit_scale.exp(), model.logit_bias, config)
    if guess:
        told = guess(F.normalize(holed.float(), dim=-1), text)
        loss = loss + config.reconstruction_weight * reconstruction_loss(told, frame, mask)
    return loss


@torch.inference_mode()
def _validate(model: MaskClip, pairs: PairSet, config: TrainingConfig) -> dict[str, float]:
    """Loss without augmentation on fixed draws, and macro Top-1 where planes are known."""
    if not len(pairs):
        return {}
    model.eval()
    mixture = PairMixture(config.global_fraction, config.prompt_fraction, None)
    batches = epoch_rows(torch.ones(len(pairs)), config.batch_size, config.seed, 0)
    drawn = (draw_batch(pairs, rows, mixture, seeded(config.seed, number + 1)) for number, rows in enumerate(batches))
    losses = [float(batch_loss(model, batch, config)) for batch in drawn]
    accuracy = plane_accuracy(model, pairs)
    scores = {"val_loss": sum(losses) / len(losses)}
    return scores if accuracy is None else {**scores, "val_top1_macro": accuracy}


def _is_due(epoch: int, config: TrainingConfig) -> bool:
    return (epoch + 1) % config.validate_every == 0 or epoch + 1 == config.epochs


def _keep(
    folder: Path,
    model: MaskClip,
    optimizer: torch.optim.Optimizer,
    state: _Progress,
    epoch: int,
    scores: dict[str, float],
) -> _Progress:
    """Save the best checkpoint when this epoch is it (ties go to the later), and the last one now and then."""
    state = replace(state, epoch=epoch + 1)
    score = scores.get("val_top1_macro", -scores["val_loss"] if "val_loss" in scores else None)
    if score is not None and score >= state.best:
        state = replace(state, best=score, best_epoch=epoch + 1)
        checkpoints.save_model(folder / "best", model)
    now = time.perf_counter()
    if state.epoch == state.epochs or now - state.saved_at >= SAVE_SECONDS:
        checkpoints.save_model(folder / "last", model)
        checkpoints.save_state(folder / "last", optimizer, state.epoch, state.best, state.best_epoch)
        state = replace(state, saved_at=now)
    return state


def _restore(folder: Path, model: MaskClip, optimizer: torch.optim.Optimizer, config: TrainingConfig) -> _Progress:
    stored = checkpoints.read_run(folder).config
    if stored != config.record():
        changed = sorted(key for key in stored if stored[key] != config.record().get(key))
        raise SonoError(f"{folder}: started with other settings ({', '.join(changed)}); resume with the same ones")
    checkpoints.restore(folder / "last", model)
    epoch, best, best_epoch = checkpoints.load_state(folder / "last", optimizer)
    return _Progress(config.epochs, epoch, best, best_epoch)


def _run_info(workspace: Workspace, images: pd.DataFrame, config: TrainingConfig, name: str, template: str) -> RunInfo:
    used = images[images["split"].isin(["train", "val"])]
    planes = Counter(images.loc[images["split"] == "train", "plane"].dropna())
    return RunInfo(
        name=name,
        template=template,
        centers_seen=tuple(sorted(used["center"].dropna().unique())),
        held_out=config.hold_out,
        patients_seen=frozenset(used["patient_id"].dropna()),
        image_ids_seen=frozenset(used["image_id"]),
        planes_seen=dict(sorted(planes.items())),
        data_hash=_data_hash(workspace),
        config=config.record(),
        environment={"sono": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )


def _data_hash(workspace: Workspace) -> str:
    """16 hexadecimal digits over the three tables' bytes."""
    tables = sorted(workspace.root.glob("*.parquet"))
    return hashlib.sha256(b"".join(table.read_bytes() for table in tables)).hexdigest()[:16]


def _mixture(config: TrainingConfig, done: float) -> PairMixture:
    apart = config.regions_per_frame > 1
    return PairMixture(config.global_fraction, config.prompt_fraction, config.augment, apart, config.curriculum, done)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _refuse_nan(loss: float, step: int, batch: Batch, pairs: PairSet) -> None:
    if not math.isfinite(loss):
        ids = ", ".join(pairs.examples[row].image_id for row in batch.rows[:8])
        raise SonoError(f"the loss became {loss} at step {step} (frames {ids}, ...); lower the learning rate")


class _Log:
    """One line an epoch in log.csv, and the same values for TensorBoard."""

    def __init__(self, folder: Path, keep: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path, self._started = folder / "log.csv", time.perf_counter()
        lines = self._path.read_text().splitlines() if keep and self._path.exists() else [",".join(LOG_COLUMNS)]
        self._lines, self._keep = lines[: keep + 1], keep
        self._board = SummaryWriter(folder / "tensorboard", filename_suffix=".sono")

    def write(self, epoch: int, step: int, model: MaskClip, loss: float, rate: float, scores: dict[str, float]) -> None:
        values: dict[str, Any] = {"epoch": epoch + 1, "step": step, "loss": loss, "learning_rate": rate, **scores}
        values |= {"logit_scale": model.logit_scale.exp().item(), "logit_bias": model.logit_bias.item()}
        values["seconds"] = time.perf_counter() - self._started
        line = io.StringIO()
        csv.DictWriter(line, LOG_COLUMNS, lineterminator="").writerow(
            {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
        )
        self._lines.append(line.getvalue())
        write_text(self._path, "\n".join(self._lines) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, epoch + 1)
        self._board.flush()

    def close(self) -> None:
        """End the TensorBoard writer, and take the machine's name out of its files' names."""
        self._board.close()
        for number, events in enumerate(sorted(self._path.with_name("tensorboard").glob("events*.sono"))):
            events.rename(events.with_name(f"events.out.tfevents.{self._keep}.{number}"))
