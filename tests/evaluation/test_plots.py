"""Pictures are PNGs that show what they were given."""

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from sono.evaluation.plots import ACCENT, OUTLINES, confusion_plot, frame_card, modes_plot
from sono.evaluation.statistics.bootstrap import Interval


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.cvtColor(
            cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )
    )


def test_a_card_is_gray_but_for_the_outline_of_the_mask() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[20:40, 10:50] = True
    card = pixels(frame_card(np.full((30, 60), 90, np.uint8), {"annotated": mask}, 64))
    colored = (card != card[..., :1]).any(axis=2)
    assert (card[colored] == OUTLINES["annotated"]).all()
    assert colored.sum() == 2 * 40 + 2 * 18


def test_an_undecided_column_is_drawn_only_when_needed() -> None:
    sure, unsure = np.array([[3, 1, 0], [0, 4, 0]]), np.array([[3, 0, 1], [0, 4, 0]])
    drawn = [pixels(confusion_plot(matrix, ["femur", "eye"], "t")) for matrix in (sure, unsure)]
    assert not np.array_equal(*drawn)


def test_a_confusion_matrix_has_a_legend_of_its_colors() -> None:
    picture = pixels(confusion_plot(np.array([[3, 0, 0], [0, 4, 0]]), ["femur", "eye"], "t"))
    half = np.round(255 * np.array(mpl.colormaps["Blues"](0.5)[:3]))  # of no cell
    assert (np.abs(picture - half) <= 2).all(axis=2).any()


def test_a_mode_has_the_same_row_in_every_panel() -> None:
    few = {"all_one": Interval(0.5, 0.4, 0.6), "empty": Interval(0.5, 0.4, 0.6)}
    groups = {"all": few, "some": few | {"annotated": Interval(0.9, 0.8, 1.0)}}
    picture = pixels(modes_plot(groups, [0.1, 0.1], "Top-1 macro"))
    accent = np.array([int(ACCENT[start : start + 2], 16) for start in (1, 3, 5)])
    drawn = (np.abs(picture.astype(int) - accent) <= 2).all(axis=2)
    half = picture.shape[1] // 2
    left, right = (np.flatnonzero(part.any(axis=1)) for part in (drawn[:, :half], drawn[:, half:]))
    assert len(left) and set(left) < set(right)


def test_plots_are_the_same_bytes_each_time() -> None:
    groups = {"all": {"all_one": Interval(0.5, 0.4, 0.6), "empty": Interval(0.5, np.nan, np.nan)}}
    first, second = (modes_plot(groups, [0.1], "Top-1 macro") for _ in range(2))
    assert first == second
    assert b"matplotlib" not in first.lower()
