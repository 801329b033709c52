import pytest
import torch
from torch import nn

from sono.curation.errors import SonoError
from sono.training.model import MaskClip, MaskStem, ModelConfig, architecture_of


@pytest.fixture(scope="module")
def nano() -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(image_size=64)).eval()


def frames(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mask", ["zeros", "ones", "random"])
def test_any_mask_gives_bit_equal_features_before_training(nano: MaskClip, mask: str) -> None:
    image = frames(2, 64)
    masks = {"zeros": torch.zeros_like(image), "ones": torch.ones_like(image), "random": (frames(2, 64) > 0.7).float()}
    with torch.inference_mode():
        plain = nano.encode_image(image, torch.zeros_like(image))
        assert torch.equal(nano.encode_image(image, masks[mask]), plain)
    assert plain.std() > 0


def test_the_stem_on_gray_equals_the_rgb_convolution_on_equal_channels() -> None:
    conv = nn.Conv2d(3, 8, 7, stride=2, padding=3)
    stem = MaskStem(conv)
    gray = frames(2, 32)
    pair = torch.cat([gray, torch.ones_like(gray)], dim=1)
    assert torch.allclose(stem(pair), conv(gray.expand(-1, 3, -1, -1)), atol=1e-5)


def test_the_mask_matters_once_its_filters_are_not_zero(nano: MaskClip) -> None:
    model = MaskClip(ModelConfig(image_size=64)).eval()
    stem = next(module for module in model.modules() if isinstance(module, MaskStem))
    nn.init.normal_(stem.mask.weight)
    image = frames(1, 64)
    with torch.inference_mode():
        assert not torch.equal(
            model.encode_image(image, torch.zeros_like(image)), model.encode_image(image, torch.ones_like(image))
        )


def test_nano_is_compact(nano: MaskClip) -> None:
    assert sum(weight.numel() for weight in nano.towers.visual.parameters()) < 6_000_000


def test_pixel_statistics_travel_with_the_model(nano: MaskClip) -> None:
    assert {"pixel_mean", "pixel_std"} <= set(nano.state_dict())


def test_any_open_clip_architecture_gets_the_stem() -> None:
    model = MaskClip(ModelConfig(name="ViT-S-32-alt", image_size=64)).eval()
    assert any(isinstance(module, MaskStem) for module in model.modules())
    image = frames(2, 64)
    with torch.inference_mode():
        features = model.encode_image(image, torch.ones_like(image))
        words = model.encode_text(model.tokenize(["femur", "fetal head"]))
    assert features.shape == words.shape


def test_an_unknown_architecture_suggests_one() -> None:
    with pytest.raises(SonoError, match="did you mean 'ViT-B-16'"):
        architecture_of(ModelConfig(name="ViT-B16"))


def test_a_hugging_face_text_tower_is_refused_in_words() -> None:
    with pytest.raises(SonoError, match="Hugging Face text tower"):
        architecture_of(ModelConfig(name="roberta-ViT-B-32"))


def test_text_features_do_not_depend_on_the_company(nano: MaskClip) -> None:
    with torch.inference_mode():
        alone = nano.encode_text(nano.tokenize(["femur"]))
        together = nano.encode_text(nano.tokenize(["a much longer caption of a fetal head", "femur"]))
    assert torch.allclose(alone[0], together[1], atol=1e-5)
