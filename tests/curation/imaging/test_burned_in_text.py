"""Lines of burned-in text are found by their strokes.

Drawn lines are found, also on real frames, and no line is found where there is only tissue.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.imaging.border_text import border_lines
from sono.curation.imaging.burned_in_text import Line, at_border, burned_lines
from sono.curation.imaging.judged_text import judge_text
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import find_sector
from sono.curation.readers.files import read_source

Gray = NDArray[np.uint8]
RULES = QualityConfig(text="rules")


def bars(count: int, tone: int = 200, height: int = 12) -> Gray:
    """Upright strokes 2 pixels wide, 6 apart, from (100, 80) on black."""
    picture = np.zeros((200, 300), np.uint8)
    for number in range(count):
        picture[80 : 80 + height, 100 + 6 * number : 102 + 6 * number] = tone
    return picture


def tissue(seed: int = 0) -> Gray:
    """Speckle that is wider than it is high, as beams make it."""
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).normal(0, 1, (480, 640)), (0, 0), sigmaX=5, sigmaY=2
    )
    return np.asarray(np.clip(90 + 900 * noise / 10, 0, 255), np.uint8)


def test_a_row_of_strokes_is_a_line_and_its_box_is_theirs() -> None:
    assert burned_lines(bars(8)) == [Line(100, 80, 144, 92)]


@pytest.mark.parametrize(
    "picture",
    [
        bars(3),
        bars(8, tone=30),  # too faint
        bars(8, height=3),
        bars(8, height=90),
        bars(8).T.copy(),  # lines above each other, as a spine's vertebrae lie across
        np.full((200, 300), 255, np.uint8),
        np.zeros((5, 900), np.uint8),
    ],
)
def test_what_is_no_line(picture: Gray) -> None:
    assert burned_lines(picture) == []


def test_strokes_of_many_tones_or_without_calm_around_are_no_line() -> None:
    uneven = bars(8)
    for number in range(8):
        uneven[:, 100 + 6 * number : 102 + 6 * number] //= 1 + number % 4
    assert burned_lines(uneven) == []
    assert (
        burned_lines(
            np.maximum(bars(8, tone=100), np.roll(bars(8, tone=39, height=40), -14, axis=0))
        )
        == []
    )


def test_a_mask_hides_a_line() -> None:
    inside = np.ones((200, 300), np.bool_)
    inside[70:100] = False
    assert burned_lines(bars(8), inside) == []


def test_tissue_has_no_lines_and_words_on_it_have() -> None:
    for seed in range(5):
        picture = tissue(seed)
        assert burned_lines(picture) == []
        for size in (0.4, 0.6, 1.0, 1.4):
            written = cv2.putText(
                picture.copy(), "ULVSKOG", (200, 250), 0, size, 255, 1 + (size > 0.9), cv2.LINE_AA
            )
            assert burned_lines(np.asarray(written, np.uint8)), size


def test_the_rim_is_the_top_the_bottom_and_the_upper_corners() -> None:
    def places(*boxes: tuple[int, int, int, int]) -> list[bool]:
        return [at_border(Line(*box), 100, 200) for box in boxes]

    assert (
        places((90, 10, 110, 14), (90, 90, 110, 94), (0, 30, 40, 34), (180, 30, 200, 34))
        == [True] * 4
    )
    assert places((90, 20, 110, 24), (0, 50, 40, 54), (50, 30, 90, 34)) == [False] * 3


def test_settings_on_tissue_at_the_rim_are_painted_over_and_a_name_in_the_middle_is_not() -> None:
    picture = tissue()
    for place in ((470, 90), (200, 250)):
        cv2.putText(
            picture, "Har-high 97", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 230, 1, cv2.LINE_AA
        )
    painted = border_lines(picture)
    assert painted[78:92, 471:562].all() and not painted[200:300].any()
    assert painted.mean() < 0.02


def test_real_frames_keep_no_settings_and_hardly_any_is_held(shared_data: Path) -> None:
    held = []
    for path in sorted((shared_data / "barcelona").rglob("*.jpg"))[::20]:
        gray = read_source(str(path).encode()).frames[0].gray
        if judge_text(gray, find_sector(gray), RULES)[1]:
            held.append(path.name)
    assert held == []


def test_names_on_real_tissue_are_found(shared_data: Path) -> None:
    found = []
    for path in sorted((shared_data / "nijmegen").rglob("*_HC.png"))[::8]:
        gray = read_source(str(path).encode()).frames[0].gray.copy()
        cv2.putText(
            gray,
            "ULVSKOG SIEGLINDE",
            (280, 270),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.6,
            235,
            1,
            cv2.LINE_AA,
        )
        found.append(bool(judge_text(gray, find_sector(gray), RULES)[1]))
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize(("size", "pen"), [(0.5, 1), (1.5, 3), (3.0, 5)])
def test_letters_of_many_sizes_are_found(size: float, pen: int) -> None:
    picture = tissue(3)
    cv2.putText(picture, "GARCIA", (60, 260), cv2.FONT_HERSHEY_SIMPLEX, size, 235, pen, cv2.LINE_AA)
    assert burned_lines(picture)


@pytest.mark.parametrize("row", range(60, 90, 3))
def test_a_name_across_the_edge_of_the_rim_is_painted_whole_or_held(row: int) -> None:
    picture = tissue(4)
    cv2.putText(
        picture, "MEYER, ANNA M", (240, row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 235, 1, cv2.LINE_AA
    )
    kept = np.where(border_lines(picture), np.uint8(0), picture)
    name = kept[row - 11 : row + 1, 240:360]
    assert burned_lines(kept) or (name > 200).sum() < 5


def test_a_number_beside_print_goes_with_it_and_stays_alone() -> None:
    picture = tissue(5)
    cv2.putText(picture, "85", (520, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 235, 1, cv2.LINE_AA)
    assert not border_lines(picture)[30:40, 522:534].any()
    cv2.putText(
        picture, "Har-high 1.Trim", (520, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 235, 1, cv2.LINE_AA
    )
    assert border_lines(picture)[32:40, 522:534].all()


def test_noise_as_fine_as_letters_is_not_painted_away() -> None:
    down, across = np.mgrid[0:240, 0:320]
    fan = (np.abs(across - 160) < 20 + 0.5 * down) & (down > 15) & (down < 220)
    noise = np.random.default_rng(1).integers(20, 220, fan.shape)
    assert border_lines(np.where(fan, noise, 0).astype(np.uint8))[fan].mean() < 0.3
