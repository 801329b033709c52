"""Maps of a phrase: the sum is the cosine, the right place is found, and the mask moves them."""

import numpy as np
import pytest
import torch

from sono.evaluation.maps import cell_map, occlusion_map, positive_share
from sono.evaluation.zero_shot import masked_features
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.model.region_pool import place_of

SIDE = 64


@pytest.fixture(scope="module")
def model() -> MaskClip:
    torch.manual_seed(0)
    made = MaskClip(ModelConfig(name="nano", image_size=SIDE, region_pool=True)).eval()
    with torch.no_grad():
        for weight in made.mask_weights():
            weight.normal_(std=0.1)
    return made


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)


def half(left: bool) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[:, slice(0, SIDE // 2) if left else slice(SIDE // 2, SIDE)] = True
    return mask


@pytest.mark.parametrize("mask", [np.ones((SIDE, SIDE), np.bool_), half(True)])
def test_the_cells_add_up_to_the_cosine(
    model: MaskClip, frame: np.ndarray, mask: np.ndarray
) -> None:
    text = np.zeros(128, np.float32)
    text[3] = 1
    found = cell_map(model, frame, mask, text)
    assert found is not None
    inside = torch.from_numpy(mask).float()[None, None]
    image = torch.from_numpy(frame).float()[None, None] / 255
    pool = model.region_pool
    assert pool is not None
    with torch.no_grad():
        length = model.encode_image(image, inside).norm()
        place = torch.relu(pool.place(place_of(inside))) @ pool.head.weight[3, -32:] / length
    cosine = masked_features(model, frame[None], mask[None])[0] @ text
    assert found.sum() + float(place[0]) == pytest.approx(float(cosine), abs=1e-5)


def test_the_mask_moves_the_cells(model: MaskClip, frame: np.ndarray) -> None:
    text = np.eye(128, dtype=np.float32)[5]
    maps = {side: cell_map(model, frame, half(side), text) for side in (True, False)}
    shares = {side: positive_share(maps[side], half(True)) for side in maps}
    assert shares[True] > shares[False] + 0.02


class Corner:
    """The cosine with (1, 0) is the brightness of the upper left corner, if the mask has it."""

    image_size = SIDE
    logit_scale = torch.zeros(1)

    def encode_image(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        bright = image[:, 0, :16, :16].mean(dim=(1, 2)) * mask[:, 0, :16, :16].amin(dim=(1, 2))
        return torch.stack([bright, torch.sqrt(1 - bright**2)], dim=1)


def test_occlusion_finds_what_the_answer_depends_on() -> None:
    square = np.zeros((SIDE, SIDE), np.uint8)
    square[:16, :16] = 200
    corner, whole = square > 0, np.ones((SIDE, SIDE), np.bool_)
    text = np.array([1, 0], np.float32)
    found = occlusion_map(Corner(), square, whole, text)
    assert found[:12, :12].min() > 0 and np.abs(found[32:, 32:]).max() == 0
    assert positive_share(found, corner) > 0.6 > 10 * positive_share(found, half(False))
    # without the corner in the mask the model does not look at it, and the map says so
    blind = occlusion_map(Corner(), square, half(False), text)
    assert np.abs(blind).max() == 0 and np.isnan(positive_share(blind, corner))


def test_the_share_by_hand() -> None:
    found = np.array([[3.0, -5.0], [1.0, 0.0]])
    region = np.array([[True, True], [False, False]])
    assert positive_share(found, region) == 0.75
