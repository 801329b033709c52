"""Quality measures on pictures whose values are known by hand, and on real frames."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.core.reasons import REASONS
from sono.curation.imaging.quality import QualityConfig, flat_picture, judge, measure
from sono.curation.imaging.sector import Sector, crop_to_sector, find_sector

Gray = NDArray[np.uint8]
CONFIG = QualityConfig()


def speckle(side: int = 300, grain: float = 1.0) -> Gray:
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 1, (side, side)), (0, 0), grain)
    return np.clip(90 + 30 * noise / noise.std(), 0, 255).astype(np.uint8)


def whole(gray: Gray, kind: str = "convex") -> Sector:
    return Sector((0, 0, gray.shape[1], gray.shape[0]), np.ones(gray.shape, bool), kind, 0.0)


def test_a_black_frame_measures_zero_but_for_its_dark_pixels() -> None:
    gray = np.zeros((40, 60), np.uint8)
    found = measure(gray, whole(gray))
    assert {name: value for name, value in found.items() if value} == {
        "clipped_dark": 1.0,
        "blockiness": 1.0,
    }


FAIR = dict.fromkeys(
    ("clipped_dark", "clipped_bright", "shadow", "doppler", "overlay", "strokes"), 0.0
)
FAIR |= {
    "brightness": 0.2,
    "contrast": 0.2,
    "peak": 0.8,
    "sharpness": 0.5,
    "blockiness": 1.1,
    "known_kind": 0.9,
}
LARGE = whole(np.zeros((600, 800), np.uint8))


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"brightness": 0.01}, ["too_dark"]),
        ({"brightness": 0.9}, ["too_bright"]),
        ({"clipped_bright": 0.5}, ["clipped"]),
        ({"sharpness": 0.05}, ["blurred"]),
        ({"peak": 0.3}, ["low_gain"]),
        ({"shadow": 0.6}, ["shadowed"]),
        ({"blockiness": 3.0}, ["compressed"]),
        ({"sharpness": 0.22}, ["soft"]),
        ({"doppler": 0.1}, ["doppler"]),
        ({"overlay": 0.002}, ["overlay"]),
        ({"strokes": 0.002}, ["overlay"]),
        ({"strokes": 0.1}, ["overlay", "text_in_sector"]),
        ({"known_kind": 0.1}, ["unknown_kind"]),
    ],
)
def test_each_measure_earns_its_code(change: dict[str, float], codes: list[str]) -> None:
    assert judge({**FAIR, **change}, LARGE, CONFIG) == codes
    assert set(codes) <= set(REASONS)


def test_a_small_or_unsure_sector_is_named() -> None:
    corner = np.zeros((600, 800), bool)
    corner[:150, :200] = True
    assert judge(FAIR, replace(LARGE, inside=corner), CONFIG) == ["small_sector"]
    assert judge(FAIR, whole(corner, kind="full"), CONFIG) == ["sector_unsure"]
    assert judge(FAIR, whole(corner[:150, :200]), CONFIG) == ["low_resolution"]


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
    return set(judge(measure(crop_to_sector(gray, sector), sector), sector, CONFIG))


@pytest.mark.parametrize("folder", ["barcelona/Images", "nijmegen/training_set", "shenzhen/images"])
def test_real_frames_pass_and_their_blurred_copies_do_not(shared_data: Path, folder: str) -> None:
    for path in sorted((shared_data / folder).glob("*.[jp][pn]g"))[5::40][:8]:
        gray = cv2.resize(real(path), (960, 720))
        assert {REASONS[code].status for code in codes_of(np.asarray(gray, np.uint8))} <= {
            "accepted"
        }, path.name
        assert "blurred" in codes_of(np.asarray(cv2.GaussianBlur(gray, (0, 0), 6), np.uint8)), (
            path.name
        )


def test_real_masks_are_mask_images(shared_data: Path) -> None:
    masks = [
        *sorted((shared_data / "nijmegen/masks").iterdir())[::40],
        *(shared_data / "barcelona_head/masks").iterdir(),
    ]
    assert {flat_picture(real(path)) for path in masks} == {"mask_image"}
