"""The growth standards against the published table of z-scores, in mm to 0.1."""

import pytest

from sono.annotation.growth import STANDARDS, centile, z_score

# Values at -3, 0 and +3 standard deviations by completed weeks: INTERGROWTH-21st, Papageorghiou et
# al., Lancet 2014;384:869-79.
PUBLISHED = {
    "hc": {
        14: (81.1, 97.9, 114.6), 20: (150.2, 172.5, 194.8), 25: (204.6, 230.0, 255.4),
        32: (265.5, 294.4, 323.2), 36: (287.1, 319.4, 351.7), 40: (295.2, 333.9, 372.7),
    },
    "ac": {
        14: (68.2, 80.6, 93.0), 20: (124.8, 147.7, 170.6), 25: (172.1, 201.8, 231.6),
        32: (233.2, 273.9, 314.7), 36: (261.8, 312.8, 363.9), 40: (282.6, 349.8, 417.1),
    },
    "bpd": {
        14: (24.4, 29.6, 34.8), 20: (41.5, 48.4, 55.3), 25: (56.3, 64.5, 72.7),
        32: (74.2, 83.8, 93.3), 36: (80.8, 91.2, 101.6), 40: (83.1, 94.9, 106.7),
    },
    "fl": {
        14: (8.6, 13.1, 17.7), 20: (26.0, 31.3, 36.6), 25: (38.4, 44.4, 50.3),
        32: (52.3, 59.5, 66.6), 36: (58.2, 66.4, 74.6), 40: (62.5, 72.1, 81.8),
    },
}  # fmt: skip


@pytest.mark.parametrize("measure", PUBLISHED)
def test_the_equations_give_the_published_table(measure: str) -> None:
    mean, deviation = STANDARDS[measure]
    for weeks, (low, middle, high) in PUBLISHED[measure].items():
        expected = pytest.approx((low, middle, high), abs=0.06)
        found = tuple(mean(weeks) + z * deviation(weeks) for z in (-3, 0, 3))
        assert found == expected, weeks


def test_the_score_of_a_value_at_an_age_of_weeks_and_days() -> None:
    assert z_score("hc", 172.5, 140) == pytest.approx(0, abs=0.01)
    assert z_score("hc", 194.8, 140) == pytest.approx(3, abs=0.01)
    between = z_score("hc", 172.5, 143)
    assert between is not None and -0.9 < between < -0.5
    assert centile(0) == 50 and centile(1.2816) == pytest.approx(90, abs=0.01)


@pytest.mark.parametrize(
    "given", [("ofd", 60.0, 140), ("hc", 172.5, None), ("hc", 80.0, 97), ("hc", 340.0, 281)]
)
def test_without_a_standard_there_is_no_score(given: tuple[str, float, int | None]) -> None:
    assert z_score(*given) is None
