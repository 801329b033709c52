"""Changed masks, donors and masks of other planes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sono.evaluation.region_control.masks import (
    NONE,
    donors,
    draw,
    foreign_masks,
    jittered_box,
    moved_mask,
)


def disc(side: int = 32, row: int = 16, column: int = 16, radius: int = 6) -> np.ndarray:
    y, x = np.ogrid[:side, :side]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 31), st.integers(0, 31), st.integers(0, 12), st.integers(0, 99))
def test_a_moved_mask_keeps_its_shape_and_leaves_its_place(
    row: int, column: int, radius: int, seed: int
) -> None:
    mask = disc(32, row, column, radius)
    moved = moved_mask(mask, draw(seed))
    if moved is None:
        assert radius > 8
        return
    assert moved.sum() == mask.sum()
    assert (moved & mask).sum() <= mask.sum() / 2
    crops = [each[np.ix_(each.any(axis=1), each.any(axis=0))] for each in (mask, moved)]
    np.testing.assert_array_equal(*crops)


def test_a_small_mask_moves_off_itself_and_a_full_one_cannot() -> None:
    moved = moved_mask(disc(), draw(0))
    assert moved is not None and not (moved & disc()).any()
    assert moved_mask(np.ones((8, 8), np.bool_), draw(0)) is None
    assert moved_mask(np.zeros((8, 8), np.bool_), draw(0)) is None


def test_a_jittered_box_is_near_the_box_and_follows_from_the_key() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[30:70, 20:80] = True
    boxes = [jittered_box(mask, draw(0, str(key))) for key in range(50)]
    for box in boxes:
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert abs(rows[0] - 30) <= 4 and abs(rows[-1] - 69) <= 4
        assert abs(columns[0] - 20) <= 6 and abs(columns[-1] - 79) <= 6
        assert box.sum() == len(rows) * len(columns)
    assert len({box.tobytes() for box in boxes}) > 40
    np.testing.assert_array_equal(boxes[3], jittered_box(mask, draw(0, "3")))
    assert not jittered_box(np.zeros((9, 9), np.bool_), draw(0)).any()


def test_a_jittered_box_stays_in_the_square() -> None:
    dot = np.zeros((9, 9), np.bool_)
    dot[8, 0] = True
    assert all(jittered_box(dot, draw(seed)).sum() == 1 for seed in range(20))
    assert all(
        jittered_box(np.ones((9, 9), np.bool_), draw(seed)).sum() >= 49 for seed in range(20)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(0, 3),
)
def test_a_donor_is_another_patients_frame_of_the_plane(
    frames: list[tuple[int, int]], seed: int
) -> None:
    planes, clusters = (np.array(column) for column in zip(*frames, strict=True))
    keys = [f"image{number}" for number in range(len(frames))]
    found = donors(planes.tolist(), clusters, keys, seed)
    for plane in np.unique(planes):
        rows = np.flatnonzero(planes == plane)
        counts = np.unique(clusters[rows], return_counts=True)[1]
        given_ = found[rows]
        assert (given_ == NONE).all() == (len(counts) == 1)
        if len(counts) == 1:
            continue
        assert (planes[given_] == plane).all() and (clusters[given_] != clusters[rows]).all()
        if 2 * counts.max() <= len(rows):
            assert sorted(given_) == sorted(rows)


def test_donors_do_not_depend_on_the_order_of_frames() -> None:
    keys, clusters = [f"image{number}" for number in range(20)], np.arange(20) // 3
    found = donors(["a"] * 20, clusters, keys, 0)
    back = donors(["a"] * 20, clusters[::-1], keys[::-1], 0)
    assert [keys[row] for row in found] == [keys[::-1][row] for row in back][::-1]
    assert not np.array_equal(found, donors(["a"] * 20, clusters, keys, 1))


def test_a_foreign_mask_shows_a_structure_that_the_plane_does_not() -> None:
    candidates = np.array([[1, 1, 0], [0, 1, 1]], np.bool_)
    planes, structures = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2])
    found = foreign_masks(planes, structures, candidates, list("abcd"), 0)
    assert found.tolist() == [3, 3, 0, 0]
    assert foreign_masks(planes[:2], structures[:2], candidates, list("ab"), 0).tolist() == [
        NONE,
        NONE,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_draws_follow_from_seed_and_key(seed: int) -> None:
    assert draw(seed, "a").random() == draw(seed, "a").random() != draw(seed, "b").random()
