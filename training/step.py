"""One training step: the trained modules, the loss of a batch, and the optimizer."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch
from sono.training.model.architectures import ModelConfig, architecture_of
from sono.training.model.freeze import HEADS, blocks_of
from sono.training.model.mask_clip import MaskClip
from sono.training.model.sync_norm import share_norms
from sono.training.objectives.facts import numbers
from sono.training.objectives.objective import Heads, Pairs, pairs_loss
from sono.training.objectives.reconstruction import kept_statistics, reconstruction_loss, with_hole
from sono.training.runtime.distributed import all_reduce_mean, get_world_size
from sono.training.runtime.sharding import clip_shares, share_weights
from sono.training.start import pretrained

Result = TypeVar("Result")

MASK_RATE, SMALLEST_PATCH = 10.0, 8  # filters of convolutional towers have 3 to 7 pixels a side


class Learner(nn.Module):
    """A model and the heads of its objective: from a batch to its loss.

    It is the module that several processes share.
    """

    def __init__(self, model: MaskClip, heads: Heads, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.heads, self.config = model, heads, config

    def forward(self, batch: Batch) -> Tensor:
        return batch_loss(self.model, batch, self.config, self.heads)

    def with_weights(self, work: Callable[[], Result]) -> Result:
        """The result of `work` on the model.

        Sharded weights are gathered meanwhile, as in `forward`.
        """
        return work()


class Trainer:
    """A learner with its optimizer.

    `left_out` is true if the last step was skipped: float16 overflowed, and the next step is scaled
    by less.
    """

    def __init__(self, learner: Learner) -> None:
        config, model = learner.config, learner.model
        self.learner, self.model, self.heads, self.config = learner, model, learner.heads, config
        self.device = model.logit_scale.device
        if config.compile:
            model.towers.visual.compile()
        self.together = _joined(learner)
        self.optimizer = _optimizer(learner)
        self.left_out = False
        half = precision_of(config, model.config) == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)

    def step(self, parts: Sequence[Batch], rate: float) -> float:
        """Train on the parts of a batch; returns their mean loss over all processes.

        Raises ArithmeticError for a loss or gradient that is not finite; the weights are then
        unchanged.
        """
        self.learner.train()
        self.optimizer.zero_grad()
        losses = [self._backward(part, len(parts), part is parts[-1]) for part in parts]
        loss = sum(losses) / len(losses)
        if not math.isfinite(loss):
            raise ArithmeticError(f"the loss became {loss}")
        self._update(rate)
        return loss

    def _backward(self, part: Batch, count: int, last: bool) -> float:
        with _added_up(self.together, last):
            loss: Tensor = self.together(part)
            self.scaler.scale(loss if count == 1 else loss / count).backward()
        return all_reduce_mean(float(loss.detach()), self.device)

    def _update(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.scaler.unscale_(self.optimizer)
        clip = (
            clip_shares if isinstance(self.learner, FSDPModule) else torch.nn.utils.clip_grad_norm_
        )
        norm = float(clip(self.learner.parameters(), self.config.clip_norm))
        scale = self.scaler.get_scale()
        # A scaler skips such a step by itself; if it no longer scales up, nothing has overflowed.
        if not math.isfinite(norm) and scale <= 1:
            raise ArithmeticError(f"the gradient became {norm}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.left_out = self.scaler.get_scale() < scale


def batch_loss(
    model: MaskClip, batch: Batch, config: TrainingConfig, heads: Heads | None = None
) -> Tensor:
    """The loss of one batch; equal captions are encoded once.

    `heads` are only used in training.
    """
    device = model.logit_scale.device
    unique = sorted(set(batch.captions))
    ids = torch.tensor([unique.index(caption) for caption in batch.captions], device=device)
    frame, mask = batch.image.to(device), batch.mask.to(device)
    attributes = batch.attributes.to(device)
    guess = heads.reconstruction if heads else None
    precision = precision_of(config, model.config)
    with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        image = model.encode_image(frame, mask)
        text = model.encode_captions(unique)
        with kept_statistics(model):
            holed = model.encode_image(with_hole(frame, mask), mask) if guess else image
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)[ids]
    fused = heads.graph(text, attributes) if heads and heads.graph else text
    captions, facts = numbers(batch.captions, device), batch.facts.to(device)
    pairs = Pairs(image, fused, captions, attributes, facts)
    loss = pairs_loss(pairs, model.logit_scale.exp(), model.logit_bias, config)
    if guess:
        hidden = guess(F.normalize(holed.float(), dim=-1), text)
        loss = loss + config.reconstruction_weight * reconstruction_loss(hidden, frame, mask)
    return loss


def parts_of(batch: Batch, config: TrainingConfig) -> list[Batch]:
    """The parts of what a process has of a batch, one for each round of accumulation."""
    size = len(batch.rows) // config.accumulate
    return [
        _select(batch, slice(start, start + size))
        for start in range(0, size * config.accumulate, size)
    ]


def precision_of(config: TrainingConfig, model: ModelConfig) -> torch.dtype:
    """The number format of the towers.

    `auto` is `best_precision`, but float32 for an EfficientNet on a CPU.
    """
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    trunk = architecture_of(model)["vision_cfg"].get("timm_model_name", "")
    if config.precision == "auto" and "efficientnet" in trunk and not torch.cuda.is_available():
        # depthwise convolutions in bfloat16 take 1.5 times as long on a CPU with AMX
        return torch.float32
    return named.get(config.precision) or best_precision()


def best_precision() -> torch.dtype:
    """bfloat16 if the hardware multiplies it (a GPU, or a CPU with AMX), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def _joined(learner: Learner) -> nn.Module:
    """The learner as the processes share it; by itself it stays as it is."""
    if get_world_size() == 1:
        return learner
    share_norms(learner.model)
    if learner.config.strategy == "ddp":
        return DistributedDataParallel(learner)
    towers = learner.model.towers
    share_weights(
        learner,
        (
            tower.get_submodule(name)
            for tower in (towers.visual, towers.text)
            for name in blocks_of(tower)
        ),
    )
    return learner


def _added_up(together: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Accumulate the gradients of the parts; average over the processes with the last part."""
    if isinstance(together, FSDPModule):
        together.set_requires_gradient_sync(last)
    return (
        together.no_sync()
        if isinstance(together, DistributedDataParallel) and not last
        else nullcontext()
    )


def _optimizer(learner: Learner) -> torch.optim.Optimizer:
    """AdamW in groups by learning rate and decay; only matrices are decayed."""
    model, config = learner.model, learner.config
    special = {id(model.logit_scale): config.scale_rate, id(model.logit_bias): config.scale_rate}
    special[id(model.stem.mask.weight)] = mask_rate(config, model)
    special |= {
        id(weight): config.trunk_rate
        for weight in came_trained(model, config)
        if id(weight) not in special
    }
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for weight in learner.parameters():
        decay = config.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault((special.get(id(weight), 1.0), decay), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": found, "weight_decay": decay, "factor": factor}
            for (factor, decay), found in groups.items()
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def mask_rate(config: TrainingConfig, model: MaskClip) -> float:
    """The learning rate of the mask filters over that of the towers.

    As set, else 10, or 1 for filters that are patches: all pixels of a filter move together at
    first, so the mask of a patch of 12 x 12 soon dominates the frame.
    """
    if config.mask_rate is not None:
        return config.mask_rate
    return MASK_RATE if max(model.stem.mask.kernel_size) < SMALLEST_PATCH else 1.0


def came_trained(model: MaskClip, config: TrainingConfig) -> list[nn.Parameter]:
    """Weights of a new model that others have trained, but for what is new in the stem."""
    new = set(map(id, [*model.mask_weights(), *model.stem.depthwise.parameters()]))
    trained: list[nn.Parameter] = []
    visual, text = model.towers.visual, model.towers.text
    if config.init is None and pretrained(config):
        trained += (
            weight
            for name, weight in visual.named_parameters()
            if not f"visual.{name}".startswith(HEADS)
        )
    if config.init is None and isinstance(text, HFTextEncoder):
        trained += text.transformer.parameters()
    return [weight for weight in trained if id(weight) not in new]


def _select(batch: Batch, rows: slice) -> Batch:
    return Batch(
        batch.image[rows],
        batch.mask[rows],
        batch.captions[rows],
        batch.rows[rows],
        batch.attributes.at(rows),
        batch.facts.at(rows),
    )


@contextmanager
def explain_memory_errors(config: TrainingConfig, side: int) -> Iterator[None]:
    """Turn out-of-memory and compile errors into a SonoError that names the settings.

    `side` is the side of the frames in pixels. Other errors are raised unchanged.
    """
    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:160]
        raise SonoError(
            f"the model cannot be compiled here ({reason}); install g++, or set compile = false"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not isinstance(
            error, torch.OutOfMemoryError | MemoryError
        ) and "DefaultCPUAllocator" not in str(error):
            raise
        settings = (
            f"accumulate ({config.accumulate}), or lower batch_size ({config.batch_size}) or "
            f"image_size ({side})"
        )
        raise SonoError(
            f"memory is full at {config.batch_size} pairs per step; in [training] raise {settings}"
        ) from error
