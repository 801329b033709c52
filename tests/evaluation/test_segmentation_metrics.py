"""Agreement of masks: closed forms, the worst case, and what deleting a mask does."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sono.evaluation.statistics.segmentation import agreement, border

SIZE = (12, 9)
MASKS = arrays(np.bool_, SIZE)


def disc(radius: float, size: int = 121, shift: int = 0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return (x - shift) ** 2 + y**2 <= radius**2


def square(side: int, shift: int = 0) -> np.ndarray:
    mask = np.zeros((100, 100), np.bool_)
    mask[20 : 20 + side, 20 + shift : 20 + shift + side] = True
    return mask


@pytest.mark.parametrize(("inner", "outer"), [(20, 30), (30, 45), (41, 50)])
def test_discs_around_one_center_differ_by_their_radii(inner: int, outer: int) -> None:
    mm = 0.2
    found = agreement(disc(inner), disc(outer), (mm, mm))
    assert found is not None
    share = inner**2 / outer**2
    assert found.iou == pytest.approx(share, abs=0.01)
    assert found.dice == pytest.approx(2 * share / (1 + share), abs=0.01)
    assert found.hd95_mm == pytest.approx((outer - inner) * mm, abs=mm / 2)


def test_the_normalized_distance_jumps_at_its_tolerance() -> None:
    nsd = [agreement(disc(20), disc(30), (mm, mm)) for mm in (0.05, 0.15, 0.25)]
    assert [(round(one.nsd_1mm, 2), round(one.nsd_2mm, 2)) for one in nsd if one] == [
        (1, 1),
        (0, 1),
        (0, 0),
    ]


@pytest.mark.parametrize("shift", [3, 8, 20])
def test_a_square_that_is_shifted_has_known_overlap_and_distance(shift: int) -> None:
    side = 40
    found = agreement(square(side, shift), square(side), (1.0, 0.3))
    assert found is not None
    assert found.dice == pytest.approx((side - shift) / side)
    assert found.iou == pytest.approx((side - shift) / (side + shift))
    # a quarter of the border is its left edge, which is `shift` columns from the other one, or
    # nearer to an upper or lower edge
    assert found.hd95_mm == pytest.approx(shift * 0.3)
    assert found.detected == (found.iou >= 0.5)


def test_distances_follow_the_spacing_of_each_axis() -> None:
    across = agreement(square(40, 10), square(40), (1.0, 0.1))
    down = agreement(square(40, 10).T, square(40).T, (1.0, 0.1))
    assert across is not None and down is not None
    assert (across.hd95_mm, down.hd95_mm) == (pytest.approx(1.0), pytest.approx(10.0, abs=0.6))


def test_equal_masks_agree_completely_and_both_empty_is_no_answer() -> None:
    found = agreement(disc(20), disc(20), (0.1, 0.1))
    assert found is not None
    assert list(asdict(found).values()) == [1, 1, 1, 1, 1, 0]
    nothing = np.zeros(SIZE, np.bool_)
    assert agreement(nothing, nothing, (0.1, 0.1)) is None


def test_a_missed_structure_is_the_worst_case() -> None:
    truth = np.zeros((30, 40), np.bool_)
    truth[5:9, 5:9] = True
    found = agreement(np.zeros_like(truth), truth, (0.1, 0.1))
    assert found is not None
    assert list(asdict(found).values()) == [0, 0, 0, 0, 0, pytest.approx(5.0)]


def test_without_a_spacing_there_are_no_distances() -> None:
    found = agreement(disc(20), disc(21))
    assert found is not None and found.dice > 0.9
    assert np.isnan([found.nsd_1mm, found.nsd_2mm, found.hd95_mm]).all()


def test_the_border_of_a_frame_is_a_border_of_the_mask() -> None:
    assert border(np.ones((5, 6), np.bool_)).sum() == 2 * (5 + 6) - 4


@settings(max_examples=300, deadline=None)
@given(MASKS, MASKS, st.floats(0.05, 3), st.floats(0.05, 3))
def test_deleting_a_right_mask_never_improves_a_metric(
    found: np.ndarray, truth: np.ndarray, row: float, column: float
) -> None:
    assume((found & truth).any())
    kept = agreement(found, truth, (row, column))
    deleted = agreement(np.zeros_like(found), truth, (row, column))
    assert kept is not None and deleted is not None
    for name, value in asdict(deleted).items():
        if name == "hd95_mm":
            assert value >= getattr(kept, name)
        else:
            assert value <= getattr(kept, name)


@settings(max_examples=100, deadline=None)
@given(MASKS, MASKS)
def test_agreement_is_the_same_both_ways(one: np.ndarray, other: np.ndarray) -> None:
    there, back = agreement(one, other, (0.3, 0.7)), agreement(other, one, (0.3, 0.7))
    assert (there is None) == (back is None)
    if there and back:
        assert asdict(there) == pytest.approx(asdict(back))
