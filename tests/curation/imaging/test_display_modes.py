"""Views that are not plain B-mode are detected.

The regions of headers and drawn pictures show them; real frames give no false alarm.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.core.reasons import REASONS
from sono.curation.imaging.display_modes import (
    ViewConfig,
    axis,
    detect_modes,
    gutter,
    letters,
    picture_views,
    region_views,
    streaks,
    tinted_share,
)
from sono.curation.readers.files import read_source
from sono.curation.readers.source import Frame, UltrasoundRegion

Gray = NDArray[np.uint8]
CONFIG = ViewConfig()


def region(x0: float, x1: float, spatial_format: int = 1, data_type: int = 1) -> UltrasoundRegion:
    return UltrasoundRegion(spatial_format, data_type, (x0, 0, x1, 99), (3, 3), (0.02, 0.02))


def fan(height: int = 192, width: int = 192) -> Gray:
    """Speckle in a fan on black."""
    down, across = np.mgrid[0:height, 0:width]
    speckle = np.random.default_rng(1).integers(30, 200, (height, width))
    inside = (
        (np.abs(across - width / 2) < 0.1 * width + 0.4 * down) & (down > 4) & (down < height - 4)
    )
    return np.asarray(np.where(inside, speckle, 0), np.uint8)


def shown(
    gray: Gray, rgb: NDArray[np.uint8] | None = None, regions: tuple[UltrasoundRegion, ...] = ()
) -> list[str]:
    frame = Frame(0, gray, rgb, None, None, "no_regions", (), regions)
    return detect_modes(frame, np.ones(gray.shape, np.bool_), CONFIG)


def tinted(gray: Gray, red: float, green: float, blue: float) -> NDArray[np.uint8]:
    return np.asarray(gray[..., None] * np.array([red, green, blue]), np.uint8)


@pytest.mark.parametrize(
    ("regions", "codes"),
    [
        ([region(0, 99)], []),
        ([region(0, 49), region(50, 99)], ["dual_view"]),
        ([region(0, 99), region(20, 60)], []),  # a zoom inside the picture is one view
        ([region(0, 99), region(0, 99, 2)], ["m_mode"]),
        ([region(0, 99), region(0, 99, 3, 3)], ["spectral_doppler"]),
        ([region(0, 99), region(20, 60, 1, 2)], ["doppler"]),
        # a trace of the heart, the gray bar
        ([region(0, 99), region(0, 99, 4, 10), region(0, 5, 5, 13)], []),
    ],
)
def test_regions_tell_the_views(regions: list[UltrasoundRegion], codes: list[str]) -> None:
    assert region_views(regions) == codes


def test_regions_overrule_the_picture() -> None:
    lines = np.tile(np.random.default_rng(0).integers(0, 200, (192, 1)), (1, 192)).astype(np.uint8)
    assert shown(lines) == ["m_mode"] and shown(lines, None, (region(0, 99),)) == []


def test_gutter_is_the_share_of_echoes_in_the_emptiest_middle_column() -> None:
    picture = np.full((192, 192), 100, np.uint8)
    picture[0] = 0  # a background to compare with, two rows of 192
    picture[:, :2] = 0
    assert gutter(picture) == 1
    picture[:, 96] = 0
    assert gutter(picture) == 0
    picture[1:49, 96] = 100
    assert gutter(picture) == pytest.approx(48 / 191)


def test_streaks_are_one_for_lines_and_nothing_for_speckle() -> None:
    random = np.random.default_rng(0)
    lines = np.tile(random.integers(0, 200, (192, 1)), (1, 192)).astype(np.uint8)
    assert streaks(lines) == pytest.approx(1)
    assert streaks(lines.T.copy()) < 0.01
    assert streaks(random.integers(0, 200, (192, 192)).astype(np.uint8)) < 0.1
    assert streaks(np.zeros((192, 192), np.uint8)) == 0


def test_axis_is_the_share_of_the_width_under_a_thin_line() -> None:
    picture = np.full((300, 400), 50, np.uint8)
    assert axis(picture) == 0
    picture[200:202, 100:400] = 200
    assert axis(picture) == pytest.approx(0.75)
    screen = fan(600, 800)
    screen[400:402] = 255
    assert shown(screen) == ["spectral_doppler"]
    picture[190:215, 100:400] = 200  # as thick as tissue
    assert axis(picture) == 0


def test_tint_is_the_share_of_one_hue() -> None:
    gray = np.full((192, 192), 120, np.uint8)
    inside = np.ones(gray.shape, np.bool_)
    sepia = tinted(gray, 1.0, 0.8, 0.55)
    assert tinted_share(np.dstack([gray] * 3), inside) == 0
    assert tinted_share(sepia, inside) == pytest.approx(1, abs=0.001)
    half = sepia.copy()
    half[:96] = 120
    assert tinted_share(half, inside) == pytest.approx(0.5, abs=0.01)
    assert tinted_share(half, np.arange(192)[:, None] >= np.full(192, 96)) == pytest.approx(
        1, abs=0.01
    )
    # as much of the opposite hue as of the first: flow toward and away
    half[:96] = 255 - sepia[:96]
    assert tinted_share(half, inside) < 0.2


def test_letters_are_counted_apart_from_the_picture() -> None:
    page = np.zeros((600, 800), np.uint8)
    for row in range(10):
        for column in range(8):
            page[50 + 50 * row : 62 + 50 * row, 60 + 80 * column : 68 + 80 * column] = 200
    assert letters(page) == (80, 1.0)
    page[:, 700:] = 200
    assert letters(page) == (80, pytest.approx(80 * 96 / (80 * 96 + 60000)))


def test_drawn_screens_are_recognized() -> None:
    two = np.hstack([fan(192, 94), np.zeros((192, 4), np.uint8), fan(192, 94)])
    page = np.zeros((600, 800), np.uint8)
    for row, text in enumerate(
        ("BPD 52.1 mm 22w0d", "HC 191.0 mm 21w5d", "AC 170.2 mm 22w1d", "FL 37.4 mm 21w6d") * 2
    ):
        cv2.putText(
            page, text, (60, 60 + 60 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 200, 1, cv2.LINE_AA
        )
    assert shown(fan()) == []
    assert shown(two) == ["dual_view"]
    assert shown(page) == ["measurement_screen"]
    assert shown(fan(), tinted(fan(), 1.0, 0.8, 0.55)) == ["rendering"]


def test_every_code_is_known_and_none_is_accepted_in_silence() -> None:
    for code in ("dual_view", "m_mode", "spectral_doppler", "rendering", "measurement_screen"):
        assert REASONS[code].status == "quarantined"


def strip_below(gray: Gray, seed: int) -> Gray:
    """An M-mode screen: a real frame, and below it one of its lines over time with a heartbeat."""
    random = np.random.default_rng(seed)
    height, width = gray.shape
    line, depth = (
        gray[:, int(random.uniform(0.4, 0.6) * width)],
        np.linspace(0, height - 1, height // 2),
    )
    move = random.uniform(2, 0.02 * height) * np.sin(
        np.arange(width) / width * random.uniform(20, 75)
    )
    strip = np.stack(
        [np.interp(depth + one * depth / height, np.arange(height), line) for one in move], axis=1
    )
    strip *= 1 + cv2.GaussianBlur(random.normal(0, 0.7, strip.shape), (0, 0), 1.0)
    screen = np.zeros_like(gray)
    screen[: height // 2, width // 4 : width // 4 + width // 2] = cv2.resize(
        gray, (width // 2, height // 2)
    )
    screen[-len(strip) :] = np.clip(strip, 0, 255).astype(np.uint8)
    return screen


def real_frames(shared_data: Path, step: int) -> list[Gray]:
    places = [
        *sorted((shared_data / "barcelona").rglob("*.jpg")),
        *sorted((shared_data / "nijmegen").rglob("*HC.png")),
    ]
    return [read_source(str(place).encode()).frames[0].gray for place in places[::step]]


def test_real_frames_raise_no_alarm_and_strips_made_of_them_do(shared_data: Path) -> None:
    frames = real_frames(shared_data, 16)
    alarms = [codes for frame in frames if (codes := picture_views(frame, CONFIG))]
    assert len(frames) > 60 and len(alarms) <= 1
    strips = [
        picture_views(strip_below(frame, seed), CONFIG) for seed, frame in enumerate(frames[::2])
    ]
    assert np.mean(["m_mode" in codes for codes in strips]) >= 0.95
    pairs = [np.hstack([one, np.zeros_like(one[:, :12]), one[:, ::-1]]) for one in frames[1::2]]
    assert np.mean(["dual_view" in picture_views(pair, CONFIG) for pair in pairs]) >= 0.95


def test_real_dicom_files_are_marked_by_their_regions(shared_data: Path) -> None:
    def codes(name: str) -> list[str]:
        frame = read_source(str(shared_data / "dicom" / name).encode()).frames[0]
        return shown(frame.gray, None, tuple(frame.regions))

    assert codes("gdcm-US-ALOKA-16.dcm") == ["dual_view"]
    assert codes("OBXXXX1A.dcm") == codes("YBR_422.dcm") == []
