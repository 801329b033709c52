"""Pictures are PNGs that show what they were given."""

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.evaluation.plots import OUTLINES, confusion_plot, frame_card, modes_plot
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


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())


def test_an_undecided_column_is_drawn_only_when_needed() -> None:
    sure, unsure = np.array([[3, 1, 0], [0, 4, 0]]), np.array([[3, 0, 1], [0, 4, 0]])
    drawn = [texts(confusion_plot(matrix, ["femur", "eye"], "t")) for matrix in (sure, unsure)]
    assert ["undecided" in each for each in drawn] == [False, True]


def test_a_confusion_matrix_has_its_counts_and_a_legend_of_its_colors() -> None:
    found = texts(confusion_plot(np.array([[37, 0, 0], [0, 41, 0]]), ["femur", "eye"], "t"))
    assert {"37", "41", "60%", "share of the plane's frames"} <= set(found)


def test_a_mode_has_the_same_row_in_every_panel() -> None:
    few = {"all_one": Interval(0.5, 0.4, 0.6), "empty": Interval(0.5, 0.4, 0.6)}
    groups = {"all": few, "some": few | {"annotated": Interval(0.9, 0.8, 1.0)}}
    drawn = modes_plot(groups, [0.1, 0.1], "Top-1 macro").decode()
    # each point is drawn once, at its height
    heights = re.findall(r'<use [^>]*y="([\d.]+)" style="fill: #2f6f9f', drawn)
    assert len(heights) == 5 and len(set(heights)) == 3
    assert set(heights[:2]) < set(heights[2:])


def test_plots_are_the_same_bytes_each_time() -> None:
    groups = {"all": {"all_one": Interval(0.5, 0.4, 0.6), "empty": Interval(0.5, np.nan, np.nan)}}
    first, second = (modes_plot(groups, [0.1], "Top-1 macro") for _ in range(2))
    assert first == second
    assert b"Created with" not in first
