"""A small second picture in a corner is painted over and does not disturb the sector."""

import cv2
import numpy as np
import pytest

from sono.curation.imaging.sector import Sector, crop_to_sector, find_sector
from sono.curation.phantom.frames import expose
from sono.curation.phantom.patients import make_patient

PATIENT = make_patient(2, "A", 0)


def phantom_frame(number: int) -> np.ndarray:
    shot = expose(PATIENT, PATIENT.exams[1], "transthalamic", np.random.default_rng(number))
    return shot.frames[0].copy()


def with_inset(
    frame: np.ndarray, corner: str, share: float, framed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The frame with another frame's sector in a corner, and which pixels show it."""
    other = phantom_frame(7)
    small = crop_to_sector(other, find_sector(other))
    wide = round(share * frame.shape[1])
    tall = round(wide * small.shape[0] / small.shape[1])
    small = cv2.resize(small, (wide, tall), interpolation=cv2.INTER_AREA)
    y = 20 if corner[0] == "t" else frame.shape[0] - tall - 20
    x = 12 if corner[1] == "l" else frame.shape[1] - wide - 12
    shown, covered = frame.copy(), np.zeros(frame.shape, np.bool_)
    shown[y : y + tall, x : x + wide] = small
    covered[y : y + tall, x : x + wide] = small > 20
    if framed:
        cv2.rectangle(shown, (x - 3, y - 3), (x + wide + 2, y + tall + 2), 200, 1)
        cv2.rectangle(covered.view(np.uint8), (x - 3, y - 3), (x + wide + 2, y + tall + 2), 1, 1)
    return shown, covered


def agree(one: Sector, other: Sector) -> bool:
    """Whether two sectors have the same sides, to half a degree and four pixels."""
    assert one.angle_left is not None and other.angle_left is not None
    near = np.allclose(one.box, other.box, atol=4)
    return one.kind == other.kind and near and abs(one.angle_left - other.angle_left) < 0.5


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize(("corner", "share"), [("bl", 0.2), ("br", 0.2), ("tl", 0.25)])
def test_an_inset_is_painted_over_and_the_sector_is_as_without_it(
    corner: str, share: float, framed: bool
) -> None:
    frame = phantom_frame(1)
    shown, inset = with_inset(frame, corner, share, framed)
    found = find_sector(shown)
    assert not (found.inside & inset).any()
    assert agree(found, find_sector(frame))


def test_a_framed_inset_over_tissue_is_painted_over() -> None:
    frame = np.random.default_rng(0).normal(90, 15, (600, 800)).astype(np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 2)
    shown, inset = with_inset(frame, "br", 0.25, framed=True)
    found = find_sector(shown)
    assert not (found.inside & inset).any()
    assert found.inside.mean() > 0.85


def test_lines_and_boxes_of_other_sizes_stay() -> None:
    frame = phantom_frame(1)
    expected = find_sector(frame).inside
    cv2.line(frame, (300, 400), (420, 400), 255, 1)
    cv2.rectangle(frame, (380, 300), (410, 330), 255, 1)
    assert (find_sector(frame).inside == expected).all()
