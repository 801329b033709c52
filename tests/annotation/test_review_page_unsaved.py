"""Drawings that are not saved yet, and keys at the wrong moment, in a real browser."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from review_pages import PATIENCE, api, drag, needs_chromium, opened_page, picture, says, shows
from review_studies import HEIGHT, WIDTH, make_review_study, opened

from sono.annotation.captions import build_captions
from sono.annotation.review.session import ReviewSession
from sono.curation.core.tables import MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route
    from playwright.sync_api import Page as BrowserPage

pytestmark = needs_chromium


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return make_review_study(tmp_path)


@pytest.fixture
def session(study: Workspace) -> ReviewSession:
    return opened(study, "Weber")


def shown(page: "BrowserPage") -> np.ndarray:
    return np.array(page.evaluate("() => Array.from(mask)"), np.bool_).reshape(HEIGHT, WIDTH)


def brush(page: "BrowserPage", height: float) -> np.ndarray:
    """The mask after a stroke of the brush across the frame."""
    page.keyboard.press("b")
    drag(page, (0.3, height), (0.7, height))
    return shown(page)


def hold(page: "BrowserPage", path: str) -> list["Route"]:
    """Requests to `path`, which are not sent until the test continues them."""
    held: list[Route] = []

    def wait(route: "Route") -> None:
        held.append(route)

    page.route(path, wait)
    return held


def test_accept_stores_an_open_polygon_or_says_what_it_lacks(
    page: "BrowserPage", session: ReviewSession
) -> None:
    before = shown(page)
    page.keyboard.press("p")
    for number, place in enumerate(((0.3, 0.7), (0.7, 0.7), (0.5, 0.9))):
        drag(page, place, place)
        if number == 1:
            page.keyboard.press("a")
            says(page, "the open polygon has 2 of at least 3 corners")
            assert not session.log.decisions
    page.keyboard.press("a")
    shows(page, "score 0.20")
    stored = session.mask(0)
    assert session.items[0].row["state"] == "edited"
    assert (stored & before).sum() == before.sum() and stored.sum() > before.sum() + 30


def test_a_drawing_waits_until_the_reviewer_is_back(
    page: "BrowserPage", session: ReviewSession
) -> None:
    drawn = brush(page, 0.8)
    says(page, "changed, not saved")
    picture(page, "unsaved")
    page.keyboard.press("n")
    shows(page, "score 0.20")
    page.keyboard.press("s")  # another mask without a drawing leaves nothing
    shows(page, "score 0.30")
    for key in "ll":
        page.keyboard.press(key)
        page.wait_for_function("() => !loading")
    shows(page, "score 0.10")
    says(page, "your drawing is back, not saved")
    assert np.array_equal(shown(page), drawn)
    page.keyboard.press("k")
    shows(page, "score 0.20")
    session.decide(0, 0, "reject")  # in another tab
    page.keyboard.press("l")
    shows(page, "decided: reject")
    says(page, "Undo brings back what you had drawn")
    page.keyboard.press("u")
    assert np.array_equal(shown(page), drawn)
    page.keyboard.press("a")
    says(page, "saved: edit")
    assert np.array_equal(session.mask(0), drawn)


def test_undo_takes_back_strokes_before_decisions(
    page: "BrowserPage", session: ReviewSession
) -> None:
    page.keyboard.press("a")
    shows(page, "score 0.20")
    before = shown(page)
    first = brush(page, 0.8)
    second = brush(page, 0.9)
    page.keyboard.press("x")
    drag(page, (0.02, 0.02), (0.02, 0.02))  # erases nothing
    page.keyboard.press("e")
    assert len({one.tobytes() for one in (before, first, second, shown(page))}) == 4
    for expected, key in ((second, "u"), (first, "Control+z"), (before, "u")):
        page.keyboard.press(key)
        assert np.array_equal(shown(page), expected)
    api.expect(page.locator("#facts")).to_contain_text("score 0.20")
    assert [one.action for one in session.log.decisions] == ["accept"]
    page.keyboard.press("Control+z")
    shows(page, "score 0.10")
    assert [one.action for one in session.log.decisions] == ["accept", "undo"]


def test_not_here_is_asked_twice_if_something_is_drawn(
    browser: "Browser", study: Workspace
) -> None:
    masks = rows_of(study.masks())
    study.write(MASKS, from_rows(MASKS, [one for one in masks if one["structure"] != "femur"]))
    session = opened(study, "Weber", which="missing")
    with opened_page(browser, session, "no mask yet") as page:
        brush(page, 0.5)
        page.keyboard.press("r")
        says(page, '"Not here" would drop what you have drawn')
        brush(page, 0.7)  # the next press is asked about again
        page.keyboard.press("r")
        says(page, '"Not here" would drop what you have drawn')
        assert not session.log.decisions
        page.keyboard.press("r")
        shows(page, "mask 2")
    assert [one.action for one in session.log.decisions] == ["reject"]


def test_what_is_pressed_while_the_page_saves_is_reported(
    page: "BrowserPage", session: ReviewSession
) -> None:
    held = hold(page, "**/api/decision")
    page.keyboard.press("a")
    says(page, "saving")
    page.keyboard.press("r")
    says(page, "wait: the page is busy")
    held[0].continue_()
    shows(page, "score 0.20")
    says(page, "what was pressed meanwhile did not count: press it again")
    assert [one.decided for one in session.items[:2]] == ["accept", None]


def test_save_says_that_it_waits(browser: "Browser", study: Workspace) -> None:
    build_captions(study)
    session = opened(study, "Weber")
    with opened_page(browser, session, "score 0.10") as page:
        held = hold(page, "**/api/caption")
        page.keyboard.press("c")
        page.locator("#text").fill("A fetal head in the transthalamic plane.")
        page.keyboard.press("Control+Enter")
        api.expect(page.locator("#write-save")).to_be_disabled()
        page.keyboard.press("Control+Enter")
        api.expect(page.locator("#refused")).to_contain_text("wait: the page is busy")
        held[0].continue_()
        api.expect(page.locator("#write")).to_be_hidden(timeout=PATIENCE)
    assert [one.kind for one in session.log.decisions] == ["caption"]


def test_help_opens_at_its_top_and_no_reason_is_chosen_beforehand(
    page: "BrowserPage", session: ReviewSession
) -> None:
    page.set_viewport_size({"width": 820, "height": 500})
    page.keyboard.press("?")
    api.expect(page.locator("#help-title")).to_be_in_viewport()
    picture(page, "help")
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    page.keyboard.press("Enter")
    api.expect(page.locator("#why")).to_be_visible()
    assert not session.log.decisions
