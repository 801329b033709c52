"""The review page in a real browser, for tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from review_studies import TOKEN, running

from sono.annotation.review.session import ReviewSession

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PATIENCE = 60_000  # milliseconds; for machines that are busy


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser without network."""
    with api.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@contextmanager
def opened_page(
    browser: "Browser", session: ReviewSession, facts: str = "score", **options: Any
) -> Iterator["BrowserPage"]:
    with running(session) as server:
        context = browser.new_context(**{"viewport": {"width": 1366, "height": 768}, **options})
        one, errors, elsewhere = context.new_page(), [], []
        one.on("response", lambda answer: answer.status == 404 and errors.append(answer.url))
        one.on("pageerror", lambda error: errors.append(str(error)))
        one.on(
            "request",
            lambda request: (
                request.url.startswith((server.home, "blob:")) or elsewhere.append(request.url)
            ),
        )
        one.goto(f"{server.home}/?token={TOKEN}")
        shows(one, facts)
        yield one
        context.close()
        assert (errors, elsewhere) == ([], [])


def shows(page: "BrowserPage", facts: str) -> None:
    api.expect(page.locator("#facts")).to_contain_text(facts, timeout=PATIENCE)
    api.expect(page.locator("#saved")).not_to_have_class("busy", timeout=PATIENCE)


def drag(page: "BrowserPage", start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over the frame, between places given as shares of it."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    for place, act in ((start, page.mouse.down), (end, page.mouse.up)):
        page.mouse.move(box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"])
        act()


def picture(page: "BrowserPage", name: str) -> None:
    """Keep what the page looks like, if a folder for it is given."""
    if folder := os.environ.get("SONO_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def says(page: "BrowserPage", text: str) -> None:
    """Wait until the line of the state has a text."""
    api.expect(page.locator("#saved")).to_contain_text(text, timeout=PATIENCE)
