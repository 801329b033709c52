"""The loss of a batch by the settings: the pairs of this process against those of all."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sono.curation.core.atomic import atomic_path
from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.objectives.attributes import AttributeRows, soft_labels
from sono.training.objectives.facts import Facts
from sono.training.objectives.graph import AttributeGraph
from sono.training.objectives.losses import (
    Targets,
    caption_targets,
    prior_bias,
    semantic_direction,
    sigmoid_loss,
    softmax_direction,
)
from sono.training.objectives.reconstruction import RegionReconstruction
from sono.training.runtime.distributed import all_gather, get_rank
from sono.training.runtime.sharding import finite, load_whole

HEADS = "heads.safetensors"


@dataclass(frozen=True)
class Pairs:
    """The pairs of this process: unit features [n, d] of frames and captions, and their facts.

    Equal captions have equal `caption_ids` [n], in all processes.
    """

    image: Tensor
    text: Tensor
    caption_ids: Tensor
    attributes: AttributeRows
    facts: Facts


class Heads(nn.Module):
    """The modules that an objective trains in addition to the model; checkpoints omit them."""

    def __init__(self, config: TrainingConfig, captions: AttributeRows, width: int) -> None:
        super().__init__()
        self.graph = (
            AttributeGraph(captions, width, config.graph_gate) if config.graph_gate else None
        )
        self.reconstruction = RegionReconstruction(width) if config.reconstruction_weight else None


def pairs_loss(pairs: Pairs, scale: Tensor, bias: Tensor, config: TrainingConfig) -> Tensor:
    """The contrastive loss plus the weighted semantic loss.

    The mean of the result over the processes is the loss of the global batch. `scale` is
    exp(logit_scale). Every process must have the same number of pairs.
    """
    texts, ids = all_gather(pairs.text), all_gather(pairs.caption_ids)
    one_way = config.objective == "sigmoid" and not config.semantic_weight
    images = pairs.image if one_way else all_gather(pairs.image)
    targets, reverse = _targets(pairs, ids, config)
    if config.objective == "sigmoid":
        loss = sigmoid_loss(pairs.image, texts, scale, bias, targets, config.loss_chunk)
    else:
        forth = softmax_direction(pairs.image, texts, scale, targets, config.loss_chunk)
        back = softmax_direction(pairs.text, images, scale, reverse, config.loss_chunk)
        loss = (forth + back) / 2 + 0 * bias  # DDP needs a gradient for every weight
    if config.semantic_weight:
        loss = loss + config.semantic_weight * _semantic(
            pairs, images, texts, ids, config.loss_chunk
        )
    return loss


def starting_bias(config: TrainingConfig, published: float, batch_size: int) -> float:
    """The initial logit bias, as published or for a loss that compares `batch_size` pairs."""
    if config.bias == "published":
        return published
    return prior_bias(batch_size)


def _targets(pairs: Pairs, ids: Tensor, config: TrainingConfig) -> tuple[Targets, Targets]:
    """The targets of this process's frames against all texts, and its texts against all frames."""
    if config.targets != "fact" and not config.region_weight:
        targets = _positives(pairs.caption_ids, ids, config)
        return targets, targets
    own, facts = pairs.facts, pairs.facts.gathered()
    if config.targets == "fact":
        targets, reverse = Targets(own.true, facts.stated), Targets(own.stated, facts.true)
    else:
        targets = reverse = _positives(pairs.caption_ids, ids, config)
    if not config.region_weight:
        return targets, reverse
    groups = own.regional, facts.regional
    weights = role_weights(*groups, config.region_weight)
    return targets._replace(groups=groups, weights=weights), reverse._replace(
        groups=groups, weights=weights
    )


def _positives(own: Tensor, everyone: Tensor, config: TrainingConfig) -> Targets:
    if config.targets == "caption":
        return caption_targets(own, everyone)
    numbers = torch.arange(len(everyone), device=own.device)
    first = get_rank() * len(own)
    return Targets(numbers[first : first + len(own)], numbers)


def role_weights(own: Tensor, everyone: Tensor, region_weight: float) -> Tensor:
    """Weights [n] of the pairs of this process; `own` and `everyone` mark region pairs.

    The weighted mean over all pairs is (1 - region_weight) times the mean over whole frames plus
    region_weight times the mean over regions. If the batch has only one kind, all weights are 1.
    """
    if bool(everyone.all()) or not bool(everyone.any()):
        return torch.ones(len(own), device=own.device)
    shares = torch.tensor([1 - region_weight, region_weight], device=own.device)
    counts = torch.stack([(~everyone).sum(), everyone.sum()])
    return (shares * len(everyone) / counts)[own.long()]


def _semantic(pairs: Pairs, images: Tensor, texts: Tensor, ids: Tensor, chunk: int) -> Tensor:
    columns = pairs.attributes.gathered()

    def labels(start: int, stop: int) -> Tensor:
        equal = pairs.caption_ids[start:stop, None] == ids[None, :]
        return soft_labels(pairs.attributes.at(slice(start, stop)), columns, equal)

    forth = semantic_direction(pairs.image, texts, labels, chunk)
    return (forth + semantic_direction(pairs.text, images, labels, chunk)) / 2


def save_heads(folder: Path, state: dict[str, Tensor]) -> None:
    """Write the `state` of the heads for `--resume`; an empty state writes no file."""
    if weights := {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}:
        with atomic_path(folder / HEADS) as temporary:
            save_file(weights, temporary)


def load_heads(folder: Path, heads: Heads) -> None:
    """Restore the state that `save_heads` wrote; raises SonoError if it is missing or damaged."""
    if not heads.state_dict():
        return
    try:
        load_whole(heads, finite(load_file(folder / HEADS)))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise SonoError(
            f"{folder / HEADS}: missing or damaged; train again under another --name"
        ) from error
