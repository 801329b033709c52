"""Pooling under the mask: no effect at the start, and one afterwards."""

import copy
from pathlib import Path

import pytest
import torch

from sono.training.interop.export_onnx import export_onnx
from sono.training.model.architectures import ModelConfig
from sono.training.model.freeze import set_trainable
from sono.training.model.mask_clip import MaskClip
from sono.training.model.region_pool import as_map, masked_mean, place_of

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
TRANSFORMER = {"image_size": 64, "patch_size": 8, "width": 64, "layers": 4, "head_width": 32}
TIMM = {
    "timm_model_name": "vit_tiny_patch16_224",
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 64,
}
VISION = {"open_clip": TRANSFORMER, "timm": TIMM}  # vision transformers, by who wrote them
KINDS = ["lite0", "nano", *VISION]


def built(kind: str) -> MaskClip:
    torch.manual_seed(0)
    own = (
        {"embed_dim": 64, "vision_cfg": VISION[kind], "text_cfg": TEXT} if kind in VISION else None
    )
    return MaskClip(
        ModelConfig(name=kind, architecture=own, image_size=64, region_pool=True)
    ).eval()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> MaskClip:
    return built(request.param)


def test_any_mask_gives_the_same_bits_at_the_start(model: MaskClip) -> None:
    frame = torch.rand(2, 1, 64, 64)
    masks = [torch.ones_like(frame), torch.zeros_like(frame), (frame > 0.5).float()]
    first, *others = [model.encode_image(frame, mask) for mask in masks]
    assert all(torch.equal(first, other) for other in others)


def test_the_pooling_learns_and_then_two_masks_give_two_features(model: MaskClip) -> None:
    assert model.region_pool is not None
    frame = torch.rand(2, 1, 64, 64)
    model.encode_image(frame, (frame > 0.5).float()).square().sum().backward()
    gradient = model.region_pool.head.weight.grad
    assert gradient is not None and bool(gradient.any())
    with torch.no_grad():
        model.region_pool.head.weight.fill_(0.1)
    half = torch.zeros_like(frame)
    half[..., :32] = 1
    assert not torch.equal(model.encode_image(frame, half), model.encode_image(frame, 1 - half))


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_are_averaged_where_their_patches_lie(prefix: int) -> None:
    grid = torch.arange(12.0 * 16).view(1, 12, 4, 4)  # 12 channels of 4 x 4 patches
    tokens = torch.cat([torch.full((1, prefix, 12), -1e6), grid.flatten(2).mT], dim=1)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :16, 32:48] = 1  # the third patch of the first row
    assert torch.equal(masked_mean(as_map(tokens), mask), grid[:, :, 0, 2])
    assert torch.equal(as_map(grid), grid)


def test_it_learns_and_is_stored_on_every_tower(model: MaskClip) -> None:
    assert model.region_pool is not None
    model.train()
    frame = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        model.region_pool.head.weight.normal_(std=0.1)
    model.encode_image(frame, (frame > 0.5).float()).square().sum().backward()
    assert all(
        weight.grad is not None and bool(weight.grad.any())
        for weight in model.region_pool.parameters()
    )
    model.eval()
    twin = copy.deepcopy(model)  # as averaged weights are
    with torch.no_grad():
        twin.region_pool.head.weight.mul_(2)  # type: ignore[union-attr]
    again = MaskClip(model.config).eval()
    again.load_state_dict(model.state_dict())
    mask = (frame > 0.5).float()
    found = [each.encode_image(frame, mask) for each in (model, again, twin)]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    set_trainable(model, "heads")
    assert all(weight.requires_grad for weight in model.region_pool.parameters())


@pytest.mark.slow
def test_a_transformer_with_pooling_is_exported(tmp_path: Path) -> None:
    vision = TRANSFORMER | {"layers": 2}
    own = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXT | {"context_length": 8}}
    torch.manual_seed(0)
    model = MaskClip(
        ModelConfig(name="open_clip", architecture=own, image_size=64, region_pool=True)
    ).eval()
    assert model.region_pool is not None
    with torch.no_grad():
        model.region_pool.head.weight.normal_(std=0.1)
    export_onnx(model, tmp_path)  # which compares the graph with the model


def test_another_tower_has_the_mask_in_its_stem_alone() -> None:
    vision = {
        "timm_model_name": "convnext_atto",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    }
    own = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXT}
    assert (
        MaskClip(ModelConfig(name="atto", architecture=own, region_pool=True)).region_pool is None
    )


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
        model.region_pool.head.weight.normal_(std=0.1)  # type: ignore[union-attr]
    frame, left, right = (
        torch.zeros(1, 1, 64, 64),
        torch.zeros(1, 1, 64, 64),
        torch.zeros(1, 1, 64, 64),
    )
    left[..., 24:40, 8:24], right[..., 24:40, 40:56] = 1, 1
    features = model.encode_image(frame.expand(2, -1, -1, -1), torch.cat([left, right]))
    assert bool((features[0] - features[1]).abs().max() > 0.01)
