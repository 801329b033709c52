"""Guesses of an abdomen on frames of unknown planes: a thorax is refused."""

import cv2
import numpy as np
import pytest

from sono.annotation import proposers
from sono.annotation.guesses import is_abdomen, wall_and_inside
from sono.annotation.proposers import OutlineProposer, Proposal


def frame_of(inside: int, wall: int, outside: int) -> tuple[np.ndarray, np.ndarray]:
    """An ellipse of three gray levels on a frame, and its mask."""
    frame, mask = np.full((300, 400), outside, np.uint8), np.zeros((300, 400), np.uint8)
    cv2.ellipse(frame, (200, 150), (110, 90), 0, 0, 360, inside, -1)
    cv2.ellipse(frame, (200, 150), (110, 90), 0, 0, 360, wall, 14)
    cv2.ellipse(mask, (200, 150), (110, 90), 0, 0, 360, 1, -1)
    return frame, mask > 0


ABDOMEN, THORAX = (80, 90, 70), (30, 140, 60)  # gray levels of inside, wall, outside


def test_the_measures_are_ratios_of_gray_levels() -> None:
    contrast, brightness = wall_and_inside(*frame_of(60, 120, 60))
    assert contrast == pytest.approx((120 - 60) / 240, abs=0.08)
    assert brightness == pytest.approx(60 / 80, abs=0.08)
    darker = wall_and_inside(*frame_of(30, 60, 30))
    assert darker == pytest.approx((contrast, brightness), abs=0.02)


def test_a_dark_inside_with_a_bright_wall_is_no_abdomen() -> None:
    assert is_abdomen(*frame_of(*ABDOMEN))
    assert not is_abdomen(*frame_of(*THORAX))


@pytest.mark.parametrize(
    ("structure", "levels", "kept"),
    [
        ("fetal abdomen", ABDOMEN, True),
        ("fetal abdomen", THORAX, False),
        ("fetal head", THORAX, True),
        ("femur", THORAX, True),
    ],
)
def test_only_guesses_of_an_abdomen_are_refused(
    monkeypatch: pytest.MonkeyPatch, structure: str, levels: tuple[int, int, int], kept: bool
) -> None:
    frame, mask = frame_of(*levels)
    guess, next_best = (Proposal(name, mask, 0.9, 0.9) for name in (structure, "fetal head"))
    monkeypatch.setattr(proposers, "propose_each_kind", lambda gray: [guess, next_best])
    found = OutlineProposer().propose(frame, None, None, ())
    assert [one.structure for one in found] == ([structure] if kept else [])


def test_with_its_plane_an_outline_is_not_doubted() -> None:
    frame, _ = frame_of(*THORAX)
    found = OutlineProposer().propose(frame, "abdominal_circumference", None, ())
    assert [one.structure for one in found] == ["fetal abdomen"]


@pytest.mark.parametrize("level", [0, 255])
def test_masks_at_the_limits_never_fail(level: int) -> None:
    frame = np.full((20, 30), level, np.uint8)
    for mask in (np.ones(frame.shape, np.bool_), np.zeros(frame.shape, np.bool_)):
        assert isinstance(is_abdomen(frame, mask), (bool, np.bool_))
