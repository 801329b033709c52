"""The browser of the tests of the review page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser without network, for the tests of one file."""
    from review_pages import chromium  # skips the file where playwright is not installed

    with chromium() as started:
        yield started
