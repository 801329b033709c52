"""Retrieval: matrices checked by hand, other implementations, chance, and the feature space."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from sono.evaluation.statistics.retrieval import (
    modality_gap,
    own_pair_ceiling,
    precision_by_chance,
    principal_axes,
    retrieval_by_chance,
    retrieve,
    uniformity,
)

# one query to the right; the gallery turns away from it step by step
QUERY = np.array([[1.0, 0.0]])
GALLERY = np.array([[np.cos(angle), np.sin(angle)] for angle in np.linspace(0.1, 1.5, 5)])


def test_hits_and_precision_by_hand() -> None:
    # right items at the ranks 2 and 4: (1/2 + 2/4) / 2
    found = retrieve(QUERY, GALLERY, np.array([7]), np.array([0, 7, 0, 7, 0]), (1, 2, 5))
    assert [bool(found.hits[k][0]) for k in (1, 2, 5)] == [False, True, True]
    assert found.precision.tolist() == [0.5]
    first = retrieve(QUERY, GALLERY, np.array([7]), np.array([7, 7, 0, 0, 0]), (1,))
    assert (bool(first.hits[1][0]), first.precision[0]) == (True, 1.0)
    none = retrieve(QUERY, GALLERY, np.array([9]), np.array([0, 7, 0, 7, 0]), (5,))
    assert (bool(none.hits[5][0]), none.precision[0]) == (False, 0.0)


def test_an_equal_caption_is_right() -> None:
    queries, gallery = np.eye(2), np.array([[0.9, 0.1], [1.0, 0.0], [0.0, 1.0]])
    own = np.array([0, 1])
    assert retrieve(queries, gallery, own, np.array([0, 0, 1]), (1,)).precision.tolist() == [1, 1]
    apart = retrieve(queries, gallery, own, np.array([0, 2, 1]), (1, 2))
    assert apart.hits[1].tolist() == [False, True] and apart.hits[2].all()


def test_ties_with_a_wrong_item_and_nan_are_misses() -> None:
    same = np.ones((3, 2))
    tied = retrieve(same, same, np.arange(3), np.arange(3), (2,))
    assert not tied.hits[2].any() and tied.precision == pytest.approx([1 / 3] * 3)
    lost = retrieve(np.full((1, 2), np.nan), np.eye(2), np.array([0]), np.array([0, 1]), (1, 2))
    assert not lost.hits[2].any() and lost.precision.tolist() == [0.5]


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The precision of 30 queries, their scores [30, 60], and which items are right."""
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(30, 8)), rng.normal(size=(60, 8))
    own, ids = rng.integers(0, 6, 30), rng.integers(0, 6, 60)
    scores = queries @ (gallery / np.linalg.norm(gallery, axis=1)[:, None]).T
    found = retrieve(queries, gallery, own, ids, (1, 10)).precision
    return found, scores, ids[None] == own[:, None]


def test_the_precision_is_that_of_scikit_learn() -> None:
    found, scores, right = drawn()
    theirs = [average_precision_score(right[row], scores[row]) for row in range(30)]
    assert found == pytest.approx(theirs, abs=1e-9)


def test_the_precision_is_that_of_torchmetrics() -> None:
    theirs = pytest.importorskip("torchmetrics.functional.retrieval").retrieval_average_precision
    found, scores, right = drawn()
    for row in range(30):
        # it ignores items whose score is not positive
        one = theirs(torch.tensor(np.exp(scores[row])), torch.tensor(right[row]))
        assert found[row] == pytest.approx(float(one), abs=1e-5)


def test_the_order_of_queries_and_items_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(1500, 4)), rng.normal(size=(40, 4))
    gallery[20:] = gallery[:20]  # ties
    own, ids = rng.integers(0, 5, 1500), rng.integers(0, 5, 40)
    found = retrieve(queries, gallery, own, ids, (1, 5))
    rows, items = rng.permutation(1500), rng.permutation(40)
    moved = retrieve(queries[rows], gallery[items], own[rows], ids[items], (1, 5))
    np.testing.assert_array_equal(moved.precision, found.precision[rows])
    for k in (1, 5):
        np.testing.assert_array_equal(moved.hits[k], found.hits[k][rows])


def test_chance_is_what_random_features_reach() -> None:
    # two of four items are right: 1 - (2/4)(1/3) at k = 2
    own, ids = np.array([0]), np.array([0, 0, 1, 2])
    assert retrieval_by_chance(own, ids, 2) == pytest.approx(1 - 2 / 4 * 1 / 3)
    assert retrieval_by_chance(own, np.array([0, 1]), 10) == 1.0
    assert precision_by_chance(own, np.array([0])) == 1.0
    # ranks 1 or 2 of one right item among two
    assert precision_by_chance(own, np.array([0, 1])) == pytest.approx(0.75)
    rng = np.random.default_rng(0)
    own, ids = rng.integers(0, 5, 4000), np.repeat(np.arange(5), (1, 2, 5, 8, 14))
    queries, gallery = rng.normal(size=(4000, 64)), rng.normal(size=(30, 64))
    found = retrieve(queries, gallery, own, ids, (5,))
    assert found.precision.mean() == pytest.approx(precision_by_chance(own, ids), abs=0.02)
    assert found.hits[5].mean() == pytest.approx(retrieval_by_chance(own, ids, 5), abs=0.03)


def test_equal_captions_limit_a_perfect_model_only_if_they_count_as_wrong() -> None:
    own = np.array([0, 0, 0, 0, 1])  # one caption of four frames
    assert own_pair_ceiling(own, own, 1) == pytest.approx((4 * 1 / 4 + 1) / 5)
    assert own_pair_ceiling(own, own, 4) == 1.0
    perfect = np.eye(2)[own]
    assert retrieve(perfect, perfect, own, own, (1,)).precision.tolist() == [1.0] * 5


def test_uniformity_of_equal_and_of_opposite_rows() -> None:
    assert uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert uniformity(np.array([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(-8)
    assert np.isnan(uniformity(np.ones((1, 3))))
    rng = np.random.default_rng(0)
    many = rng.normal(size=(3000, 8))
    assert uniformity(many) == pytest.approx(uniformity(many[:1500]), abs=0.05)


def test_the_gap_is_the_distance_of_the_means() -> None:
    images, texts = np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert modality_gap(images, texts) == pytest.approx(np.sqrt(2))
    assert modality_gap(images, images[::-1]) == 0


def test_the_first_axis_is_the_longest() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3)) * [1.0, 5.0, 0.1] + 7
    mean, axes, shares = principal_axes(rows)
    assert mean == pytest.approx([7, 7, 7], abs=0.5)
    assert (
        abs(axes[0][1]) > 0.99 and axes[0][1] > 0 and shares[0] == pytest.approx(25 / 26, abs=0.02)
    )
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
