"""The score of similarity to known fetal frames.

Features are compared with values computed by hand; the included model is run on real frames.
"""

import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.imaging.ood import MODEL, features, known_kind, terms_of
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import crop_to_sector, find_sector

Gray = NDArray[np.uint8]
LOW = QualityConfig().min_known_kind


def clouds(side: int = 192) -> Gray:
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 1, (side, side)), (0, 0), 6)
    return np.clip(60 + 20 * noise / noise.std(), 0, 120).astype(np.uint8)


def test_the_model_has_four_numbers_for_each_feature_and_no_other() -> None:
    model = tomllib.loads(MODEL.read_text(encoding="utf-8"))
    assert list(model["features"]) == list(features(clouds()))
    numbers = np.array(list(model["features"].values()))
    assert numbers.shape == (37, 4)
    assert np.isfinite(numbers).all()
    assert (numbers[:, 1] > 0).all()


def test_gain_and_a_flip_change_the_features_only_by_rounding() -> None:
    plain = np.array(list(features(clouds()).values()))
    louder = np.array(list(features(2 * clouds()).values()))
    flipped = np.array(list(features(clouds()[:, ::-1]).values()))
    # the logarithm of the finest detail, which rounding makes
    assert np.abs(louder - plain).max() < 0.2
    assert np.abs(flipped - plain).max() < 1e-4
    assert known_kind(np.asarray(2 * clouds())) == pytest.approx(known_kind(clouds()), abs=0.02)


def test_lines_across_are_detail_down_alone() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 200
    found = features(stripes)
    # (2 a)^2 over 4 times the variance a^2 / 4
    assert found["down_0"] == pytest.approx(np.log(4), abs=1e-3)
    assert found["across_0"] == found["diagonal_0"] == pytest.approx(np.log(1e-5))
    assert found["between_rows"] == pytest.approx(1.0, abs=1e-3)
    assert found["between_columns"] == 0.0
    assert found["black"] == found["white"] == 0.5


def test_a_bright_top_is_a_bright_first_band() -> None:
    gray = np.zeros((64, 64), np.uint8)
    gray[:16] = 100
    found = features(gray)
    assert [found[f"band_{band}"] for band in range(4)] == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )
    assert found["upper_corners"] == pytest.approx(0.75)
    assert found["lower_corners"] == pytest.approx(-0.25)


def test_a_feature_far_from_the_mean_says_no_more_than_four_spreads() -> None:
    mean, spread = np.array([1.0, 1.0]), np.array([2.0, 2.0])
    assert terms_of(np.array([3.0, 1000.0]), mean, spread).tolist() == [1.0, 4.0, 0.0, 15.0]


@pytest.mark.parametrize(
    "gray",
    [np.zeros((300, 400), np.uint8), np.eye(8, dtype=np.uint8), np.full((9, 900), 7, np.uint8)],
)
def test_what_hardly_is_a_picture_gets_a_low_score(gray: Gray) -> None:
    assert 0.0 <= known_kind(gray) < LOW


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_page_of_letters_is_of_an_unknown_kind(turn: int) -> None:
    page = np.full((720, 960), 250, np.uint8)
    for y in range(40, 700, 24):
        cv2.putText(
            page, "the quick brown fox jumps over the lazy dog", (30, y), 0, 1.0, 10, 1, cv2.LINE_AA
        )
    assert known_kind(np.ascontiguousarray(np.rot90(page, turn))) < LOW


def share_below(files: list[Path]) -> float:
    scores = []
    for file in files:
        gray = np.asarray(
            cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8
        )
        scores.append(known_kind(crop_to_sector(gray, find_sector(gray))))
    return float(np.mean(np.array(scores) < LOW))


@pytest.mark.parametrize("folder", ["barcelona/Images", "nijmegen/training_set", "shenzhen/images"])
def test_the_fetal_frames_of_three_hospitals_are_of_a_known_kind(
    shared_data: Path, folder: str
) -> None:
    assert share_below(sorted((shared_data / folder).iterdir())[::6]) <= 0.02


def test_most_breast_frames_are_not(shared_data: Path) -> None:
    assert share_below(sorted((shared_data / "breast_out_of_domain").iterdir())) >= 0.9
