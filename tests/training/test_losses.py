import math

import pytest
import torch
from torch.nn.functional import normalize

from sono.training.losses import caption_targets, identity_targets, prior_bias, sigmoid_loss


def unit(count: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [0, 1, 0, 1]])
def test_the_loss_is_the_written_out_double_sum(ids: list[int]) -> None:
    image, text = unit(4, 1), unit(4, 2)
    scale, bias = torch.tensor(3.0), torch.tensor(-1.5)
    targets = caption_targets(torch.tensor(ids))
    total = 0.0
    for i in range(4):
        for j in range(4):
            sign = 1 if ids[i] == ids[j] else -1
            logit = sign * (3.0 * float(image[i] @ text[j]) - 1.5)
            total -= math.log(1 / (1 + math.exp(-logit)))
    assert float(sigmoid_loss(image, text, scale, bias, targets)) == pytest.approx(total / 4)


def test_different_captions_make_the_two_kinds_of_targets_equal() -> None:
    assert torch.equal(caption_targets(torch.arange(5)), identity_targets(5))


def test_the_prior_bias_makes_a_positive_as_rare_as_it_is() -> None:
    probability = 1 / (1 + math.exp(-prior_bias(32)))
    assert probability == pytest.approx(1 / 32)


def test_matched_pairs_cost_less_than_shuffled_ones() -> None:
    image = unit(6, 3)
    scale, bias = torch.tensor(10.0), torch.tensor(-5.0)
    matched = sigmoid_loss(image, image, scale, bias, identity_targets(6))
    shuffled = sigmoid_loss(image, image.roll(1, 0), scale, bias, identity_targets(6))
    assert matched < shuffled
