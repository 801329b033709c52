"""Quality measures on pictures whose values are known by hand, and on real frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.quality import QualityConfig, flat_picture, judge, measure
from sono.curation.reasons import REASONS
from sono.curation.sector import crop_to_sector, find_sector

Gray = NDArray[np.uint8]
CONFIG = QualityConfig()


def everywhere(gray: Gray) -> NDArray[np.bool_]:
    return np.ones(gray.shape, bool)


def speckle(side: int = 300, grain: float = 1.0) -> Gray:
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 1, (side, side)), (0, 0), grain)
    return np.clip(90 + 30 * noise / noise.std(), 0, 255).astype(np.uint8)


def test_a_black_frame_measures_zero_but_for_its_dark_pixels() -> None:
    gray = np.zeros((40, 60), np.uint8)
    expected = dict.fromkeys(("brightness", "contrast", "clipped_bright", "sharpness", "doppler", "overlay"), 0.0)
    assert measure(gray, everywhere(gray)) == {**expected, "clipped_dark": 1.0}


def test_a_half_white_frame_has_mean_and_deviation_one_half() -> None:
    gray = np.zeros((40, 60), np.uint8)
    gray[:, 30:] = 255
    measures = measure(gray, everywhere(gray))
    for name in ("brightness", "contrast", "clipped_dark", "clipped_bright"):
        assert measures[name] == pytest.approx(0.5), name


def test_only_the_sector_counts() -> None:
    gray = np.full((40, 60), 51, np.uint8)
    gray[:, 30:] = 255
    measures = measure(gray, gray < 255)
    assert measures["brightness"] == pytest.approx(0.2) and measures["contrast"] == pytest.approx(0.0, abs=1e-9)


def test_nothing_inside_measures_zero_everywhere() -> None:
    gray = speckle()
    assert set(measure(gray, np.zeros(gray.shape, bool)).values()) == {0.0}


def test_a_coloured_square_is_doppler_and_a_coloured_line_is_overlay() -> None:
    rgb = np.full((100, 100, 3), 60, np.uint8)
    rgb[20:40, 20:40] = (200, 30, 30)
    rgb[70, :] = (255, 255, 0)
    measures = measure(rgb[..., 1], everywhere(rgb[..., 1]), rgb)
    assert measures["doppler"] == pytest.approx(400 / 10_000)
    assert measures["overlay"] == pytest.approx(100 / 10_000)


def test_a_white_stroke_is_overlay_and_a_broad_bright_echo_is_not() -> None:
    gray = np.full((100, 100), 60, np.uint8)
    gray[10:12, :50] = 255
    gray[50:70, 20:80] = 255
    assert measure(gray, everywhere(gray))["overlay"] == pytest.approx(100 / 10_000)


def test_sharpness_does_not_depend_on_gain() -> None:
    gray = speckle()
    half = (gray.astype(np.float32) / 2).round().astype(np.uint8)
    sharp = measure(gray, everywhere(gray))["sharpness"]
    assert measure(half, everywhere(half))["sharpness"] == pytest.approx(sharp, rel=0.03)


def test_sharpness_falls_with_blur() -> None:
    gray = speckle(600, 2.0)
    blurred = [np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma), np.uint8) for sigma in (1, 3, 9)]
    values = [measure(picture, everywhere(picture))["sharpness"] for picture in (gray, *blurred)]
    assert values == sorted(values, reverse=True) and values[0] > 3 * values[-1]


FAIR = dict.fromkeys(("clipped_dark", "clipped_bright", "doppler", "overlay"), 0.0)
FAIR |= {"brightness": 0.2, "contrast": 0.2, "sharpness": 0.3}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"brightness": 0.01}, ["too_dark"]),
        ({"brightness": 0.9}, ["too_bright"]),
        ({"clipped_bright": 0.5}, ["clipped"]),
        ({"sharpness": 0.05}, ["blurred"]),
        ({"doppler": 0.1}, ["doppler"]),
        ({"overlay": 0.002}, ["overlay"]),
        ({"overlay": 0.1}, ["overlay", "text_in_sector"]),
    ],
)
def test_each_measure_earns_its_code(change: dict[str, float], codes: list[str]) -> None:
    assert judge({**FAIR, **change}, 0.6, "convex", CONFIG) == codes
    assert set(codes) <= set(REASONS)


def test_a_small_or_unsure_sector_is_named() -> None:
    assert judge(FAIR, 0.05, "convex", CONFIG) == ["small_sector"]
    assert judge(FAIR, 1.0, "full", CONFIG) == ["sector_unsure"]


def test_flat_pictures_are_told_from_ultrasound() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[20:60, 20:60] = 76
    assert flat_picture(np.full((50, 50), 131, np.uint8)) == "blank"
    assert flat_picture(labels) == "mask_image"
    assert flat_picture(speckle()) is None


def real(path: Path) -> Gray:
    return np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def codes_of(gray: Gray) -> set[str]:
    sector = find_sector(gray)
    x0, y0, x1, y1 = sector.box
    measures = measure(crop_to_sector(gray, sector), sector.inside[y0:y1, x0:x1])
    return set(judge(measures, float(sector.inside.mean()), sector.kind, CONFIG))


@pytest.mark.parametrize("folder", ["barcelona/Images", "nijmegen/training_set", "shenzhen/images"])
def test_real_frames_pass_and_their_blurred_copies_do_not(shared_data: Path, folder: str) -> None:
    for path in sorted((shared_data / folder).glob("*.[jp][pn]g"))[5::40][:8]:
        gray = cv2.resize(real(path), (960, 720))
        assert {REASONS[code].status for code in codes_of(np.asarray(gray, np.uint8))} <= {"accepted"}, path.name
        assert "blurred" in codes_of(np.asarray(cv2.GaussianBlur(gray, (0, 0), 6), np.uint8)), path.name


def test_real_masks_are_mask_images(shared_data: Path) -> None:
    masks = [
        *sorted((shared_data / "nijmegen/masks").iterdir())[::40],
        *(shared_data / "barcelona_head/masks").iterdir(),
    ]
    assert {flat_picture(real(path)) for path in masks} == {"mask_image"}
