import pytest
import torch
from torch import nn

from sono.curation.core.errors import SonoError
from sono.training.model.architectures import ModelConfig, architecture_of
from sono.training.model.mask_clip import MaskClip, MaskStem

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def nano() -> MaskClip:
    torch.manual_seed(0)
    return MaskClip(ModelConfig(name="nano", image_size=64)).eval()


def frames(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mask", ["zeros", "ones", "random"])
def test_any_mask_gives_bit_equal_features_before_training(nano: MaskClip, mask: str) -> None:
    image = frames(2, 64)
    masks = {
        "zeros": torch.zeros_like(image),
        "ones": torch.ones_like(image),
        "random": (frames(2, 64) > 0.7).float(),
    }
    with torch.inference_mode():
        plain = nano.encode_image(image, torch.zeros_like(image))
        assert torch.equal(nano.encode_image(image, masks[mask]), plain)
    assert plain.std() > 0


def test_one_gray_filter_equals_the_rgb_filters_on_equal_channels() -> None:
    conv = nn.Conv2d(3, 8, 7, stride=2, padding=3)
    stem = MaskStem(conv, torch.tensor([0.0]), torch.tensor([1.0]))
    gray = frames(2, 32)
    planes = torch.cat([gray, torch.ones_like(gray)], dim=1)
    assert torch.allclose(stem(planes), conv(gray.expand(-1, 3, -1, -1)), atol=1e-5)


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "nano", "RN50"])
def test_gray_frames_give_what_the_rgb_path_gives_up_to_the_border(name: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        name=name, image_size=64, channels=3, pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD
    )
    model = MaskClip(config).eval()
    gray = torch.nn.functional.pad(frames(2, 64)[:, :, 16:48], (0, 0, 16, 16))  # letterboxed
    mask = (frames(2, 64) > 0.5).float()
    nn.init.normal_(model.stem.mask.weight, std=0.02)
    nn.init.normal_(model.stem.depthwise.weight, std=0.1)
    with torch.inference_mode():
        rgb = gray.expand(-1, 3, -1, -1)
        one, three = (
            model.stem(model.stem_input(gray, mask)),
            model.stem(model.stem_input(rgb, mask)),
        )
        assert (one - three).abs().max() < 1e-5
        assert torch.allclose(
            model.encode_image(gray, mask), model.encode_image(rgb, mask), atol=1e-5
        )


def test_gray_frames_teach_the_rgb_filters_what_rgb_frames_would() -> None:
    torch.manual_seed(0)
    stem = MaskStem(nn.Conv2d(3, 8, 3, padding=1), torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD))
    gray, mask = frames(2, 16), torch.ones(2, 1, 16, 16)
    rgb = (gray - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    gradients = [
        torch.autograd.grad(stem(torch.cat([f, mask], 1)).square().sum(), stem.image.weight)
        for f in (gray, rgb)
    ]
    assert torch.allclose(gradients[0][0], gradients[1][0], rtol=1e-4, atol=1e-2)


def test_color_before_a_gray_model_is_refused(nano: MaskClip) -> None:
    with pytest.raises(SonoError, match="frames have 3 channels, the model expects 1"):
        nano.encode_image(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))


def test_the_mask_matters_once_its_filters_are_not_zero(nano: MaskClip) -> None:
    model = MaskClip(ModelConfig(name="nano", image_size=64)).eval()
    stem = next(module for module in model.modules() if isinstance(module, MaskStem))
    nn.init.normal_(stem.mask.weight)
    image = frames(1, 64)
    with torch.inference_mode():
        assert not torch.equal(
            model.encode_image(image, torch.zeros_like(image)),
            model.encode_image(image, torch.ones_like(image)),
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


@pytest.mark.parametrize(("name", "side"), [("small", 192), ("base", 224), ("large", 336)])
def test_the_larger_sizes_are_named(name: str, side: int) -> None:
    with torch.device("meta"):
        model = MaskClip(ModelConfig(name=name))
    assert model.image_size == side
    planes = torch.zeros(1, 1, side, side, device="meta")
    assert model.encode_image(planes, planes).shape == (
        1,
        architecture_of(model.config)["embed_dim"],
    )


def test_a_first_layer_of_parallel_branches_is_refused() -> None:
    with torch.device("meta"), pytest.raises(SonoError, match="2 convolutions on three channels"):
        MaskClip(ModelConfig(name="MobileCLIP-S1"))


def test_a_model_that_writes_captions_is_refused() -> None:
    with pytest.raises(SonoError, match="two plain towers"):
        architecture_of(ModelConfig(name="coca_ViT-B-32"))


@pytest.mark.parametrize("length", [77, 117, 128])
def test_the_context_is_as_long_as_asked(length: int) -> None:
    model = MaskClip(ModelConfig(name="nano", image_size=64, context_length=length)).eval()
    tokens = model.tokenize(["femur " * 200])
    assert tokens.shape == (1, length)
    with torch.inference_mode():
        assert model.encode_text(tokens).shape == (1, 128)


def test_text_features_do_not_depend_on_the_company(nano: MaskClip) -> None:
    with torch.inference_mode():
        alone = nano.encode_text(nano.tokenize(["femur"]))
        together = nano.encode_text(
            nano.tokenize(["a much longer caption of a fetal head", "femur"])
        )
    assert torch.allclose(alone[0], together[1], atol=1e-5)
