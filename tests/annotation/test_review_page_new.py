"""Frames without a mask on the review page, in a real browser."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from review_pages import PATIENCE, api, drag, needs_chromium, opened_page, picture, says, shows
from review_studies import HEIGHT, WIDTH, make_review_study, opened

from sono.annotation.masks import pixels
from sono.curation.core.tables import MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

pytestmark = needs_chromium
# how much of the canvas is brighter than the frame
BRIGHT = """() => pen.getImageData(0, 0, canvas.width, canvas.height).data
  .filter((value, at) => at % 4 < 3 && value > 150).length"""


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Six frames; those with even numbers have a proposed head, the femurs have no mask."""
    workspace = make_review_study(tmp_path)
    masks = rows_of(workspace.masks())
    workspace.write(MASKS, from_rows(MASKS, [m for m in masks if m["structure"] != "femur"]))
    return workspace


def shown(page: "BrowserPage") -> np.ndarray:
    return np.array(page.evaluate("() => Array.from(mask)"), np.bool_).reshape(HEIGHT, WIDTH)


def test_missing_masks_are_drawn_by_brush_polygon_and_box(
    browser: "Browser", study: Workspace
) -> None:
    session = opened(study, "Weber", which="missing")
    with opened_page(browser, session, "femur · no mask yet") as page:
        assert page.locator("h1").inner_text() == "Draw the femur"
        says(page, "draw it: there is no mask yet")
        picture(page, "missing")
        page.keyboard.press("a")
        says(page, "NOT saved: draw this mask")
        page.keyboard.press("b")
        drag(page, (0.4, 0.4), (0.6, 0.5))
        first = shown(page)
        picture(page, "drawn")
        page.keyboard.press("a")
        shows(page, "mask 2")
        page.keyboard.press("p")
        for x, y in ((0.4, 0.3), (0.6, 0.3), (0.6, 0.6)):
            drag(page, (x, y), (x, y))
        page.keyboard.press("Enter")
        second = shown(page)
        page.keyboard.press("a")
        shows(page, "mask 3")
        page.keyboard.press("r")
        says(page, "all masks are decided")
        page.keyboard.press("u")
        says(page, "undone")
        api.expect(page.locator('[data-do="reject"]')).to_contain_text("Not here")
        page.reload()
        shows(page, "mask 3")
        page.keyboard.press("r")
        says(page, "all masks are decided")
    assert first.sum() > 20 and second.sum() > 20
    session.finish()
    new = [row for row in rows_of(study.masks()) if row["source"] == "manual"]
    stored = {str(row["image_id"]): pixels(row) for row in new}
    drawn = zip((one.image_id for one in session.items), (first, second), strict=False)
    assert len(stored) == 2
    assert all(np.array_equal(stored[image_id], mask) for image_id, mask in drawn)


def test_another_structure_is_drawn_by_keyboard_and_the_queue_goes_on(
    browser: "Browser", study: Workspace
) -> None:
    session = opened(study, "Weber")
    with opened_page(browser, session, "score 0.10") as page:
        page.keyboard.press("a")
        shows(page, "score 0.30")
        page.keyboard.press("m")
        api.expect(page.locator("#choose")).to_be_visible(timeout=PATIENCE)
        names = page.locator("#shown-structures button").all_inner_texts()
        assert names[:2] == ["fetal head (has a mask)", "thalami"]
        picture(page, "choose")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        shows(page, "transthalamic · no mask yet · new")
        page.keyboard.press("l")  # back without drawing
        shows(page, "score 0.30")
        page.keyboard.press("m")
        page.locator("#other-structure").fill("thalamus")
        page.locator("#draw-other").click()
        api.expect(page.locator("#unknown")).to_contain_text("did you mean", timeout=PATIENCE)
        page.locator("#other-structure").fill("thalami")
        page.keyboard.press("Enter")
        shows(page, "new · to draw")
        page.keyboard.press("e")
        mask = shown(page)
        picture(page, "new")
        page.keyboard.press("a")
        shows(page, "score 0.30")  # where the reviewer was
        says(page, "saved: edit")
        api.expect(page.locator("#structures")).to_contain_text("thalami1 / 1", timeout=PATIENCE)
        page.keyboard.press("u")
        shows(page, "new · to draw")
        page.keyboard.press("n")
        shows(page, "score 0.30")
    assert mask.any() and len(session.items) == 4
    session.finish()
    assert set(study.masks()["structure"]) == {"fetal head"}


def test_a_mask_that_another_tab_drew_is_not_overwritten(
    browser: "Browser", study: Workspace
) -> None:
    session = opened(study, "Weber", which="missing")
    with opened_page(browser, session, "no mask yet") as page:
        mask = np.ones((HEIGHT, WIDTH), np.bool_)
        session.decide(0, 0, "edit", mask)
        page.keyboard.press("b")
        drag(page, (0.4, 0.4), (0.6, 0.5))
        page.keyboard.press("a")
        says(page, "decided elsewhere")
        assert np.array_equal(shown(page), mask)
    assert np.array_equal(session.mask(0), mask)


def test_other_masks_are_outlined_and_a_foreign_structure_is_asked_about(
    browser: "Browser", study: Workspace
) -> None:
    session = opened(study, "Weber")
    with opened_page(browser, session, "score 0.10") as page:
        page.keyboard.press("m")
        page.locator("#other-structure").fill("femur")
        page.keyboard.press("Enter")
        doubt = page.locator("#unknown")
        api.expect(doubt).to_contain_text(
            "The plane transthalamic does not list femur, so no caption", timeout=PATIENCE
        )
        picture(page, "foreign")
        assert page.locator("#structure").inner_text() == "fetal head"
        page.keyboard.press("Enter")
        shows(page, "no mask yet · new")
        assert page.locator("#structure").inner_text() == "femur"
        api.expect(page.locator("#others")).to_contain_text("Outlines of: fetal head")
        picture(page, "outlines")
        assert page.evaluate("() => others.map((one) => one.rings[0].length)") == [4]
        assert page.evaluate(BRIGHT) > 100
        page.keyboard.press("o")
        assert not page.locator("#others-shown").is_checked()
        assert page.evaluate(BRIGHT) == 0
