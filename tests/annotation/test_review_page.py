"""The review page in a real browser: a whole session by mouse and keyboard."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from review_studies import TOKEN, make_review_study, running

from sono.annotation.review.session import ReviewSession
from sono.curation.core.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PATIENCE = 60_000  # milliseconds; for machines that are busy


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with api.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return make_review_study(tmp_path)


@pytest.fixture
def session(study: Workspace) -> ReviewSession:
    return ReviewSession.open(study, "M. Weber")


@pytest.fixture
def page(browser: "Browser", session: ReviewSession) -> Iterator["BrowserPage"]:
    with running(session) as server:
        context = browser.new_context(viewport={"width": 1366, "height": 768})
        one, errors, elsewhere = context.new_page(), [], []
        one.on("pageerror", lambda error: errors.append(str(error)))
        one.on(
            "request",
            lambda request: (
                request.url.startswith((server.home, "blob:")) or elsewhere.append(request.url)
            ),
        )
        one.goto(f"{server.home}/?token={TOKEN}")
        shows(one, "score 0.10")
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


def test_a_session_by_keyboard_is_stored_as_it_was_shown(
    page: "BrowserPage", session: ReviewSession
) -> None:
    assert page.locator("h1").inner_text() == "Is this the fetal head?"
    page.keyboard.press("a")
    shows(page, "score 0.20")
    page.keyboard.press("r")
    shows(page, "score 0.30")
    page.keyboard.press("s")
    shows(page, "score 0.40")
    page.keyboard.press("u")
    shows(page, "score 0.30")
    page.keyboard.press("f")
    shows(page, "score 0.40")
    api.expect(page.locator("#count")).to_contain_text("3 of 6 decided by M. Weber")
    session.write()
    states = session.workspace.masks().sort_values("image_id")["state"]
    assert list(states) == ["accepted", "rejected"] + 4 * ["proposed"]


def test_the_pixels_that_are_drawn_are_stored(page: "BrowserPage", session: ReviewSession) -> None:
    before = session.mask(0)
    page.keyboard.press("x")
    drag(page, (0.5, 0.3), (0.5, 0.7))
    page.keyboard.press("ArrowRight")
    shown = np.array(page.evaluate("() => Array.from(mask)"), np.bool_).reshape(before.shape)
    page.keyboard.press("a")  # what was changed is stored as edited
    shows(page, "score 0.20")
    assert session.items[0].row["state"] == "edited"
    assert np.array_equal(session.mask(0), shown)
    assert shown.sum() < before.sum() and shown[:, :15].sum() == 0


def test_a_polygon_fills_the_pixels_whose_centers_it_contains(page: "BrowserPage") -> None:
    page.evaluate("() => { mask.fill(0); fill([[2, 2], [10, 2], [10, 6], [2, 6]]); }")
    filled = np.array(page.evaluate("() => Array.from(mask)"), np.bool_).reshape(40, 61)
    expected = np.zeros((40, 61), np.bool_)
    expected[2:6, 2:10] = True
    assert np.array_equal(filled, expected)


def test_a_decision_of_another_tab_is_shown_and_not_overwritten(
    page: "BrowserPage", session: ReviewSession
) -> None:
    session.decide(0, 0, "reject")
    page.keyboard.press("a")
    api.expect(page.locator("#saved")).to_contain_text("decided elsewhere", timeout=PATIENCE)
    assert session.items[0].row["state"] == "rejected"


def test_what_is_not_saved_is_said(page: "BrowserPage", session: ReviewSession) -> None:
    page.context.set_offline(True)
    page.keyboard.press("a")
    api.expect(page.locator("#saved")).to_contain_text("NOT saved", timeout=PATIENCE)
    page.context.set_offline(False)
    assert not session.log.decisions
    page.keyboard.press("a")
    shows(page, "score 0.20")
    assert session.items[0].row["state"] == "accepted"


def test_a_decision_is_shown_as_saved_although_the_next_frame_is_missing(
    page: "BrowserPage", study: Workspace, session: ReviewSession
) -> None:
    page.wait_for_load_state("networkidle")  # the second mask is loaded ahead
    for frame in (study.root / "frames").rglob("*.png"):
        frame.unlink()
    page.keyboard.press("a")
    shows(page, "score 0.20")
    page.keyboard.press("a")
    api.expect(page.locator("#saved")).to_contain_text(
        re.compile("^saved: accept; the next mask cannot be shown: .*stored frame missing"),
        timeout=PATIENCE,
    )
    api.expect(page.locator("#facts")).to_contain_text("decided: accept")
    assert [one.decided for one in session.items[:3]] == ["accept", "accept", None]


def test_a_reload_goes_on_where_the_review_was(page: "BrowserPage") -> None:
    page.keyboard.press("a")
    shows(page, "score 0.20")
    page.reload()
    shows(page, "score 0.20")


@pytest.mark.parametrize("size", [(1366, 768), (768, 1024), (390, 800)])
def test_every_button_is_within_reach(page: "BrowserPage", size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for button in page.locator("#decisions button").all():
        box = button.bounding_box()
        assert box is not None and box["x"] + box["width"] <= size[0]
        assert box["y"] + box["height"] <= size[1]
