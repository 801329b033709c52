"""Each metric on arrays that can be worked out by hand."""

import numpy as np
import pytest

from sono.evaluation.statistics.metrics import (
    UNDECIDED,
    alignment,
    confusion,
    constant_guess,
    macro_f1,
    majority_class,
    predict,
    top_k_accuracy,
    top_k_hits,
)


def test_top_1_counts_a_tie_as_wrong() -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    assert top_k_accuracy(scores, np.array([0, 0, 1]), k=1) == {
        "top1_macro": 0.75,
        "top1_micro": pytest.approx(2 / 3),
    }


def test_top_2_needs_the_truth_before_the_third() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 2.0]])
    assert top_k_hits(scores, np.array([1, 2, 1]), k=2).tolist() == [True, False, False]


def test_a_constant_score_is_worth_nothing_at_any_k_below_the_classes() -> None:
    scores, truth = np.zeros((6, 6)), np.arange(6)
    assert top_k_accuracy(scores, truth, 5) == {"top5_macro": 0.0, "top5_micro": 0.0}


def test_nan_is_a_miss_and_no_answer() -> None:
    scores = np.array([[np.nan, np.nan], [np.nan, 1.0]])
    assert not top_k_hits(scores, np.array([0, 1]), 1).any()
    assert predict(scores).tolist() == [UNDECIDED, UNDECIDED]


def test_macro_does_not_care_how_frequent_a_class_is() -> None:
    scores = np.array([[1.0, 0.0]] * 9 + [[1.0, 0.0]])
    found = top_k_accuracy(scores, np.array([0] * 9 + [1]), 1)
    assert found == {"top1_macro": 0.5, "top1_micro": 0.9}


def test_a_shared_best_score_is_undecided() -> None:
    assert predict(np.array([[0.5, 0.5, 0.1], [0.1, 0.5, 0.2]])).tolist() == [UNDECIDED, 1]


def test_confusion_has_a_column_for_the_undecided() -> None:
    matrix = confusion(np.array([0, 1, UNDECIDED]), np.array([0, 0, 1]), 2)
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 1]]


def test_macro_f1_by_hand() -> None:
    # class 0: 2 right of 3, claimed 3 times: 4/6; class 1: 1 right of 2, claimed twice: 2/4; class
    # 2 absent
    matrix = np.array([[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert macro_f1(matrix) == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert macro_f1(np.stack([matrix, 2 * matrix])).shape == (2,)


def test_majority_class_names_the_training_majority_not_the_test_one() -> None:
    truth = np.array([0, 0, 0, 1])
    assert majority_class(np.array([1, 10]), truth) == {"top1_macro": 0.5, "top1_micro": 0.25}
    assert constant_guess(truth) == {"top1_macro": 0.5, "top1_micro": 0.75}


def test_five_constant_answers_cover_all_of_four_classes() -> None:
    truth = np.arange(4)
    assert constant_guess(truth, 5)["top5_macro"] == 1.0
    assert majority_class(np.array([5, 4, 3, 2]), truth, 2)["top2_micro"] == 0.5


def test_alignment_of_orthogonal_pairs_is_one() -> None:
    features = 7.0 * np.eye(4)
    assert alignment(features, features, np.arange(4)) == {
        "paired": 1.0,
        "unpaired": 0.0,
        "alignment": 1.0,
    }


def test_collapsed_features_gain_no_alignment() -> None:
    features = np.ones((5, 3))
    assert alignment(features, features, np.arange(5))["alignment"] == pytest.approx(0)


def test_equal_captions_do_not_count_as_unpaired() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert alignment(features, features, np.array([0, 0, 1]))["unpaired"] == pytest.approx(0)
    assert alignment(features, features, np.arange(3))["unpaired"] == pytest.approx(1 / 3)
