"""The sector: drawn frames with a known border, and real ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.imaging.sector import crop_to_sector, find_sector

Gray = NDArray[np.uint8]


def fan(
    width: int = 960, height: int = 720, half_angle: float = 30.0
) -> tuple[Gray, NDArray[np.bool_]]:
    """Speckle in a fan with its apex above the middle, and where it is."""
    down, across = np.mgrid[:height, :width]
    depth, side = down + 100.0, across - width / 2
    radius, angle = np.hypot(depth, side), np.degrees(np.arctan2(side, depth))
    inside = (np.abs(angle) <= half_angle) & (radius >= 160) & (radius <= 760)
    speckle = np.random.default_rng(7).normal(90, 25, (height, width))
    smooth = cv2.GaussianBlur(speckle, (0, 0), 2.0)
    return np.where(inside, np.clip(smooth, 12, 255), 0).astype(np.uint8), inside


def gray_of(path: Path) -> Gray:
    return np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def test_a_drawn_fan_is_found_whole_with_its_geometry() -> None:
    gray, truth = fan()
    sector = find_sector(gray)
    assert sector.kind == "convex" and sector.confidence > 0.7
    assert (sector.inside & truth).sum() == truth.sum()
    assert sector.inside.sum() < 1.12 * truth.sum()
    assert sector.angle_left == pytest.approx(-30, abs=1.5) and sector.angle_right == pytest.approx(
        30, abs=1.5
    )
    assert sector.apex_x == pytest.approx(480, abs=10) and sector.apex_y == pytest.approx(
        -100, abs=15
    )
    assert sector.radius_min == pytest.approx(160, abs=15) and sector.radius_max == pytest.approx(
        760, abs=15
    )


def test_text_in_the_corners_and_the_gray_bar_are_dropped() -> None:
    gray, truth = fan()
    written = gray.copy()
    cv2.putText(written, "DOE JANE", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2)
    cv2.putText(written, "12.05.2026", (780, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    written[200:400, 8:24] = np.linspace(255, 0, 200)[:, None]
    sector = find_sector(written)
    x0, y0, x1, y1 = sector.box
    assert not crop_to_sector(written, sector)[~truth[y0:y1, x0:x1]].any()
    assert sector.inside[truth].all()


def test_a_header_bar_with_the_name_is_cut_off() -> None:
    gray = np.clip(np.random.default_rng(1).normal(90, 30, (540, 720)), 1, 255).astype(np.uint8)
    gray[:30] = 50
    cv2.putText(gray, "DOE JANE 12.05.2026", (200, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 230, 2)
    sector = find_sector(gray)
    assert sector.box[0] == 0 and sector.box[2] == 720 and sector.box[3] == 540
    assert 30 <= sector.box[1] <= 36
    assert not sector.inside[:30].any()


def test_a_frame_full_of_speckle_is_kept_whole() -> None:
    gray = np.clip(np.random.default_rng(2).normal(90, 30, (400, 500)), 1, 255).astype(np.uint8)
    sector = find_sector(gray)
    assert sector.kind == "full" and sector.confidence == 0.0
    assert sector.box == (0, 0, 500, 400) and sector.inside.all()
    assert np.array_equal(crop_to_sector(gray, sector), gray)


def test_a_dark_side_is_not_cut_away() -> None:
    gray, truth = fan()
    down, across = np.mgrid[:720, :960]
    # a shadow's edge is as straight as a border
    gray[np.degrees(np.arctan2(across - 480, down + 100)) < -10] = 0
    sector = find_sector(gray)
    assert (sector.inside & truth).sum() >= 0.995 * truth.sum()


def test_upright_margins_make_a_linear_sector() -> None:
    gray = np.zeros((480, 640), np.uint8)
    gray[:, 150:500] = np.clip(np.random.default_rng(4).normal(100, 25, (480, 350)), 20, 255)
    sector = find_sector(gray)
    assert sector.kind == "linear"
    assert 138 <= sector.box[0] <= 150 and 500 <= sector.box[2] <= 512


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (3, 5), (64, 64)])
@pytest.mark.parametrize("tone", [0, 128, 255])
def test_any_size_and_tone_gives_a_sector_within_the_frame(
    shape: tuple[int, int], tone: int
) -> None:
    gray = np.full(shape, tone, np.uint8)
    sector = find_sector(gray)
    x0, y0, x1, y1 = sector.box
    assert 0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]
    assert sector.inside.shape == shape and crop_to_sector(gray, sector).shape == (y1 - y0, x1 - x0)


def test_the_same_frame_at_half_size_gives_the_same_sector() -> None:
    gray, _ = fan()
    whole, half = (
        find_sector(gray),
        find_sector(cv2.resize(gray, (480, 360), interpolation=cv2.INTER_AREA)),
    )
    assert np.allclose(np.array(half.box) * 2, whole.box, atol=10)
    assert half.angle_left == pytest.approx(whole.angle_left, abs=1)


def test_the_labeled_heads_of_real_frames_stay_inside(shared_data: Path) -> None:
    lost = []
    for path in sorted((shared_data / "nijmegen/training_set").glob("*_HC.png"))[::6]:
        outline = (
            gray_of(shared_data / "nijmegen/masks" / path.name.replace(".png", "_Mask.png")) > 0
        )
        x0, y0, x1, y1 = (sector := find_sector(gray_of(path))).box
        lost += (
            [path.name] if outline.sum() != (outline & sector.inside)[y0:y1, x0:x1].sum() else []
        )
    assert lost == []


def test_the_printed_date_of_real_frames_is_cut_off(shared_data: Path) -> None:
    for name in ("41", "79", "360", "402", "440", "679", "700", "991"):
        assert find_sector(gray_of(shared_data / "shenzhen/images" / f"{name}.png")).box[1] >= 10, (
            name
        )
