"""The browser of the tests of the review page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

    from sono.annotation.review.session import ReviewSession


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser without network, for the tests of one file."""
    from review_pages import chromium  # skips the file where playwright is not installed

    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: "Browser", session: "ReviewSession") -> Iterator["BrowserPage"]:
    """The page of the `session` of a test, at the mask with the lowest score."""
    from review_pages import opened_page

    with opened_page(browser, session, "score 0.10") as one:
        yield one
