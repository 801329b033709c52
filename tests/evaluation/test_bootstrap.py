"""The clustered bootstrap: point, width compared with the formula, and few clusters."""

import numpy as np
import pytest

from sono.evaluation.statistics.bootstrap import (
    NUMBER,
    Draws,
    Mean,
    Sample,
    cluster_index,
    clustered_interval,
    clustered_intervals,
    macro,
    micro,
    paired_difference,
)


def test_the_point_is_the_estimate_on_the_data_itself() -> None:
    values, classes = np.array([1.0, 0.0, 1.0]), np.array([0, 0, 1])
    assert clustered_interval(values, classes, np.arange(3), macro()).point == 0.75
    assert clustered_interval(values, classes, np.arange(3), micro()).point == pytest.approx(2 / 3)


def test_the_width_for_single_image_clusters_is_the_binomial_one() -> None:
    values = np.repeat([1.0, 0.0], [300, 100])
    found = clustered_interval(values, np.zeros(400, np.int64), np.arange(400), micro())
    error = np.sqrt(0.75 * 0.25 / 400)
    assert found.low == pytest.approx(0.75 - 1.96 * error, abs=0.006)
    assert found.high == pytest.approx(0.75 + 1.96 * error, abs=0.006)


def test_images_of_one_patient_do_not_narrow_the_interval() -> None:
    values = np.repeat([1.0, 0.0], [30, 10])
    ones = np.zeros(40, np.int64)
    single = clustered_interval(values, ones, np.arange(40), micro())
    tenfold = clustered_interval(
        np.repeat(values, 10), np.repeat(ones, 10), np.repeat(np.arange(40), 10), micro()
    )
    assert (tenfold.low, tenfold.high) == (single.low, single.high)


def test_one_patient_gives_no_interval() -> None:
    found = clustered_interval(
        np.array([1.0, 0.0]), np.zeros(2, np.int64), np.zeros(2, np.int64), micro()
    )
    assert found.as_dict() == {"point": 0.5, "low": None, "high": None}
    assert not found.above_zero and not found.below_zero


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(1).random(50)
    runs = [
        clustered_interval(values, np.zeros(50, np.int64), np.arange(50), micro(), Draws(seed=seed))
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_macro_of_a_draw_averages_over_the_classes_it_holds() -> None:
    sums, counts = np.array([[[3.0], [0.0]]]), np.array([[4.0, 0.0]])
    assert macro()(sums, counts) == [0.75]


def test_equal_answers_give_an_exact_interval_and_not_one_without_width() -> None:
    """One answer of each of 30 patients: 1 - 0.025 ** (1 / 30) of other answers are possible."""
    hits, classes, own = np.ones(30, np.bool_), np.arange(30) % 3, np.arange(30)
    unseen = 1 - 0.025 ** (1 / 30)
    found = paired_difference(hits, hits, classes, own)
    assert vars(found) == pytest.approx({"point": 0.0, "low": -unseen, "high": unseen})
    for statistic in (macro(), micro(), macro().__call__):
        right = clustered_interval(hits, classes, own, statistic)
        assert vars(right) == pytest.approx({"point": 1.0, "low": 1 - unseen, "high": 1.0})
        wrong = clustered_interval(~hits, classes, own, statistic)
        assert vars(wrong) == pytest.approx({"point": 0.0, "low": 0.0, "high": unseen})


def test_equal_answers_have_an_exact_interval_next_to_columns_of_other_numbers() -> None:
    """The column of differences is not the first one, and another column has fractions."""
    patients = np.arange(30)
    values = np.column_stack([np.linspace(0, 1, 30), np.zeros(30)])
    sample = Sample(values, np.zeros(30, np.int64), patients)
    change = Mean(1, kind="difference")
    found = clustered_intervals(sample, {"change": change})["change"]
    unseen = 1 - 0.025 ** (1 / 30)
    assert vars(found) == pytest.approx({"point": 0.0, "low": -unseen, "high": unseen})


def test_cosines_that_are_all_one_are_no_share_of_right_answers() -> None:
    found = clustered_interval(np.ones(30), np.zeros(30, np.int64), np.arange(30), NUMBER)
    assert vars(found) == {"point": 1.0, "low": 1.0, "high": 1.0}


def test_equal_patients_are_drawn_together_with_the_same_result() -> None:
    """200 patients of two kinds, and the same ones with values that all differ a little."""
    values = np.repeat([0.2, 0.9], 100)
    apart = values + 1e-9 * np.arange(200)
    one, own = np.zeros(200, np.int64), np.arange(200)
    found, other = (clustered_interval(each, one, own, micro()) for each in (values, apart))
    error = values.std() / np.sqrt(200)
    for each in (found, other):
        assert each.low == pytest.approx(0.55 - 1.96 * error, abs=0.004)
        assert each.high == pytest.approx(0.55 + 1.96 * error, abs=0.004)


def test_pairing_is_narrower_than_two_separate_intervals() -> None:
    rng = np.random.default_rng(3)
    first = rng.random(200) < 0.6
    second = first & (rng.random(200) < 0.9)
    zeros, own = np.zeros(200, np.int64), np.arange(200)
    paired = paired_difference(first, second, zeros, own)
    alone = clustered_interval(first, zeros, own, micro())
    assert paired.above_zero
    assert paired.high - paired.low < alone.high - alone.low


def test_chunks_of_draws_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(np.random.default_rng(4).random((90, 2)), np.arange(90) % 4, np.arange(90) // 3)
    whole = clustered_intervals(sample, {"a": macro(1)}, Draws(draws=500))
    monkeypatch.setattr("sono.evaluation.statistics.bootstrap._CELLS_AT_ONCE", 1000)
    chunked = clustered_intervals(sample, {"a": macro(1)}, Draws(draws=500))
    assert vars(chunked["a"]) == pytest.approx(vars(whole["a"]))


def test_a_row_without_patient_falls_back_to_its_study_then_its_file() -> None:
    patients, studies, files = ["p", None, None, "p"], ["s", "s", None, None], ["f", "g", "h", "i"]
    found = cluster_index(patients, studies, files)
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 3
