"""Every measure on pictures whose value is known by hand."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.imaging import measures
from sono.curation.imaging.sector import Sector

Gray = NDArray[np.uint8]


def everywhere(gray: Gray) -> NDArray[np.bool_]:
    return np.ones(gray.shape[:2], bool)


def whole(gray: Gray) -> Sector:
    return Sector((0, 0, gray.shape[1], gray.shape[0]), everywhere(gray), "full", 0.0)


def speckle(side: int = 300, grain: float = 1.0) -> Gray:
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 1, (side, side)), (0, 0), grain)
    return np.clip(90 + 30 * noise / noise.std(), 0, 255).astype(np.uint8)


def test_a_half_white_frame_has_mean_and_deviation_one_half() -> None:
    gray = np.zeros((40, 60), np.uint8)
    gray[:, 30:] = 255
    expected = {
        "brightness": 0.5,
        "contrast": 0.5,
        "peak": 1.0,
        "clipped_dark": 0.5,
        "clipped_bright": 0.5,
    }
    assert measures.tones(gray, everywhere(gray)) == pytest.approx(expected)


def test_the_peak_leaves_out_the_background_and_the_rarest_echoes() -> None:
    gray = np.zeros((100, 100), np.uint8)
    gray[50:] = 102
    gray[50:52, :10] = 255
    assert measures.tones(gray, everywhere(gray))["peak"] == pytest.approx(102 / 255)


def test_only_the_sector_counts() -> None:
    gray = np.full((40, 60), 51, np.uint8)
    gray[:, 30:] = 255
    found = measures.tones(gray, gray < 255)
    assert (found["brightness"], found["contrast"]) == pytest.approx((0.2, 0.0), abs=1e-9)


@pytest.mark.parametrize("period", [6, 10, 24])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_the_sharpness_of_a_wave_is_the_tangent_of_half_its_step(period: int, gain: float) -> None:
    depth = np.arange(480)[:, None] + np.zeros(90)
    gray = np.round(128 + 120 * gain * np.sin(2 * np.pi * depth / period)).astype(np.uint8)
    assert measures.sharpness(gray, everywhere(gray)) == pytest.approx(
        np.tan(np.pi / period), rel=0.12
    )


def test_sharpness_falls_with_blur_and_not_with_gain() -> None:
    gray = speckle(600, 1.0)
    blurred = [np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma), np.uint8) for sigma in (1, 3, 6)]
    values = [measures.sharpness(picture, everywhere(picture)) for picture in (gray, *blurred)]
    assert values == sorted(values, reverse=True) and values[0] > 3 * values[-1]
    assert measures.sharpness(gray // 2, everywhere(gray)) == pytest.approx(values[0], rel=0.1)


def test_speckle_is_deviation_over_mean() -> None:
    board = np.full((200, 200), 60, np.uint8)
    board[(np.indices(board.shape) // 2).sum(axis=0) % 2 == 0] = 140
    assert measures.speckle(board, everywhere(board)) == pytest.approx(40 / 100, rel=0.03)
    assert measures.speckle(np.full((200, 200), 90, np.uint8), everywhere(board)) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_shadow_is_the_share_of_columns_without_echoes(share: float) -> None:
    gray = np.full((300, 480), 100, np.uint8)
    gray[60:, : int(480 * share)] = 5
    assert measures.shadow(gray, whole(gray)) == pytest.approx(share, abs=0.02)


def test_shadow_follows_the_rays_of_a_convex_sector() -> None:
    gray = np.full((300, 400), 100, np.uint8)
    rows, columns = np.indices(gray.shape)
    angle = np.rad2deg(np.arctan2(columns - 200, rows + 100))
    gray[(angle > -20) & (angle < -5)] = 0
    sector = Sector(
        (0, 0, 400, 300),
        np.abs(angle) < 30,
        "convex",
        1.0,
        200.0,
        -100.0,
        -30.0,
        30.0,
        100.0,
        400.0,
    )
    assert measures.shadow(gray, sector) == pytest.approx(15 / 60, abs=0.03)


@pytest.mark.parametrize("offset", [0, 3])
def test_blockiness_is_the_step_at_block_borders_over_the_others(offset: int) -> None:
    index = np.arange(96)
    ramp = index + 2 * ((index + offset) // 8)  # steps of 1 inside a block, of 3 at its border
    blocks, smooth = ((line[:, None] + line).astype(np.uint8) for line in (ramp, index))
    assert measures.blockiness(blocks, everywhere(blocks)) == pytest.approx(3.0)
    assert measures.blockiness(smooth, everywhere(smooth)) == pytest.approx(1.0)


def test_a_colored_square_is_flow_and_a_colored_line_is_a_stroke() -> None:
    rgb = np.full((100, 100, 3), 60, np.uint8)
    rgb[20:40, 20:40] = (200, 30, 30)
    rgb[70, :] = (255, 255, 0)
    inside = everywhere(rgb)
    blobs, strokes = measures.colored(rgb, inside)
    assert (measures.share(blobs, inside), measures.share(strokes, inside)) == pytest.approx(
        (0.04, 0.01)
    )
    assert not measures.colored(None, inside)[0].any()


def test_a_white_stroke_is_found_and_broad_uneven_or_dim_echoes_are_not() -> None:
    gray = np.full((100, 100), 60, np.uint8)
    gray[10:12, :50] = 255  # a line
    gray[50:70, 20:80] = 255  # bone
    gray[80, 20:80] = np.linspace(200, 255, 60)  # a membrane
    gray[90, 20:80] = 150
    bright, found = measures.strokes(gray, everywhere(gray))
    assert found[10:12, :50].all() and found.sum() == 100
    assert bright[10:12, :50].all() and not bright[50:70].any() and not bright[90].any()


def test_nothing_inside_measures_nothing() -> None:
    gray, nowhere = speckle(), np.zeros((300, 300), bool)
    none = (
        measures.sharpness(gray, nowhere),
        measures.speckle(gray, nowhere),
        measures.share(nowhere, nowhere),
    )
    assert none == (0.0, 0.0, 0.0)
    assert measures.blockiness(gray, nowhere) == 1.0
    assert measures.shadow(gray, Sector((0, 0, 300, 300), nowhere, "full", 0.0)) == 0.0
    assert set(measures.tones(gray, nowhere).values()) == {0.0}
