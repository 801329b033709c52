"""Dates as hospitals and spreadsheets write them."""

from datetime import date

import pytest

from sono.curation.clinical.dates import count_orders, parse_date
from sono.curation.core.errors import SonoError

FORMS = (
    "2024-01-31", "2024-01-31 00:00:00", "2024-01-31T08:15", "20240131", "31.01.2024", "31/01/2024",
    "31-1-2024", "31-Jan-2024", "31 January 2024", "31. Jan. 2024", "45322", "45322.5",
    "2024/01/31", "2024.1.31", "20240131120000", "20240131120000.000+0100", "202401311200",
    "31. Januar 2024", "31 Gennaio 2024", "31 de enero de 2024", "Wed 31 Jan 2024", "Jan 31, 2024",
    "31 janvier 2024",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_dates_are_read_in_every_form(text: str) -> None:
    assert parse_date(text) == date(2024, 1, 31)


def test_an_ambiguous_date_is_read_as_the_table_says() -> None:
    assert parse_date("03/04/2024") == date(2024, 4, 3)
    assert parse_date("03/04/2024", month_first=True) == date(2024, 3, 4)
    assert parse_date("03.04.2024", month_first=True) == date(2024, 4, 3)


def test_the_order_shows_itself_in_dates_that_fit_only_one() -> None:
    texts = (
        "31/01/2024",
        "01/31/2024",
        "13-01-2024",
        "03/04/2024",
        "03/03/2024",
        "31.01.2024",
        "2024-01-02",
        "P1",
    )
    assert count_orders(texts) == {"day": 2, "month": 1, "either": 1}


@pytest.mark.parametrize(
    "text",
    [
        "01/31/2024",
        "2024-02-30",
        "31.01/2024",
        "31.01.24",
        "yesterday",
        "",
        "2024",
        "0000-00-00",
        "31-Foo-2024",
    ],
)
def test_a_date_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SonoError, match=f"date '{text}'"):
        parse_date(text)


@pytest.mark.parametrize("serial", ["19999", "80001", "4532"])
def test_a_number_that_is_no_day_of_a_spreadsheet_is_no_date(serial: str) -> None:
    with pytest.raises(SonoError, match="not understood"):
        parse_date(serial)


@pytest.mark.parametrize(
    "text", ["5 maybe 2024", "5 decade 2024", "12 janet 2024", "marche 5 2024"]
)
def test_a_word_that_begins_as_a_month_is_none(text: str) -> None:
    with pytest.raises(SonoError, match="is not understood"):
        parse_date(text)
