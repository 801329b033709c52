"""The map shows every group by name, frames and captions, and is the same each time."""

import re

import numpy as np

from sono.evaluation.feature_map import MOST, feature_map


def drawn(count: int = 60, planes: int = 3) -> str:
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(count, 8)), rng.normal(size=(5, 8))
    names = [f"plane {row % planes}" for row in range(count)]
    groups = {"plane": names, "center": ["A"] * (count - 1) + ["unknown"]}
    return feature_map(images, texts, [str(row) for row in range(count)], groups).decode()


def test_every_group_is_named_and_every_point_drawn() -> None:
    text = drawn()
    for name in ("plane 0", "plane 1", "plane 2", ">A<", "unknown", "axis 1"):
        assert name in text
    assert len(re.findall(r"<use ", text)) >= 2 * (60 + 5)
    assert drawn() == text and "Date" not in text.split("</metadata>")[-1]


def test_many_groups_and_frames_do_not_fill_the_report() -> None:
    text = drawn(3 * MOST, 40)
    assert "others" in text and len(text) < 1_500_000


def test_one_frame_without_captions_is_drawn() -> None:
    one = feature_map(np.eye(8)[:1], np.zeros((0, 8)), ["a"], {"plane": ["femur"]}).decode()
    assert "femur" in one


def test_a_dollar_sign_in_a_name_is_a_letter() -> None:
    images = np.eye(4)
    names = ["$\\frac$", "US $1 and $2"] * 2
    text = feature_map(images, images[:1], list("abcd"), {"center": names}).decode()
    assert "$\\frac$" in text and "US $1 and $2" in text
