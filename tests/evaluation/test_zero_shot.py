"""Features and scores, with a model whose answers are known, and with a real one."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import frame_file
from sono.evaluation.captions import CaptionedFrames, OwnCaptions, caption_results
from sono.evaluation.region_control.regions import Regions
from sono.evaluation.statistics.bootstrap import Draws
from sono.evaluation.statistics.metrics import cosines
from sono.evaluation.zero_shot import class_features, mode_features, text_features
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip


class TwoWords(torch.nn.Module):
    """Text "x" is (3, 0), "y" is (0, 1); any image is (0, 2)."""

    image_size = 8

    def __init__(self, value: float = 2.0) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.value = value

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[3.0, 0.0], [0.0, 1.0]])[["xy".index(text) for text in texts]]

    def encode_image(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, self.value]]).repeat(len(image), 1)


@pytest.fixture
def frames(tmp_path: Path) -> list[Path]:
    """Five frames of noise."""
    files = []
    for number in range(5):
        gray = np.random.default_rng(number).integers(0, 255, (40, 60), np.uint8)
        files.append(tmp_path / Path(frame_file(f"{number:02d}", gray)).name)
        files[-1].write_bytes(cv2.imencode(".png", gray)[1].tobytes())
    return files


def test_a_class_is_the_unit_mean_of_its_unit_prompts() -> None:
    found = class_features(TwoWords(), [["x", "y"], ["y"]])
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)


def test_text_features_do_not_depend_on_the_batch() -> None:
    model = TwoWords()
    np.testing.assert_array_equal(
        text_features(model, ["x", "y", "x"], 2), text_features(model, ["x", "y", "x"])
    )


def test_scores_that_differ_by_float_noise_are_ties() -> None:
    images, texts = (
        np.array([[1.0, 0.0]], np.float32),
        np.array([[0.7, 0.1], [0.7 + 1e-7, 0.1]], np.float32),
    )
    assert len(set(cosines(images, texts)[0])) == 1


def test_a_mode_without_mask_leaves_a_row_of_nan(frames: list[Path]) -> None:
    whole = np.ones((8, 8), np.bool_)
    covered = {"all_one": range(5), "some": (1, 3), "none": ()}
    found = mode_features(
        TwoWords(),
        frames,
        list(covered),
        lambda m, n: whole if n in covered[m] else None,
        batch_size=2,
    )
    assert set(found) == {"all_one", "some"}
    assert np.isnan(found["some"]).all(axis=1).tolist() == [True, False, True, False, True]
    np.testing.assert_array_equal(found["all_one"], [[0, 1]] * 5)


def test_features_that_are_not_finite_are_refused(frames: list[Path]) -> None:
    with pytest.raises(SonoError, match="not finite"):
        mode_features(
            TwoWords(float("nan")),
            frames,
            ["all_one"],
            lambda mode, number: np.ones((8, 8), np.bool_),
        )


def test_an_untrained_real_model_does_not_see_the_mask(frames: list[Path]) -> None:
    torch.manual_seed(0)
    model = MaskClip(ModelConfig(name="nano", image_size=64)).eval()
    masks = {"all_one": np.ones((64, 64), np.bool_), "empty": np.zeros((64, 64), np.bool_)}
    found = mode_features(
        model, frames, list(masks), lambda mode, number: masks[mode], batch_size=3
    )
    np.testing.assert_array_equal(found["all_one"], found["empty"])
    np.testing.assert_allclose(np.linalg.norm(found["all_one"], axis=1), 1, atol=1e-5)


def test_equal_captions_are_right_for_each_other() -> None:
    images = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    shown = CaptionedFrames(["a", "b", "c", "d"], images, np.arange(4), np.array([0, 0, 0, 1]))
    captions = OwnCaptions({"a": "x", "b": "x", "c": "y"}, {})
    found = caption_results(TwoWords(), shown, Regions(()), captions, Draws(100)).metrics
    assert (found["frames"], found["distinct_captions"]) == (3, 2)
    assert (found["paired"], found["unpaired"], found["modality_gap"]) == (1, 0, 0)
    points = {name: row["at_1"]["point"] for name, row in found["retrieval"].items()}
    assert (points["image_to_text"], points["image_to_text_by_chance"]) == (1, 0.5)
    assert points["text_to_image"] == 1 and points["text_to_image_by_chance"] == round(5 / 9, 6)
    assert points["image_to_text_own_pair"] == round(2 / 3, 6)
    assert points["image_to_text_known_group"] == 0.5  # all captions are of one plane
    apart = replace(shown, planes=np.array([0, 0, 1, 1]))
    sure = caption_results(TwoWords(), apart, Regions(()), captions, Draws(100)).metrics
    assert sure["retrieval"]["image_to_text_known_group"]["at_1"]["point"] == 1
    # with the captions of other frames, one of the three is right by accident
    assert points["image_to_text_exchanged"] == round(1 / 3, 6)
    nobody = caption_results(TwoWords(), shown, Regions(()), OwnCaptions({}, {}), Draws(100))
    assert nobody.metrics == {}
