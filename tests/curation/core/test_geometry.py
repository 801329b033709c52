import numpy as np
import pytest

from sono.curation.core.geometry import (
    letterbox,
    letterbox_mask,
    pad_to_square,
    resampled,
    resampled_mask,
    shrink,
    square_size,
)


def test_padding_is_centered_and_an_odd_pixel_goes_below() -> None:
    padded = pad_to_square(np.ones((2, 5), np.uint8))
    assert padded.shape == (5, 5)
    assert padded.sum(axis=1).tolist() == [0, 5, 5, 0, 0]


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40), (7, 90)])
def test_a_mask_of_ones_covers_what_the_frame_covers(shape: tuple[int, int]) -> None:
    frame = letterbox(np.full(shape, 200, np.uint8), 32)
    mask = letterbox_mask(np.ones(shape, np.bool_), 32)
    assert frame.shape == mask.shape == (32, 32)
    assert ((frame >= 100) == mask).mean() > 0.99


def test_a_square_of_the_right_size_is_not_changed() -> None:
    frame = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(letterbox(frame, 8), frame)


def test_shrinking_averages() -> None:
    assert letterbox(np.array([[0, 200], [200, 0]], np.uint8), 1).tolist() == [[100]]


def test_shrinking_by_halves_keeps_the_mean_and_gives_the_size() -> None:
    gray = np.random.default_rng(1).integers(0, 256, (721, 963), dtype=np.uint8)
    small = shrink(gray, 64, 48)
    assert small.shape == (48, 64)
    assert small.mean() == pytest.approx(gray.mean(), abs=1)
    assert shrink(np.full((8, 8), 7, np.uint8), 2, 2).tolist() == [[7, 7], [7, 7]]


@pytest.mark.parametrize(
    ("aspect", "limit", "size"),
    [
        (2.0, 10**6, (600, 800)),
        (0.5, 10**6, (300, 1600)),
        (1.005, 10**6, (300, 800)),
        (2.0, 250_000, (300, 400)),
        (0.5, 250_000, (150, 800)),
    ],
)
def test_the_coarser_axis_grows_as_far_as_the_limit_allows(
    aspect: float, limit: int, size: tuple[int, int]
) -> None:
    assert square_size(300, 800, aspect, limit) == size


def test_a_mask_is_resampled_like_its_frame() -> None:
    frame = np.zeros((30, 80), np.uint8)
    frame[10:20, 20:60] = 255
    large = resampled(frame, (60, 80))
    mask = resampled_mask(frame > 0, (60, 80))
    assert np.array_equal(mask, large > 127) and mask.sum() == 2 * (frame > 0).sum()
