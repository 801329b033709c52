"""A small second picture in a corner is painted over and does not disturb the sector."""

import cv2
import numpy as np
import pytest

from sono.curation.imaging.analysis import _sector, examine
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, crop_to_sector, find_sector
from sono.curation.phantom.frames import expose
from sono.curation.phantom.patients import make_patient
from sono.curation.readers.source import Frame, UltrasoundRegion

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


def with_corner_inset(frame: np.ndarray, cut: tuple[int, int], bright: bool) -> np.ndarray:
    """The frame with an inset whose drawn lines run to the edges, which cut off some pixels.

    Two sides are drawn; in front of them is the frame.
    """
    shown, _ = with_inset(np.zeros((500, 700), np.uint8), "br", 0.25, framed=False)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    y, x = int(rows[0]) - 12, int(columns[0]) - 30
    inset = shown[y : 500 - cut[0], x : 700 - cut[1]]
    tall, wide = inset.shape
    whole = frame.copy()
    whole[-tall:, -wide:] = inset
    whole[-tall:, -wide - 1 : -wide + 1] = whole[-tall - 1 : -tall + 1, -wide:] = 110
    if bright:
        whole[-tall:, -wide - 20 : -wide - 1] = 160
    return whole


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("cut", [(0, 0), (8, 9), (20, 90)])
def test_an_inset_that_the_edges_of_the_picture_close_is_painted_over(
    cut: tuple[int, int], bright: bool
) -> None:
    frame = phantom_frame(1)
    shown = with_corner_inset(frame, cut, bright)
    for picture, mirror in ((shown, np.s_[:, :]), (shown[::-1, ::-1], np.s_[::-1, ::-1])):
        found = find_sector(np.ascontiguousarray(picture))
        changed = (shown != frame)[mirror]
        if bright:
            changed &= picture != 160
        assert found.insets and not (found.inside & changed).any()


def test_a_blank_corner_of_the_picture_is_no_inset() -> None:
    """As where a header was cut out: tissue borders on it, no line."""
    noise = np.random.default_rng(0).normal(90, 15, (540, 800)).astype(np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 1)
    frame[:110, -110:] = 0
    assert not find_sector(frame).insets


def test_insets_of_a_region_of_tissue_are_where_they_are_in_the_frame() -> None:
    shown = with_corner_inset(phantom_frame(1), (8, 9), bright=True)
    height, width = shown.shape
    screen = np.pad(shown, ((40, 0), (100, 0)))
    region = UltrasoundRegion(1, 1, (100, 40, 100 + width - 1, 40 + height - 1), (3, 3), (0.1, 0.1))
    frame = Frame(0, screen, None, None, None, None, regions=(region,))
    moved = tuple((a + 100, b + 40, c + 100, d + 40) for a, b, c, d in find_sector(shown).insets)
    assert moved and _sector(frame).insets == moved


def test_a_frame_with_an_inset_has_a_remark() -> None:
    shown = with_corner_inset(phantom_frame(1), (8, 9), bright=True)
    for picture, remarked in ((shown, True), (phantom_frame(1), False)):
        frame = Frame(0, picture, None, None, None, "not_dicom", is_screen=False)
        assert ("inset" in examine(frame, (), QualityConfig(text="off")).codes) == remarked


def test_lines_and_boxes_of_other_sizes_stay() -> None:
    frame = phantom_frame(1)
    expected = find_sector(frame).inside
    cv2.line(frame, (300, 400), (420, 400), 255, 1)
    cv2.rectangle(frame, (380, 300), (410, 330), 255, 1)
    assert (find_sector(frame).inside == expected).all()
