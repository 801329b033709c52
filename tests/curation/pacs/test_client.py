"""How the failures of an archive are met, and how pages are put together."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.pacs.client import (
    Item,
    NotAcceptableError,
    NotServedError,
    Pacs,
    RetryPolicy,
    TransientError,
    classify_status,
    search_all,
    value,
    values_of,
    with_retries,
)

UID = "0020000D"
PACS = Pacs("http://127.0.0.1", None, None, RetryPolicy(tries=1))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


HOST = "https://pacs.inside"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_may_pass(status: int) -> None:
    error = classify_status(status, HOST, {})
    assert (type(error), str(error)) == (TransientError, f"https://pacs.inside: HTTP {status}")


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_failures_of_one_request(status: int) -> None:
    error = classify_status(status, HOST, {})
    assert (type(error), str(error)) == (NotServedError, f"HTTP {status}")


def test_a_form_that_is_not_served_has_an_error_of_its_own() -> None:
    error = classify_status(406, HOST, {})
    assert (type(error), str(error)) == (NotAcceptableError, "HTTP 406")


@pytest.mark.parametrize(
    ("status", "headers", "fact"),
    [
        (401, {}, "set SONO_PACS_USER"),
        (
            302,
            {"Location": "https://elsewhere.example/login?PatientID=7"},
            "redirects to https://elsewhere.example, ",
        ),
        (302, {"Location": "http://[::1"}, "redirects to a place that is no address, "),
        (302, {"Location": "/login?PatientID=7"}, "redirects to another path of the same server, "),
        (200, {"Content-Type": "text/html; charset=utf-8"}, "web page"),
    ],
)
def test_failures_that_end_the_run(status: int, headers: dict[str, str], fact: str) -> None:
    error = classify_status(status, HOST, headers)
    assert isinstance(error, SonoError)
    assert fact in str(error)
    assert "PatientID" not in str(error)


def test_a_good_answer_will_do() -> None:
    assert classify_status(200, HOST, {"Content-Type": "application/dicom+json"}) is None
    assert classify_status(204, HOST, {}) is None


def failing(times: int, wait_s: float | None = None) -> Callable[[], str]:
    left = iter(range(times))

    def act() -> str:
        if next(left, None) is not None:
            raise TransientError("HTTP 500", wait_s)
        return "done"

    return act


def test_waits_double_with_jitter_up_to_the_longest(waits: list[float]) -> None:
    assert (
        with_retries(failing(5), RetryPolicy(tries=6, first_wait_s=1, longest_wait_s=6)) == "done"
    )
    assert len(waits) == 5
    assert all(
        full / 2 <= slept <= full for slept, full in zip(waits, [1, 2, 4, 6, 6], strict=True)
    )


def test_patience_ends(waits: list[float]) -> None:
    with pytest.raises(TransientError):
        with_retries(failing(6), RetryPolicy(tries=6))
    assert len(waits) == 5


def test_retry_after_is_heeded_in_seconds_and_as_a_date(waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert classify_status(503, HOST, {"Retry-After": "²"}).wait_s is None
    for header, expected in (("7", 7), (later, 100), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)):
        error = classify_status(503, HOST, {"Retry-After": header})
        with_retries(failing(1, error.wait_s), RetryPolicy())
        assert waits.pop() == pytest.approx(expected, abs=2)


def test_a_server_that_asks_for_an_hour_is_left(waits: list[float]) -> None:
    with pytest.raises(TransientError):
        with_retries(failing(1, 3600), RetryPolicy())
    assert waits == []


def archive(
    size: int, cap: int = 1000, blind: bool = False, early: bool = False
) -> Callable[..., list[Item]]:
    """A search over `size` studies.

    It may cap pages, be blind to the offset, or cut to the limit before it skips.
    """
    studies: list[Item] = [{UID: {"vr": "UI", "Value": [f"1.{number}"]}} for number in range(size)]

    def search(*, limit: int, offset: int, search_filters: object) -> list[Item]:
        limit, offset = min(limit, cap), 0 if blind else offset
        return studies[:limit][offset:] if early else studies[offset : offset + limit]

    return search


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 8, 9, 31])
@pytest.mark.parametrize("trait", [{}, {"cap": 1}, {"early": True}, {"blind": True}])
def test_every_match_comes_once_whatever_the_server_makes_of_pages(
    size: int, trait: dict[str, int]
) -> None:
    found = [
        value(item, UID) for item in search_all(PACS, archive(size, **trait), {}, UID, page_size=2)
    ]
    assert found == [f"1.{number}" for number in range(size)]


def test_what_is_json_but_no_dicom_is_refused() -> None:
    with pytest.raises(SonoError, match="JSON but not DICOM"):
        list(search_all(PACS, lambda **_: ["a", "b"], {}, UID, page_size=2))


def test_values_of_odd_elements() -> None:
    item = {
        "00080061": {"vr": "CS", "Value": ["US ", "SR"]},
        "00080020": {"vr": "DA"},
        "00080060": "US",
    }
    assert values_of(item, "00080061") == ["US", "SR"]
    assert [value(item, tag) for tag in ("00080020", "00080060", "00100020")] == ["", "", ""]
    assert values_of({UID: {"Value": [None, {"a": [1]}, 20240105]}}, UID) == ["20240105"]
