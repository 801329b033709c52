"""The review page in a real browser: a whole session by mouse and keyboard."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from review_pages import PATIENCE, api, drag, needs_chromium, opened_page, picture, shows
from review_studies import TOKEN, make_review_study, opened, running
from sam_models import tiny_sam

from sono.annotation.review.session import ReviewSession
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

pytestmark = needs_chromium


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return make_review_study(tmp_path)


@pytest.fixture
def session(study: Workspace) -> ReviewSession:
    return opened(study, "M. Weber")


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
        re.compile("^saved: accept; the mask at place 3 cannot be shown .*stored frame missing"),
        timeout=PATIENCE,
    )
    api.expect(page.locator("#facts")).to_contain_text("decided: accept")
    page.keyboard.press("r")  # no mask but the one on the screen may be meant
    api.expect(page.locator("#saved")).to_contain_text("not the one at this place")
    assert [one.decided for one in session.items[:3]] == ["accept", "accept", None]


def test_frames_that_are_missing_are_stepped_past(
    browser: "Browser", study: Workspace, session: ReviewSession
) -> None:
    for number in (0, 1, 3):
        next((study.root / "frames").rglob(f"{number:016x}-*.png")).unlink()
    with running(session) as server:
        page = browser.new_context().new_page()
        page.goto(f"{server.home}/?token={TOKEN}")
        saved = page.locator("#saved")
        api.expect(saved).to_contain_text("place 1 cannot be shown (N:", timeout=PATIENCE)
        page.keyboard.press("n")
        api.expect(saved).to_contain_text("place 2 cannot be shown (N:", timeout=PATIENCE)
        page.keyboard.press("n")
        shows(page, "score 0.30")
        page.keyboard.press("a")
        api.expect(saved).to_contain_text("saved: accept; the mask at place 4", timeout=PATIENCE)
        page.keyboard.press("n")
        shows(page, "score 0.50")
        page.context.close()
    assert [one.decided for one in session.items] == [None, None, "accept", None, None, None]


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


def drawn(page: "BrowserPage", session: ReviewSession) -> np.ndarray:
    """The mask as the page has it."""
    shape = session.mask(0).shape
    return np.array(page.evaluate("() => Array.from(mask)"), np.bool_).reshape(shape)


def ellipse(x: float, y: float, a: float, b: float, turn: float) -> np.ndarray:
    """An ellipse in the frames of the study, by its equation at the centers of the pixels."""
    rows, columns = np.mgrid[:40, :61] + 0.5
    along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def test_an_ellipse_is_fitted_and_moved_by_keys(
    page: "BrowserPage", session: ReviewSession
) -> None:
    page.keyboard.press("e")
    # a box of 30 x 10 has the second moments of this ellipse
    expected = ellipse(30, 15, 30 / np.sqrt(3), 10 / np.sqrt(3), 0)
    assert np.array_equal(drawn(page, session), expected)
    page.keyboard.press("e")  # an ellipse is its own fit
    assert (drawn(page, session) ^ expected).sum() <= 4
    page.evaluate("() => { mask.set(proposal); startEllipse(); }")
    page.keyboard.press("ArrowDown")  # the center has the focus
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+ArrowRight")
    moved = ellipse(20, 16, 30 / np.sqrt(3) - 1, 10 / np.sqrt(3) + 1, np.deg2rad(10))
    assert np.array_equal(drawn(page, session), moved)
    turn = page.locator('[data-handle="turn"]')
    assert turn.get_attribute("aria-valuetext") == "10 degrees"
    picture(page, "ellipse")
    page.keyboard.press("a")
    shows(page, "score 0.20")
    assert np.array_equal(session.mask(0), moved) and session.items[0].row["state"] == "edited"
    assert page.locator("#handles").is_hidden()


def test_handles_follow_the_mouse_and_escape_takes_them_back(
    page: "BrowserPage", session: ReviewSession
) -> None:
    before = drawn(page, session)
    page.keyboard.press("e")
    box = page.locator('[data-handle="b"]').bounding_box()
    assert box is not None
    scale = page.evaluate("() => view.scale")
    page.mouse.move(box["x"] + 14, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + 14, box["y"] + 14 + 5 * scale)
    page.mouse.up()
    half = 10 / np.sqrt(3)
    assert page.evaluate("() => ellipse.b") == pytest.approx(half + 5, abs=0.2)
    assert drawn(page, session).sum() > before.sum()
    page.keyboard.press("Escape")
    assert np.array_equal(drawn(page, session), before)


def test_an_adjudicator_compares_two_masks_and_takes_one(
    browser: "Browser", study: Workspace
) -> None:
    first = opened(study, "A")
    shifted = np.roll(first.mask(0), 8, axis=1)
    first.decide(0, 0, "edit", shifted)
    first.decide(1, 0, "reject")
    first.decide(2, 0, "reject")
    second = opened(study, "B", which="second")
    proposals = [second.mask(place) for place in range(3)]
    for place in range(3):
        second.decide(place, 0, "accept")
    second.write()
    third = opened(study, "B", which="disputed")
    with opened_page(browser, third) as page:
        api.expect(page.locator("#facts")).to_contain_text("A edited · B accepted (YOUR OWN")
        assert np.array_equal(drawn(page, third), shifted)
        picture(page, "adjudication")
        orange, blue = ([255, 176, 0], [100, 143, 255])
        for color, share in ((orange, 0.25), (blue, 0.75)):
            assert color_is_at(page, color, share)
        page.keyboard.press("w")
        assert np.array_equal(drawn(page, third), proposals[0])
        page.keyboard.press("a")  # what is on the left now is B's
        shows(page, "A rejected")
        page.locator('[data-do="take_2"]').click()
        shows(page, "mask 3")
        page.keyboard.press("1")
        api.expect(page.locator("#saved")).to_contain_text(
            "all masks are decided", timeout=PATIENCE
        )
    actions = [one.action for one in third.log.decisions if one.kind == "adjudication"]
    assert actions == ["pick_b", "pick_b", "pick_a"]
    third.write()
    states = study.masks().sort_values("image_id")["state"]
    assert list(states)[:3] == ["accepted", "accepted", "rejected"]


def color_is_at(page: "BrowserPage", color: list[int], half: float) -> bool:
    """Whether the edge of a mask in this color is in the half of the canvas around `half`."""
    return bool(
        page.evaluate(
            """([color, half]) => {
              const width = canvas.width / 2, left = half < 0.5 ? 0 : width;
              const data = pen.getImageData(left, 0, width, canvas.height).data;
              for (let at = 0; at < data.length; at += 4)
                if (color.every((value, part) => data[at + part] === value)) return true;
              return false;
            }""",
            [color, half],
        )
    )


def test_a_tool_without_a_proposer_says_why(browser: "Browser", study: Workspace) -> None:
    masks = study.read(MASKS)
    study.write(MASKS, masks.assign(structure="thalami"))
    with opened_page(browser, opened(study, "Weber")) as page:
        tool = page.locator('[data-tool="prompt"]')
        assert tool.get_attribute("aria-disabled") == "true"
        assert "--checkpoint" in (tool.get_attribute("title") or "")
        for press in (lambda: page.keyboard.press("t"), lambda: tool.click(force=True)):
            page.evaluate("() => say('')")
            press()
            saved = page.locator("#saved")
            api.expect(saved).to_contain_text("start the review with --checkpoint")
        assert page.evaluate("() => tool") == "move"


def test_a_box_and_a_click_ask_for_a_new_mask(
    browser: "Browser", study: Workspace, tmp_path: Path
) -> None:
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    session = opened(study, "Weber", checkpoint=tmp_path / "sam.pth")
    with opened_page(browser, session) as page:
        before = drawn(page, session)
        page.keyboard.press("t")
        drag(page, (0.4, 0.4), (0.6, 0.6))
        api.expect(page.locator("#saved")).to_contain_text("A accepts it", timeout=PATIENCE)
        boxed = drawn(page, session)
        assert boxed.any() and not np.array_equal(boxed, before)
        drag(page, (0.5, 0.5), (0.5, 0.5))
        api.expect(page.locator("#saved")).to_contain_text("A accepts it", timeout=PATIENCE)
        picture(page, "prompt")
        clicked = drawn(page, session)
        page.keyboard.press("a")
        shows(page, "score 0.20")
    row = session.items[0].row
    assert (row["source"], row["state"]) == ("sam", "edited")
    assert json.loads(row["prompt"])["type"] == "point"
    assert np.array_equal(session.mask(0), clicked)


def test_a_blind_mask_is_drawn_on_a_touch_screen(browser: "Browser", study: Workspace) -> None:
    session = opened(study, "Weber", blind=1.0)
    size = {"width": 768, "height": 1024}
    with opened_page(browser, session, viewport=size, has_touch=True) as page:
        assert not drawn(page, session).any()
        api.expect(page.locator("#saved")).to_contain_text("its proposal is not shown")
        page.locator('[data-do="accept"]').tap()
        api.expect(page.locator("#saved")).to_contain_text("NOT saved: draw this mask")
        page.locator('[data-do="ellipse"]').tap()
        assert drawn(page, session).any()
        for one in page.locator("#handles div").all():
            box = one.bounding_box()
            assert box is not None and min(box["width"], box["height"]) >= 28
        picture(page, "touch")
        page.locator('[data-do="accept"]').tap()
        shows(page, "mask 2")
    assert session.items[0].row["state"] == "edited"
