"""Pooling under the mask: no effect at the start, and one afterwards."""

import pytest
import torch

from sono.training.architectures import ModelConfig
from sono.training.model import MaskClip
from sono.training.region_pool import place_of


@pytest.fixture
def model() -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(name="lite0", image_size=64, region_pool=True)).eval()


def test_any_mask_gives_the_same_bits_at_the_start(model: MaskClip) -> None:
    frame = torch.rand(2, 1, 64, 64)
    masks = [torch.ones_like(frame), torch.zeros_like(frame), (frame > 0.5).float()]
    first, *others = [model.encode_image(frame, mask) for mask in masks]
    assert all(torch.equal(first, other) for other in others)


def test_the_pooling_learns_and_then_two_masks_give_two_features(model: MaskClip) -> None:
    assert model.region_head is not None
    frame = torch.rand(2, 1, 64, 64)
    model.encode_image(frame, (frame > 0.5).float()).square().sum().backward()
    gradient = model.region_head.weight.grad
    assert gradient is not None and bool(gradient.any())
    with torch.no_grad():
        model.region_head.weight.fill_(0.1)
    half = torch.zeros_like(frame)
    half[..., :32] = 1
    assert not torch.equal(model.encode_image(frame, half), model.encode_image(frame, 1 - half))


def test_the_place_of_a_mask_is_its_center_its_spread_and_its_size() -> None:
    side = 64
    masks = torch.zeros(3, 1, side, side)
    masks[0] = 1
    masks[1, :, 16:32, 32:48] = 1  # rows, columns: above and right of the middle
    whole, part, empty = place_of(masks)
    torch.testing.assert_close(whole, torch.tensor([0, 0, 1.1729, 1.1729, 2.0]), rtol=0, atol=1e-4)
    x, y, spread_x, spread_y, size = part.tolist()
    assert (x, y) == pytest.approx((0.5, -0.5), abs=0.02)
    assert spread_x == pytest.approx(spread_y, abs=1e-5) and spread_x < 0.4
    assert size == pytest.approx(2 * 0.25)
    assert empty.tolist() == [0] * 5


def test_two_equal_structures_are_told_apart_by_their_place(model: MaskClip) -> None:
    with torch.no_grad():
        model.region_head.weight.normal_(std=0.1)  # type: ignore[union-attr]
    frame, left, right = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    left[..., 24:40, 8:24], right[..., 24:40, 40:56] = 1, 1
    features = model.encode_image(frame.expand(2, -1, -1, -1), torch.cat([left, right]))
    assert bool((features[0] - features[1]).abs().max() > 0.01)
