"""Frames, captions, several proposals and other keys on the review page, in a real browser."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from review_pages import PATIENCE, api, needs_chromium, opened_page, picture, says, shows
from review_studies import HEIGHT, WIDTH, make_review_study, opened

from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.review.session import ReviewSession, StaleError
from sono.curation.core.atomic import sha256
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

pytestmark = needs_chromium


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Six frames with remarks and captions; the first has a proposal of a second source."""
    workspace = make_review_study(tmp_path)
    rows = [row | {"reasons": ["overlay"]} for row in rows_of(workspace.read(IMAGES))]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[8:25, 12:40] = True
    other = mask_row(rows[0], mask, "fetal head", "model", score=0.9)
    workspace.write(MASKS, mask_table([*rows_of(workspace.masks()), other]))
    build_captions(workspace)
    return workspace


@pytest.fixture
def session(study: Workspace) -> ReviewSession:
    return opened(study, "Weber")


def test_a_frame_is_excluded_by_keyboard_and_its_masks_are_passed_over(
    page: "BrowserPage", session: ReviewSession
) -> None:
    page.keyboard.press("q")
    api.expect(page.locator("#why")).to_be_visible()
    page.keyboard.press("a")  # a key of the page means nothing while a question is open
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    picture(page, "exclude")
    page.keyboard.press("Enter")
    says(page, "saved: frame excluded (text_visible)")
    shows(page, "score 0.20")
    assert session.frames.excluded() == [session.items[0].image_id]
    assert [one.decided for one in session.items] == [None] * 7
    api.expect(page.locator("#count")).to_contain_text("2 on excluded frames")
    page.keyboard.press("u")
    shows(page, "score 0.10")
    assert session.frames.excluded() == []
    page.keyboard.press("q")
    page.locator('[data-reason="blurred"]').click()
    shows(page, "score 0.20")
    page.keyboard.press("l")
    api.expect(page.locator("#use")).to_have_text("Excluded: blurred", timeout=PATIENCE)
    page.locator("#include").click()
    says(page, "saved: the frame is used")
    assert session.frames.excluded() == []


def test_a_remark_is_withdrawn_on_the_page(page: "BrowserPage", session: ReviewSession) -> None:
    page.locator("#remarks input").check()
    says(page, "saved: overlay is wrong here")
    assert session.frames.verdict(session.items[0].image_id)["withdrawn"] == ["overlay"]
    page.locator("#remarks input").uncheck()
    says(page, "saved: overlay is right here")
    assert session.frames.verdict(session.items[0].image_id)["withdrawn"] == []


def test_a_caption_is_corrected_and_a_refused_text_says_why(
    page: "BrowserPage", session: ReviewSession
) -> None:
    page.keyboard.press("c")
    page.locator("#text").fill("A femur.")
    page.keyboard.press("Control+Enter")
    api.expect(page.locator("#refused")).to_contain_text("wrong_structure", timeout=PATIENCE)
    picture(page, "refused")
    page.locator("#text").fill("A fetal head <b>in</b> the transthalamic plane.")
    page.locator("#write-save").click()
    api.expect(page.locator("#write")).to_be_hidden(timeout=PATIENCE)
    line = page.locator('#captions [data-level="global"]')
    api.expect(line).to_contain_text("A fetal head <b>in</b> the transthalamic plane. (corrected)")
    line.get_by_text("Wrong", exact=True).click()
    api.expect(line).to_contain_text("(marked as wrong)", timeout=PATIENCE)
    picture(page, "caption")
    page.keyboard.press("u")
    api.expect(line).to_contain_text("(corrected)", timeout=PATIENCE)
    says(page, "undone")
    assert [one.action for one in session.log.decisions] == ["caption", "caption", "undo"]


def test_a_caption_that_another_tab_changed_is_not_overwritten(
    page: "BrowserPage", session: ReviewSession
) -> None:
    session.judge_caption(0, 0, "global", "wrong")
    page.keyboard.press("c")
    page.locator("#text").fill("A fetal head.")
    page.locator("#write-save").click()
    says(page, "decided elsewhere")
    api.expect(page.locator("#text")).to_have_value("A fetal head.")
    assert len(session.log.decisions) == 1


def test_one_of_several_proposals_is_taken_and_the_others_are_rejected(
    page: "BrowserPage", session: ReviewSession
) -> None:
    head = session.items[0].image_id
    both = [one for one in session.items if one.image_id == head]
    assert page.evaluate("() => versions.length") == 2
    assert page.evaluate("() => panels().length") == 2
    picture(page, "proposals")
    page.keyboard.press("w")  # draws on the other
    shown = np.array(page.evaluate("() => Array.from(mask)"), np.bool_).reshape(HEIGHT, WIDTH)
    assert np.array_equal(shown, session.mask(session.items.index(both[1])))
    page.locator('[data-do="restore"]').click()
    page.keyboard.press("2")
    shows(page, "score 0.20")
    assert [one.row["state"] for one in both] == ["rejected", "accepted"]
    page.keyboard.press("u")
    shows(page, "score 0.90")
    says(page, "undone")
    page.keyboard.press("u")
    shows(page, "score 0.10")
    says(page, "undone")
    assert [one.row["state"] for one in both] == ["proposed", "proposed"]
    assert page.evaluate("() => versions.length") == 2


def test_a_choice_among_proposals_is_saved_as_a_whole_or_not(session: ReviewSession) -> None:
    (rival,) = session.item(0)["rivals"]
    for over, error in (
        ([(rival["place"], 7)], StaleError),
        ([(1, 0)], SonoError),
        ([(0, 0)], SonoError),
    ):
        with pytest.raises(error):
            session.decide(0, 0, "accept", over=over)
    assert not session.log.decisions
    session.decide(0, 0, "accept", over=[(rival["place"], 0)])
    assert session.items[rival["place"]].row["state"] == "rejected"


def test_a_wrong_mask_that_is_taken_rejects_no_real_one(study: Workspace) -> None:
    wrong: list[int] = []
    while not wrong:  # which masks get a wrong one in their place depends on their ids
        study.write(MASKS, moved(study.masks()))
        session = opened(study, "Weber", planted=0.5)
        wrong = [
            place
            for place, one in enumerate(session.items)
            if one.kind == "planted" and session.item(place)["rivals"]
        ]
    (rival,) = session.item(wrong[0])["rivals"]
    session.decide(wrong[0], 0, "accept", over=[(rival["place"], rival["version"])])
    assert session.items[rival["place"]].decided is None
    session.finish()
    assert set(study.masks()["state"]) == {"proposed"}


def moved(masks: pd.DataFrame) -> pd.DataFrame:
    """The masks with other ids."""
    return masks.assign(mask_id=[sha256(one.encode())[:16] for one in masks["mask_id"]])


def test_the_next_structure_and_buttons_for_touch(
    browser: "Browser", session: ReviewSession
) -> None:
    size = {"width": 768, "height": 1024}
    with opened_page(browser, session, "score 0.10", viewport=size, has_touch=True) as page:
        page.locator('[data-do="next_structure"]').tap()
        shows(page, "score 0.20")
        assert page.locator("#structure").inner_text() == "femur"
        page.locator('[data-do="next_structure"]').tap()
        shows(page, "score 0.30")
        page.locator('[data-do="previous"]').tap()
        shows(page, "score 0.20")
        before = page.evaluate("() => view.scale")
        page.locator('[data-do="zoom_in"]').tap()
        assert page.evaluate("() => view.scale") == pytest.approx(1.25 * before)
        page.locator('[data-do="fit"]').tap()
        assert page.evaluate("() => view.scale") == before
        hold = page.locator('[data-hold="hide"]')
        hold.dispatch_event("pointerdown")
        assert page.evaluate("() => hidden")
        hold.dispatch_event("pointerup")
        assert not page.evaluate("() => hidden")


def test_keys_are_those_of_the_study(browser: "Browser", study: Workspace) -> None:
    with study.config_path.open("a") as config:
        config.write('\n[review]\nkeys = { accept = "J", reject = "a" }\n')
    session = opened(study, "Weber")
    with opened_page(browser, session, "score 0.10") as page:
        assert page.locator('[data-do="accept"] kbd').inner_text() == "J"
        page.keyboard.press("j")
        shows(page, "score 0.20")
        page.keyboard.press("a")
        shows(page, "score 0.30")
        page.keyboard.press("?")
        api.expect(page.locator("#help")).to_contain_text("exclude the frame")
        page.keyboard.press("Escape")
    assert [one.row["state"] for one in session.items[:2]] == ["accepted", "rejected"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ('{ acept = "j" }', "did you mean 'accept'"),
        ('{ accept = "r" }', "'r' is the key of accept and reject"),
        ('{ accept = "F5" }', "give one character"),
    ],
)
def test_keys_that_cannot_work_are_refused(study: Workspace, keys: str, why: str) -> None:
    with study.config_path.open("a") as config:
        config.write(f"\n[review]\nkeys = {keys}\n")
    with pytest.raises(SonoError, match=why):
        opened(study, "Weber")


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_what_is_drawn_does_not_depend_on_zoom_or_pixel_ratio(
    browser: "Browser", session: ReviewSession, ratio: float
) -> None:
    """The same strokes in pixels of the frame give the same mask at any zoom and pixel ratio."""
    with opened_page(browser, session, "score 0.10", device_scale_factor=ratio) as page:
        masks = []
        for zoom in (1, 0.5, 3):
            page.evaluate("(factor) => { mask.fill(0); fit(); zoom(factor, 0, 0); }", zoom)
            page.keyboard.press("b")
            for spot in ((5.25, 6.25), (20.25, 9.25)):
                x, y = page.evaluate(
                    "([x, y]) => { const box = stage.getBoundingClientRect(), [left, top] ="
                    " panels()[0]; return [box.left + left + view.x + x * view.scale,"
                    " box.top + top + view.y + y * view.scale]; }",
                    spot,
                )
                page.mouse.move(x, y)
                page.mouse.down() if spot[0] < 10 else page.mouse.up()
            masks.append(page.evaluate("() => Array.from(mask)"))
        assert sum(masks[0]) > 50
        assert masks[0] == masks[1] == masks[2]
