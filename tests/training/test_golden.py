"""Parity with SonoCLIP's published code, which made the reference outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sono.training.interop.export_sonoclip import export_sonoclip
from sono.training.interop.preprocess import published_square
from sono.training.model.checkpoints import load_sonoclip
from sono.training.model.mask_clip import MaskClip
from sono.training.objectives.losses import identity_targets, sigmoid_loss

CLOSE = 1e-4


@pytest.fixture(scope="module")
def folder(shared_golden: Path) -> Path:
    return shared_golden / "sonoclip_tiny"


@pytest.fixture(scope="module")
def model(folder: Path) -> MaskClip:
    return load_sonoclip(folder / "base_clip.pt", folder / "sonoclip_vision.pth")


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(value) for name, value in np.load(folder / "expected.npz").items()
    }


def off(one: Tensor, two: Tensor) -> float:
    assert one.shape == two.shape
    return float((one - two).detach().abs().max())


def unit_square(model: MaskClip, expected: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The reference inputs before their normalization."""
    return expected["image"] * model.pixel_std + model.pixel_mean, expected["mask"] * 0.26 + 0.5


def test_the_stem(model: MaskClip, expected: dict[str, Tensor]) -> None:
    assert (
        off(model.stem(model.stem_input(*unit_square(model, expected))), expected["stem"]) < CLOSE
    )


def test_image_features(model: MaskClip, expected: dict[str, Tensor]) -> None:
    assert (
        off(model.encode_image(*unit_square(model, expected)), expected["image_features"]) < CLOSE
    )


def test_tokens_and_text_features(
    model: MaskClip, expected: dict[str, Tensor], folder: Path
) -> None:
    tokens = model.tokenize(json.loads((folder / "config.json").read_text())["texts"])
    assert torch.equal(tokens, expected["tokens"].long())
    assert off(model.encode_text(tokens), expected["text_features"]) < CLOSE


def test_preprocessing(model: MaskClip, expected: dict[str, Tensor]) -> None:
    image, mask = published_square(
        expected["raw_rgb"].numpy(), expected["raw_mask"].numpy() > 0, model.image_size
    )
    planes = model.stem_input(image, mask)
    assert off(planes[0, :3], expected["preprocessed_image"]) < CLOSE
    assert off(planes[0, 3:], expected["preprocessed_mask"]) < CLOSE
    assert off(model.encode_image(image, mask), expected["preprocessed_features"]) < CLOSE


def test_the_sigmoid_loss(model: MaskClip, expected: dict[str, Tensor]) -> None:
    image, text = (
        normalize(expected["image_features"], dim=-1),
        normalize(expected["text_features"], dim=-1),
    )
    loss = sigmoid_loss(image, text, model.logit_scale.exp(), model.logit_bias, identity_targets(4))
    assert loss.item() == pytest.approx(float(expected["sigmoid_loss"]), abs=CLOSE)


def test_the_export_holds_the_same_tensors_under_the_same_names(
    model: MaskClip, folder: Path, tmp_path: Path
) -> None:
    export_sonoclip(model, tmp_path)
    for ours, theirs in (
        ("base_clip.pt", "base_clip.pt"),
        ("sonoclip_vision.pth", "sonoclip_vision.pth"),
    ):
        written, given = (
            torch.load(place, weights_only=True) for place in (tmp_path / ours, folder / theirs)
        )
        assert set(written) == set(given)
    assert all(
        torch.equal(written["visual"][name], value) for name, value in given["visual"].items()
    )
    again = load_sonoclip(tmp_path / "base_clip.pt", tmp_path / "sonoclip_vision.pth")
    assert again.config == model.config
    assert all(
        torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items()
    )
