import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from sono.training.objectives.losses import (
    Targets,
    caption_targets,
    identity_targets,
    prior_bias,
    semantic_loss,
    sigmoid_loss,
    softmax_loss,
)

IDS = [0, 1, 0, 2, 1, 0, 3]


def unit(count: int, seed: int) -> Tensor:
    values = torch.randn(
        count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return normalize(values, dim=-1).requires_grad_()


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def value_of(loss: Tensor) -> float:
    return float(loss.detach())


def gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def cosines(image: Tensor, text: Tensor) -> list[list[float]]:
    return [[float(cosine) for cosine in row] for row in (image @ text.T).detach()]


def soft_labels(count: int) -> Tensor:
    values = torch.rand(
        count, count, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    return ((values + values.T) / 2).fill_diagonal_(1.0)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [0, 1, 0, 1], [2, 2, 2, 1]])
def test_the_sigmoid_loss_is_the_written_out_double_sum(ids: list[int]) -> None:
    image, text = unit(4, 1), unit(4, 2)
    total = 0.0
    for i, row in enumerate(cosines(image, text)):
        for j, cosine in enumerate(row):
            sign = 1 if ids[i] == ids[j] else -1
            total -= math.log(1 / (1 + math.exp(-sign * (3.0 * cosine - 1.5))))
    loss = sigmoid_loss(image, text, scalar(3.0), scalar(-1.5), caption_targets(torch.tensor(ids)))
    assert value_of(loss) == pytest.approx(total / 4)


def test_the_sigmoid_loss_is_that_of_the_published_code(shared_data: Path) -> None:
    expected = np.load(shared_data.parent / "golden" / "sonoclip_tiny" / "expected.npz")
    image, text = (
        normalize(torch.tensor(expected[name][:4]), dim=-1)
        for name in ("image_features", "text_features")
    )
    loss = sigmoid_loss(
        image, text, torch.tensor(2.4).exp(), torch.tensor(-9.5), identity_targets(4)
    )
    assert float(loss) == pytest.approx(float(expected["sigmoid_loss"]), abs=1e-4)


def test_the_gradient_of_the_sigmoid_loss_is_the_written_out_one() -> None:
    image, text, scale, bias = unit(7, 1), unit(7, 2), scalar(3.0), scalar(-1.5)
    loss = sigmoid_loss(image, text, scale, bias, caption_targets(torch.tensor(IDS)))
    expected = torch.zeros(7, 5, dtype=torch.float64)
    for i in range(7):
        for j in range(7):
            logit = 3.0 * float(image[i].detach() @ text[j].detach()) - 1.5
            expected[i] += (
                (1 / (1 + math.exp(-logit)) - (IDS[i] == IDS[j])) * 3.0 * text[j].detach() / 7
            )
    assert torch.allclose(gradients(loss, image)[0], expected)


def test_the_softmax_loss_without_equal_captions_is_cross_entropy() -> None:
    image, text, scale = unit(7, 1), unit(7, 2), scalar(4.0)
    logits, own = scale * image @ text.T, torch.arange(7)
    plain = (
        torch.nn.functional.cross_entropy(logits, own)
        + torch.nn.functional.cross_entropy(logits.T, own)
    ) / 2
    assert value_of(softmax_loss(image, text, scale, identity_targets(7))) == pytest.approx(
        value_of(plain)
    )


def test_the_semantic_loss_is_zero_where_the_cosines_are_the_labels() -> None:
    image = unit(6, 3)
    wanted = (image @ image.T).detach()
    assert value_of(
        semantic_loss(image, image, lambda start, stop: wanted[start:stop])
    ) == pytest.approx(0.0, abs=1e-12)


Objective = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]

OBJECTIVES: dict[str, Objective] = {
    "identity": lambda i, t, s, b, chunk: sigmoid_loss(i, t, s, b, identity_targets(7), chunk),
    "caption": lambda i, t, s, b, chunk: sigmoid_loss(
        i, t, s, b, caption_targets(torch.tensor(IDS)), chunk
    ),
    "softmax": lambda i, t, s, b, chunk: (
        softmax_loss(i, t, s, caption_targets(torch.tensor(IDS)), chunk) + 0 * b
    ),
    "softmax identity": lambda i, t, s, b, chunk: (
        softmax_loss(i, t, s, identity_targets(7), chunk) + 0 * b
    ),
    "semantic": lambda i, t, s, b, chunk: (
        semantic_loss(i, t, lambda m, n: soft_labels(7)[m:n], chunk) + 0 * (s + b)
    ),
}


def written_sigmoid(
    image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, ids: list[int]
) -> Tensor:
    """Pair by pair."""
    terms = []
    for i, frame in enumerate(image):
        for j, caption in enumerate(text):
            logit = scale * sum(frame * caption) + bias
            chance = 1 / (1 + torch.exp(-logit))
            terms.append(-torch.log(chance if ids[i] == ids[j] else 1 - chance))
    return sum(terms, scalar(0.0)) / len(ids)


def shares(powers: list[Tensor]) -> list[Tensor]:
    """A softmax, written out."""
    return [torch.exp(power) / sum(torch.exp(other) for other in powers) for power in powers]


def written_softmax(image: Tensor, text: Tensor, scale: Tensor, ids: list[int]) -> Tensor:
    """Row by row, both ways.

    The positives of a row share its target, whose entropy is taken off.
    """
    terms = []
    for rows, columns in ((image, text), (text, image)):
        for i, row in enumerate(rows):
            told = shares([scale * sum(row * column) for column in columns])
            own = [-torch.log(told[j]) for j in range(len(ids)) if ids[i] == ids[j]]
            terms.append(sum(own, scalar(0.0)) / len(own) - math.log(len(own)))
    return sum(terms, scalar(0.0)) / len(terms)


def written_semantic(image: Tensor, text: Tensor, wanted: Tensor) -> Tensor:
    """Row by row, both ways: squares and divergence from the soft labels `wanted`."""
    terms = []
    for rows, columns in ((image, text), (text, image)):
        for i, row in enumerate(rows):
            cosines = [sum(row * column) for column in columns]
            squared = sum(
                (cosine - label) ** 2 for cosine, label in zip(cosines, wanted[i], strict=True)
            ) / len(wanted)
            want, told = (
                shares([label / 0.07 for label in wanted[i]]),
                shares([cosine / 0.07 for cosine in cosines]),
            )
            divergence = sum(p * torch.log(p / q) for p, q in zip(want, told, strict=True))
            terms.append(0.6 * squared + 0.4 * divergence)
    return sum(terms, scalar(0.0)) / len(terms)


WRITTEN: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda i, t, s, b: written_sigmoid(i, t, s, b, list(range(7))),
    "caption": lambda i, t, s, b: written_sigmoid(i, t, s, b, IDS),
    "softmax": lambda i, t, s, b: written_softmax(i, t, s, IDS) + 0 * b,
    "softmax identity": lambda i, t, s, b: written_softmax(i, t, s, list(range(7))) + 0 * b,
    "semantic": lambda i, t, s, b: written_semantic(i, t, soft_labels(7)) + 0 * (s + b),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradients_are_those_of_the_written_out_loops(name: str) -> None:
    leaves = unit(7, 1), unit(7, 2), scalar(5.0), scalar(-2.0)
    loss, written = OBJECTIVES[name](*leaves, 0), WRITTEN[name](*leaves)
    assert value_of(loss) == pytest.approx(value_of(written), rel=1e-12)
    for one, other in zip(gradients(loss, *leaves), gradients(written, *leaves), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_in_chunks_loss_and_gradients_are_those_of_the_whole(name: str, chunk: int) -> None:
    leaves = unit(7, 1), unit(7, 2), scalar(5.0), scalar(-2.0)
    whole, parts = OBJECTIVES[name](*leaves, 0), OBJECTIVES[name](*leaves, chunk)
    assert value_of(parts) == pytest.approx(value_of(whole))
    for one, other in zip(gradients(whole, *leaves), gradients(parts, *leaves), strict=True):
        assert torch.allclose(one, other)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any result had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    # torch's own
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.elements = max(
            [self.elements] + [x.numel() for x in [result] if isinstance(x, Tensor)]
        )
        return result


@pytest.mark.parametrize("name", ["identity", "softmax", "semantic"])
def test_in_chunks_the_whole_matrix_is_never_there(name: str) -> None:
    image, text, every = unit(200, 1), unit(200, 2), torch.arange(200)
    chunked: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: sigmoid_loss(
            image, text, scalar(5.0), scalar(-2.0), identity_targets(200), 10
        ),
        "softmax": lambda: softmax_loss(image, text, scalar(5.0), identity_targets(200), 10),
        "semantic": lambda: semantic_loss(
            image, text, lambda m, n: (every[m:n, None] == every).double(), 10
        ),
    }
    with LargestTensor() as largest:
        gradients(chunked[name](), image, text)
    assert largest.elements == 200 * 10


def test_different_captions_make_the_two_kinds_of_targets_equal() -> None:
    assert torch.equal(
        caption_targets(torch.arange(5)).positives(), identity_targets(5).positives()
    )


def test_a_pair_is_met_by_the_columns_of_all_processes() -> None:
    whole = Targets(torch.tensor(IDS), torch.tensor(IDS))
    half = caption_targets(torch.tensor(IDS[3:]), torch.tensor(IDS))
    assert torch.equal(
        half.positives(columns=slice(2, 6)), whole.positives(columns=slice(2, 6))[3:]
    )


def test_the_prior_bias_makes_a_positive_as_rare_as_it_is() -> None:
    probability = 1 / (1 + math.exp(-prior_bias(32)))
    assert probability == pytest.approx(1 / 32)


def test_matched_pairs_cost_less_than_shuffled_ones() -> None:
    image = unit(6, 3)
    scale, bias = scalar(10.0), scalar(-5.0)
    matched = sigmoid_loss(image, image, scale, bias, identity_targets(6))
    shuffled = sigmoid_loss(image, image.roll(1, 0), scale, bias, identity_targets(6))
    assert matched < shuffled
