"""Contrastive losses: pure functions of unit features, without storing the n x n matrix.

Positives are given by numbers. With several processes, each has its own rows and all columns: the
mean of a loss over the processes is the loss of the global batch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# of the logits at a time, a little more (32 MiB in float32, which glibc gives back when it is
# freed)
CELLS = 2**23
# of the semantic loss: Ultrasound-CLIP (arXiv 2604.01749)
SQUARED, DIVERGENCE, TEMPERATURE = 0.6, 0.4, 0.07
EVERY = slice(None)


class Targets(NamedTuple):
    """Row i and column j are a positive pair if they share a number.

    Cells whose row and column differ in `groups` are not part of the loss. `weights` multiply the
    loss of each row.
    """

    rows: Tensor  # numbers [n], or several of each row [n, k]
    columns: Tensor  # numbers [m] or [m, k]
    groups: tuple[Tensor, Tensor] | None = None  # [n] and [m]
    weights: Tensor | None = None  # [n]

    def positives(self, rows: slice = EVERY, columns: slice = EVERY) -> Tensor:
        """Which cells of some rows and columns are positives, bool [rows, columns]."""
        one, other = (
            numbers.reshape(len(numbers), -1)
            for numbers in (self.rows[rows], self.columns[columns])
        )
        return (one[:, None, :, None] == other[None, :, None, :]).flatten(2).any(2)

    def apart(self, rows: slice = EVERY, columns: slice = EVERY) -> Tensor | None:
        """Which cells are not part of the loss, bool [rows, columns]; None if all are."""
        if self.groups is None:
            return None
        return self.groups[0][rows, None] != self.groups[1][None, columns]

    def weighted(self, losses: Tensor, rows: slice = EVERY) -> Tensor:
        """The losses of some rows [rows, ...] times the weights."""
        if self.weights is None:
            return losses
        return losses * self.weights[rows].reshape(-1, *[1] * (losses.ndim - 1))


def identity_targets(size: int, device: torch.device | None = None) -> Targets:
    """Only a pair's own caption is a positive."""
    numbers = torch.arange(size, device=device)
    return Targets(numbers, numbers)


def caption_targets(caption_ids: Tensor, all_ids: Tensor | None = None) -> Targets:
    """The targets by which equal captions are positives of each other.

    `caption_ids` [n] are those of the rows, `all_ids` [m] those of all columns.
    """
    return Targets(caption_ids, caption_ids if all_ids is None else all_ids)


def prior_bias(batch_size: int) -> float:
    """The bias at which one positive among `batch_size` n is expected: log(1 / (n - 1))."""
    return -math.log(max(batch_size - 1, 1))


def sigmoid_loss(
    image_features: Tensor,
    text_features: Tensor,
    scale: Tensor,
    bias: Tensor,
    targets: Targets,
    chunk: int = 0,
) -> Tensor:
    """SigLIP's loss: -(1/n) sum_ij log sigmoid(y_ij (scale z_i.w_j + bias)).

    y = +1 for `targets`, else -1. Features [n, d] and [m, d] of unit length, scale =
    exp(logit_scale); `chunk` captions at a time (0: as many as fit). Source: SigLIP, ICCV 2023.
    """
    scaled = scale * image_features

    def part(text: Tensor, start: int) -> Tensor:
        stop = start + len(text)
        logits = scaled @ text.T + bias
        signs = targets.positives(columns=slice(start, stop)).to(logits.dtype) * 2 - 1
        losses = -F.logsigmoid(signs * logits)
        apart = targets.apart(columns=slice(start, stop))
        return targets.weighted(losses if apart is None else losses.masked_fill(apart, 0.0)).sum()

    return _sum_of_parts(part, text_features, len(image_features), chunk) / len(image_features)


def softmax_loss(
    image_features: Tensor, text_features: Tensor, scale: Tensor, targets: Targets, chunk: int = 0
) -> Tensor:
    """InfoNCE in both directions, averaged: [n, d] frames against their n captions.

    See `softmax_direction`.
    """
    forth = softmax_direction(image_features, text_features, scale, targets, chunk)
    return (forth + softmax_direction(text_features, image_features, scale, targets, chunk)) / 2


def softmax_direction(
    rows: Tensor, columns: Tensor, scale: Tensor, targets: Targets, chunk: int = 0
) -> Tensor:
    """Mean divergence of the softmax over columns [m, d] from the positives of rows [n, d].

    The logits are scale * r.c. The positives of a row share its target evenly, so a row with k of
    them has the cross-entropy minus log k: the minimum is 0 even if a text is repeated. `chunk`
    rows at a time (0: as many as fit). Source: CLIP, ICML 2021.
    """

    def part(some: Tensor, start: int) -> Tensor:
        rows, logits = slice(start, start + len(some)), some @ columns.T
        positive, apart = targets.positives(rows), targets.apart(rows)
        count = positive.sum(1).to(logits.dtype)
        own = logits.where(positive, 0.0).sum(1) / count
        met = logits if apart is None else logits.masked_fill(apart, -math.inf)
        return targets.weighted(met.logsumexp(1) - own - count.log(), rows).sum()

    return _sum_of_parts(part, scale * rows, len(columns), chunk) / len(rows)


def semantic_loss(
    image_features: Tensor, text_features: Tensor, labels: "SoftLabels", chunk: int = 0
) -> Tensor:
    """Soft labels in both directions, averaged: [n, d] frames against their n captions.

    See `semantic_direction`.
    """
    forth = semantic_direction(image_features, text_features, labels, chunk)
    return (forth + semantic_direction(text_features, image_features, labels, chunk)) / 2


# the labels [stop - start, m] in [0, 1] of the rows from start to stop
SoftLabels = Callable[[int, int], Tensor]


def semantic_direction(rows: Tensor, columns: Tensor, labels: SoftLabels, chunk: int = 0) -> Tensor:
    """The loss of cosines against soft labels s.

    0.6 mean (cos - s)^2 + 0.4 mean_i KL(softmax(s_i / 0.07) || softmax(cos_i / 0.07)). Rows [n, d]
    and columns [m, d] of unit length; `chunk` rows at a time. Source: Ultrasound-CLIP (arXiv
    2604.01749).
    """

    def part(some: Tensor, start: int) -> Tensor:
        cosine, wanted = some @ columns.T, labels(start, start + len(some))
        squared = (cosine - wanted).square().mean(1).sum()
        found, want = (cosine / TEMPERATURE).log_softmax(1), (wanted / TEMPERATURE).log_softmax(1)
        return SQUARED * squared + DIVERGENCE * (want.exp() * (want - found)).sum()

    return _sum_of_parts(part, rows, len(columns), chunk) / len(rows)


def _sum_of_parts(
    part: Callable[[Tensor, int], Tensor], features: Tensor, width: int, chunk: int
) -> Tensor:
    """The sum of `part(features[start:stop], start)`.

    Each part is computed again for its gradient.
    """
    size = chunk or math.ceil(CELLS / max(width, 1))
    if size >= len(features):
        return part(features, 0)
    # split, and not slices, whose gradients would each be as large as all features
    pieces = features.split(size)
    values = [
        checkpoint(part, piece, number * size, use_reentrant=False, preserve_rng_state=False)
        for number, piece in enumerate(pieces)
    ]
    return torch.stack(values).sum()
