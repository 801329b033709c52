"""Gestational ages as people write them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sono.curation.clinical.gestational_age import POINT, parse_ga, read_ga, weeks_and_days
from sono.curation.core.errors import SonoError
from sono.curation.records.row_age import AgeRules, row_age

# fmt: off
SPELLINGS = (
    "22w3d", "22W3D", "22+3", " 22 + 3 ", "22 3/7", "22+3/7", "22w 3/7", "22.43", "22,43",
    "22.43 weeks", "157 days", "157d", "157", "157.0", "22 weeks 3 days", "22 weeks and 3 days",
    "22 weeks, 3 days", "22 wks 3 d", "22w3", "22w+3d", "GA 22+3", "ga: 22w3d", "２２＋３",
    "22\u00a0w\u00a03\u00a0d", "22+3/40", "22/40 + 3", "22/40+3/7", "22/40 3 days", "22+3 SSW",
    "SSW 22+3", "22 Wochen 3 Tage", "22W3T", "22 Schwangerschaftswochen und 3 Tage", "22 SA + 3 j",
    "22SA+3", "22 semaines et 3 jours", "22 semaines d\u2019am\u00e9norrh\u00e9e et 3 jours",
    "AG 22 sem 3 j", "22 semanas 3 d\u00edas", "22s3d",
    "EG: 22 semanas y 3 dias",
    "22 SG 3 d", "22 settimane e 3 giorni", "22 sett. 3 gg", "IG 22 semanas e 3 dias",
    "22 weken en 3 dagen", "AD 22+3", "157 Tage", "157 jours", "157 d\u00edas", "157 giorni",
    "157 dagen",
)
DATES = (
    "12-Mar", "12. Mrz", "12 mars", "Mar-12", "Dec-03", "Dec 3, 2024", "03-Dec-2024",
    "2024-12-03 00:00:00", "2024-12-03", "2024-12-03T00:00:00", "03.12.2024", "12/3/2024", "12/3",
    "12-3", "45629", "22:03", "22:03:00",
)
NONSENSE = (
    "", " ", "abc", "22 3", "22++3", "w", "3d4", "22 kg", "-22", "22w3d4h", "1e2", "nan", "inf",
    "22½", "22³⁄₇", "T+22w", "157 g", "22 e 3", "22+3/40/40", "SSW", "22 Monate",
)
# fmt: on


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_spelling_of_22_weeks_and_3_days_is_157_days(text: str) -> None:
    assert parse_ga(text) == 157


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("22/40", 154),
        ("22 SSW", 154),
        ("22 SA", 154),
        ("22 SG", 154),
        ("22 semanas", 154),
        ("22", 154),
        ("22w", 154),
        ("22 weeks", 154),
        ("45", 315),
        ("46", 46),
        ("315", 315),
        ("28d", 28),
    ],
)
def test_a_plain_number_up_to_45_means_weeks_and_a_larger_one_days(text: str, days: int) -> None:
    assert parse_ga(text) == days


@pytest.mark.parametrize(
    "text", ["3w6d", "45+1", "3", "27 days", "316", "99 weeks", "45.5", "0", "9" * 90]
)
def test_an_age_outside_4_to_45_weeks_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(SonoError, match=f"'{re.escape(text[:60])}.*outside 4 to 45 weeks"):
        parse_ga(text)


def test_seven_days_beside_the_weeks_are_refused() -> None:
    with pytest.raises(SonoError, match="has 7 days after its weeks"):
        parse_ga("22+7")


@pytest.mark.parametrize("text", ["22. SSW", "22. Woche", "22.SSW"])
def test_a_week_that_has_begun_is_no_age_in_days(text: str) -> None:
    with pytest.raises(SonoError, match=r"a week in progress \(week 22 is 21\+0 to 21\+6\)"):
        parse_ga(text)


@pytest.mark.parametrize("text", DATES)
def test_a_date_made_by_a_spreadsheet_is_called_one(text: str) -> None:
    with pytest.raises(
        SonoError, match=r"(date|time): a spreadsheet probably turned an entry like 12\+3 into it"
    ):
        parse_ga(text)


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(SonoError, match="is not understood"):
        parse_ga(text)


@pytest.mark.parametrize(
    "text", ["22w 3w", "22 weeks 3 weeks", "22 SSW 3 SSW", "22 SA et 3 SA", "22w 3/7w", "22d 3d"]
)
def test_a_unit_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(SonoError, match="is not understood"):
        parse_ga(text)


def test_a_message_holds_no_control_characters_and_stays_short() -> None:
    with pytest.raises(SonoError) as caught:
        parse_ga("\x1b[31m\n" + "x" * 10**6)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@given(st.integers(28, 315))
def test_what_we_write_we_read(days: int) -> None:
    weeks, rest = weeks_and_days(days)
    assert (
        parse_ga(f"{weeks}w{rest}d")
        == parse_ga(f"{weeks} {rest}/7")
        == parse_ga(f"{days} days")
        == days
    )


@given(st.text(max_size=30))
def test_any_text_gives_an_age_in_range_or_a_user_error(text: str) -> None:
    try:
        assert 28 <= parse_ga(text) <= 315
    except SonoError as error:
        assert "gestational age" in str(error)


def test_a_formula_of_a_spreadsheet_still_says_what_was_typed() -> None:
    assert parse_ga("=22+3") == 157


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("22.3", 157),
        ("22,3", 157),
        ("22.0", 154),
        ("22", 154),
        ("22.3 weeks", 157),
        ("22.3 SSW", 157),
    ],
)
def test_a_point_may_stand_between_weeks_and_days(text: str, days: int) -> None:
    assert read_ga(text, point_days=True)[0] == days


@pytest.mark.parametrize("text", ["22.7", "22.9", "22.10", "22.43", "22.7 weeks"])
def test_with_points_for_days_no_decimal_is_read_as_a_fraction(text: str) -> None:
    with pytest.raises(SonoError, match="ga_point"):
        read_ga(text, point_days=True)


@pytest.mark.parametrize(
    ("weeks", "days", "total"),
    [
        ("22", "3", 157),
        ("22", "3d", 157),
        ("22", "157", 157),
        ("22.43", "3", 157),
        ("22.43", "157", 157),
    ]
    + [
        (weeks, days, None)
        for weeks, days in (("20", "157"), ("22", "9"), ("22", "three"), ("22.5", "3"))
    ],
)
def test_weeks_and_days_of_two_columns_both_count_or_neither(
    weeks: str, days: str, total: int | None
) -> None:
    told: list[str] = []
    age = row_age({"ga_weeks": weeks, "ga_days": days}, {}, {}, AgeRules(), told.append)
    assert age.days == total
    assert ("contradict each other" in "".join(told)) is (total is None)


def test_a_point_means_a_fraction_unless_the_study_says_otherwise() -> None:
    assert read_ga("22.6") == (158, POINT)
    assert read_ga("22.6", point_days=True) == (160, POINT)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("22w3d", "22w3d, 22+3"),
        ("22+3", "22w3d, 22+3"),
        ("22 3/7", "22 3/7"),
        ("157 days", "157 days"),
        ("22.43 weeks", "22.43 weeks"),
        ("22.3 weeks", POINT),
        ("157", "22, 22.43 or 157"),
    ],
)
def test_the_form_of_an_age_is_told(text: str, form: str) -> None:
    assert read_ga(text)[1] == form
