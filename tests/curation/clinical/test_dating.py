"""Dating formulas against published tables, and the limits of disagreement."""

from datetime import date

import pytest

from sono.curation.clinical.dating import (
    DATINGS,
    days_from_due,
    days_from_lmp,
    days_from_size,
    disagreeing,
    robinson_crl,
    tolerance_days,
)

# Observed means of Robinson and Fleming 1975: completed weeks and CRL in mm.
ROBINSON_1975 = [(8, 17.0), (9, 25.8), (10, 33.0), (11, 46.7), (12, 58.3), (13, 72.5), (14, 79.6)]

# Predicted sizes in cm at full weeks, table III of Hadlock 1984.
HADLOCK_1984 = {
    "hc": [(14, 9.7), (16, 12.4), (18, 15.1), (20, 17.7), (22, 20.1), (24, 22.4)],
    "bpd": [(16, 3.2), (18, 3.9), (20, 4.6), (22, 5.3), (24, 5.8)],
    "ac": [(16, 9.9), (18, 12.5), (20, 15.0), (22, 17.4), (24, 19.8)],
    "fl": [
        (14, 1.4),
        (16, 2.0),
        (18, 2.7),
        (20, 3.3),
        (24, 4.4),
        (28, 5.4),
        (32, 6.2),
        (36, 7.0),
        (40, 7.7),
    ],
}


@pytest.mark.parametrize(("crl_mm", "weeks", "days"), [(45.0, 11, 2), (84.0, 14, 1)])
def test_the_crl_window_of_the_first_trimester_screening_is_11_2_to_14_1_weeks(
    crl_mm: float, weeks: int, days: int
) -> None:
    assert round(robinson_crl(crl_mm)) == 7 * weeks + days


@pytest.mark.parametrize(("weeks", "crl_mm"), ROBINSON_1975)
def test_robinsons_own_means_are_within_his_4_7_days(weeks: int, crl_mm: float) -> None:
    assert robinson_crl(crl_mm) == pytest.approx(7 * weeks, abs=4.7)


@pytest.mark.parametrize(
    ("measure", "weeks", "size_cm"),
    [(measure, *row) for measure, rows in HADLOCK_1984.items() for row in rows],
)
def test_hadlocks_ages_agree_with_hadlocks_sizes(measure: str, weeks: int, size_cm: float) -> None:
    assert DATINGS[measure].days(10 * size_cm) == pytest.approx(7 * weeks, abs=5)


@pytest.mark.parametrize(
    ("measure", "size_mm", "weeks"),
    [
        ("hc", 200, 22.16),
        ("hc", 300, 33.26),
        ("bpd", 50, 21.14),
        ("ac", 150, 20.245),
        ("fl", 30, 19.26),
    ],
)
def test_the_regressions_give_their_closed_form(measure: str, size_mm: float, weeks: float) -> None:
    assert DATINGS[measure].days(size_mm) == pytest.approx(7 * weeks)


@pytest.mark.parametrize(
    ("measure", "size_mm"),
    [("crl", 8), ("crl", 90), ("hc", 80), ("hc", 370), ("fl", 10), ("ac", 430)],
)
def test_outside_the_published_ages_there_is_no_dating(measure: str, size_mm: float) -> None:
    assert days_from_size(measure, size_mm) is None


def test_a_larger_fetus_is_older() -> None:
    for dating in DATINGS.values():
        ages = [dating.days(size) for size in range(10, 400)]
        assert ages == sorted(ages)


def test_naegele_counts_280_days_from_the_last_period_to_the_due_date() -> None:
    assert days_from_lmp(date(2024, 6, 6), date(2024, 1, 1)) == 157
    assert days_from_due(date(2024, 6, 6), date(2024, 10, 7)) == 157


@pytest.mark.parametrize(
    ("source", "ga_days", "days"),
    [
        ("lmp", 200, 10),
        ("crl", 85, 10),
        ("hc", 153, 10),
        ("hc", 154, 14),
        ("hc", 196, 21),
        ("hc", 315, 21),
    ],
)
def test_a_head_may_differ_more_with_time(source: str, ga_days: int, days: int) -> None:
    assert tolerance_days(source, ga_days) == days


def test_ten_days_agree_and_eleven_do_not() -> None:
    assert disagreeing("recorded", {"recorded": 85, "lmp": 95, "due": 96, "crl": 74, "hc": 85}) == (
        "due",
        "crl",
    )
    assert disagreeing("recorded", {"recorded": 210, "hc": 231}) == ()
    assert disagreeing("recorded", {"recorded": 210, "hc": 232}) == ("hc",)
