"""Intervals of shares: against closed forms, and by how often they cover the true accuracy."""

import numpy as np
import pytest
from scipy import stats

from sono.evaluation.statistics.bootstrap import Interval, clustered_interval, macro, micro
from sono.evaluation.statistics.proportions import Answers, share_limits

PLANES = 24
FREQUENCY = 1 / np.arange(1, PLANES + 1)  # of the most frequent plane to that of the rarest


def alone(right: int, total: int) -> Answers:
    """One answer of each patient, in one class."""
    hits = np.arange(total) < right
    return Answers(hits[:, None] * 1.0, np.ones((total, 1)), np.array([1 / total]))


@pytest.mark.parametrize("total", [4, 30, 400])
def test_if_all_are_right_the_interval_of_single_answers_is_that_of_clopper_and_pearson(
    total: int,
) -> None:
    found = share_limits(alone(total, total), 0.95)
    exact = stats.binomtest(total, total).proportion_ci(method="exact")
    assert found == pytest.approx((exact.low, exact.high))
    wrong = share_limits(alone(0, total), 0.95)
    assert wrong == pytest.approx((1 - exact.high, 1 - exact.low))


@pytest.mark.parametrize("right", [300, 390])
def test_single_answers_of_many_patients_have_the_interval_of_wilson(right: int) -> None:
    found = share_limits(alone(right, 400), 0.95)
    wilson = stats.binomtest(right, 400).proportion_ci(method="wilson")
    assert found == pytest.approx((wilson.low, wilson.high), abs=2e-3)


def test_frames_that_repeat_their_patient_do_not_narrow_the_interval_much() -> None:
    """Where all answers of a patient are equal, ten frames say what one says."""
    hits, one = np.arange(100) < 80, np.zeros(100, np.int64)
    single = clustered_interval(hits, one, np.arange(100), micro())
    tenfold = clustered_interval(
        np.repeat(hits, 10), np.repeat(one, 10), np.repeat(np.arange(100), 10), micro()
    )
    width = single.high - single.low
    assert tenfold.high - tenfold.low == pytest.approx(width, rel=0.1)


def test_the_order_of_patients_and_planes_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    hits, planes, patients = rng.random(200) < 0.8, rng.integers(5, size=200), np.arange(200) // 4
    order = rng.permutation(200)
    first = clustered_interval(hits, planes, patients, macro())
    second = clustered_interval(hits[order], 4 - planes[order], (49 - patients)[order], macro())
    assert vars(first) == pytest.approx(vars(second))


def simulated(rng: np.random.Generator, patients: int, accuracy: float) -> Interval:
    """The interval of one study: 4 to 16 frames of a patient, whose answers correlate by 0.3."""
    sizes = rng.integers(4, 17, patients)
    skill = rng.beta(accuracy * 7 / 3, (1 - accuracy) * 7 / 3, patients)  # 1 / (1 + 7 / 3) = 0.3
    owners = np.repeat(np.arange(patients), sizes)
    planes = rng.choice(PLANES, len(owners), p=FREQUENCY / FREQUENCY.sum())
    hits = rng.random(len(owners)) < skill[owners]
    return clustered_interval(hits, np.unique(planes, return_inverse=True)[1], owners, macro())


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("patients", [60, 150])
def test_intervals_of_macro_accuracy_cover_it_in_95_of_100_studies(
    patients: int, accuracy: float
) -> None:
    """`benchmarks/intervals.py` has more repeats; 400 of them allow 2.5 points of chance."""
    rng = np.random.default_rng(0)
    intervals = [simulated(rng, patients, accuracy) for _ in range(400)]
    covered = np.mean([found.low <= accuracy <= found.high for found in intervals])
    assert 0.925 <= covered <= 0.98
