"""Pooling under the mask: no effect at the start, and one afterwards."""

import pytest
import torch

from sono.training.architectures import ModelConfig
from sono.training.model import MaskClip


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
