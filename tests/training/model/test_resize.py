"""A vision tower at another image size.

At its own size the features are bit-equal, at another one they are nearly equal.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from sono.curation.core.errors import SonoError
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.model.resize import NO_TEXT, _fill, resized, resized_positions

TOWERS: dict[str, dict[str, Any]] = {
    "open_clip": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 224},
    "timm": {
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    },
    "convolutional": {
        "timm_model_name": "resnet10t",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 224,
    },
}


def model_of(vision: dict[str, Any]) -> MaskClip:
    """With random weights, and positions that change slowly over the frame, as trained ones do."""
    torch.manual_seed(0)
    architecture = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": NO_TEXT}
    model = MaskClip(ModelConfig(name="toy", architecture=architecture)).eval()
    for name, weight in model.towers.visual.named_parameters():
        if name.endswith(("positional_embedding", "pos_embed")):
            with torch.no_grad():
                weight[..., 1:, :] = waves(14, weight.shape[-1]).reshape(weight[..., 1:, :].shape)
    return model


def waves(side: int, width: int) -> Tensor:
    """Slow waves [side * side, width] over the unit square, sampled at the centers of its cells."""
    place = (torch.arange(side) + 0.5) / side
    across, down = torch.rand(2, width, generator=torch.Generator().manual_seed(1)) * 4
    return torch.sin(place[:, None, None] * down + place[None, :, None] * across).reshape(
        side * side, width
    )


def smooth(side: int) -> Tensor:
    place = (torch.arange(side) + 0.5) / side
    return (0.4 + 0.3 * torch.sin(3 * place[:, None] + place[None, :]))[None, None]


@torch.inference_mode()
def features(model: MaskClip) -> Tensor:
    image = smooth(model.image_size)
    return model.encode_image(image, torch.ones_like(image))[0]


@pytest.mark.parametrize("tower", TOWERS)
def test_its_own_size_changes_no_bit(tower: str) -> None:
    model = model_of(TOWERS[tower])
    before, weights = (
        features(model),
        {name: value.clone() for name, value in model.state_dict().items()},
    )
    after = resized(model, 224)
    assert after.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in after.state_dict().items())
    assert torch.equal(features(after), before)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_smooth_frame_has_nearly_the_same_features_at_336_pixels(tower: str) -> None:
    model = model_of(TOWERS[tower])
    before = features(model)
    after = resized(model, 336)
    assert (after.image_size, after.config.image_size) == (336, 336)
    found = features(after)
    assert bool(found.isfinite().all())
    # with positions shuffled 0.9996, with new ones 0.84
    assert torch.cosine_similarity(found, before, dim=0) > 0.9999
    again = MaskClip(after.config).eval()  # as a checkpoint builds it
    again.load_state_dict(after.state_dict())
    assert torch.equal(features(again), found)


def test_positions_are_what_the_waves_are_on_the_finer_grid() -> None:
    whole = torch.randn(2, 40)
    found = resized_positions(torch.cat([whole, waves(14, 40)])[None], 2 + 21 * 21)
    assert found is not None
    assert torch.equal(found[0, :2], whole)
    inner = (found[0, 2:] - waves(21, 40)).reshape(21, 21, 40)[2:-2, 2:-2]
    assert inner.abs().max() < 2e-3
    assert resized_positions(torch.zeros(17, 4), 22) is None  # one token beside the grid, or six


def test_weights_that_mix_places_cannot_be_resized() -> None:
    model = model_of(
        {
            "timm_model_name": "mixer_s32_224",
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        }
    )
    with pytest.raises(SonoError, match=r"'toy' cannot be resized from 224 to 336 pixels"):
        resized(model, 336)
    assert model.image_size == 224


def test_any_other_weight_of_another_shape_is_named() -> None:
    with pytest.raises(
        SonoError, match=r"'weight' of the vision tower cannot be resized from 8 to 16"
    ):
        _fill(torch.nn.Linear(4, 2), torch.nn.Linear(3, 2).state_dict(), "from 8 to 16 pixels")
