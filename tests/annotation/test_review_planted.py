"""Guards against accepting without looking: wrong masks mixed in, and masks drawn blind."""

from pathlib import Path

import numpy as np
import pytest
from review_studies import HEIGHT, WIDTH, make_review_study, opened, running

from sono.annotation.masks import dice, mask_row, mask_table, pixels
from sono.annotation.review.planted import WRONG, planted_row
from sono.annotation.review.quality import review_report
from sono.annotation.review.session import ReviewSession
from sono.annotation.study_report import write_statistics_report
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.tables import IMAGES, MASKS, from_rows, rows_of, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return make_review_study(tmp_path, 40)


def kinds(session: ReviewSession) -> list[str]:
    return [one.kind for one in session.items]


def test_wrong_masks_are_mixed_in_at_the_stated_rate_and_come_again_alike(
    study: Workspace,
) -> None:
    session = opened(study, "Weber", planted=0.5)
    count = kinds(session).count("planted")
    assert 10 <= count <= 30 and len(session.items) == 40 + count
    again = opened(study, "Weber", planted=0.5)
    assert [one.key for one in again.items] == [one.key for one in session.items]
    real = {one.row["image_id"]: one for one in session.items if one.kind == "first"}
    places = {id(one): place for place, one in enumerate(session.items)}
    for one in session.items:
        if one.kind == "planted":
            host = real[one.row["image_id"]]
            assert dice(pixels(one.row), pixels(host.row)) <= WRONG
            assert places[id(one)] < places[id(host)]
    other = make_review_study(study.root.parent / "other", 40)
    elsewhere = opened(other, "Weber", planted=0.5)
    assert kinds(elsewhere) != kinds(session)  # it depends on the study's own key


def test_the_page_cannot_tell_a_wrong_mask_from_a_real_one(study: Workspace) -> None:
    session = opened(study, "Weber", planted=0.5)
    places = {kind: kinds(session).index(kind) for kind in ("planted", "first")}
    with running(session) as page:
        page.open()
        real, wrong = (
            page.get(f"/api/item/{places[kind]}").json() for kind in ("first", "planted")
        )
        assert "planted" not in page.get("/api/progress").text
    same = ("decided", "version", "blind", "versions", "state", "source", "reviewer")
    assert [real[name] for name in same] == [wrong[name] for name in same]
    assert set(real) == set(wrong) and len(real["mask_id"]) == len(wrong["mask_id"])
    scores = [one.row["score"] for one in session.items]
    assert scores == sorted(scores)  # none stands out of the order of doubt


def test_wrong_masks_are_in_the_log_alone_and_give_the_false_accept_rate(study: Workspace) -> None:
    session = opened(study, "Weber", planted=0.5)
    planted = [place for place, kind in enumerate(kinds(session)) if kind == "planted"]
    for place in planted[:4]:
        session.decide(place, 0, "accept")
    session.undo()
    session.decide(planted[4], 0, "reject")
    session.decide(planted[5], 0, "skip")
    almost = session.mask(planted[6]).copy()
    almost.flat[np.flatnonzero(almost)[0]] = False
    session.decide(planted[6], 0, "edit", almost)  # a pixel is no correction
    real = kinds(session).index("first")
    session.decide(real, 0, "accept")
    session.write()
    assert len(study.masks()) == 40 and (study.masks()["state"] == "accepted").sum() == 1
    summary = session.summary()
    assert summary.planted is not None
    assert summary.planted.startswith("4 of 5 wrong masks accepted (80.0%")
    assert summary.accepted_unchanged == 1.0
    left = opened(study, "Weber", planted=0.5)
    assert (
        kinds(left).count("planted") == len(planted) - 5
    )  # what was undone or skipped comes again
    report = review_report(study)["reviewers"][0]
    assert (report["planted"], report["false_accepts"], report["kept"]) == (5, 4, 1)
    html = write_statistics_report(study)[1].read_text(encoding="utf-8")
    assert "4 of 5 wrong masks accepted" in html and "wrong masks shown as a check" in html


def test_a_wrong_mask_may_be_another_structure_of_the_frame(study: Workspace) -> None:
    host = rows_of(study.masks())[0]
    foreign = np.zeros((HEIGHT, WIDTH), np.bool_)
    foreign[30:38, 2:12] = True
    other = mask_table([mask_row(host, foreign, "thalami", "import")])
    masks = [planted_row(f"seed {number}", host, rows_of(other)) for number in range(20)]
    swapped = [np.array_equal(pixels(one), foreign) for one in masks if one is not None]
    assert any(swapped) and not all(swapped)
    assert {one["structure"] for one in masks if one is not None} == {host["structure"]}


def test_a_blind_mask_is_drawn_before_its_proposal_is_seen(study: Workspace) -> None:
    session = opened(study, "Weber", blind=1.0)
    assert session.item(0)["blind"] and not session.mask(0).any()
    with pytest.raises(SonoError, match="its proposal is not shown"):
        session.decide(0, 0, "accept")
    drawn = np.zeros((HEIGHT, WIDTH), np.bool_)
    drawn[10:20, 15:30] = True  # half of the proposal
    session.decide(0, 0, "edit", drawn)
    assert not session.item(0)["blind"] and np.array_equal(session.mask(0), drawn)
    session.write()
    assert (study.masks()["state"] == "edited").sum() == 1
    report = review_report(study)["reviewers"][0]
    assert report["blind"] == 1 and report["blind_dice"] == pytest.approx(2 / 3, abs=1e-3)


def test_long_breaks_do_not_count_as_work(study: Workspace) -> None:
    session = opened(study, "Weber")
    for place in range(4):
        session.decide(place, 0, "accept")
    lines = study.reviews_path.read_text().splitlines()
    times = ("10:00:00", "10:00:04", "11:30:00", "11:30:06")
    for number, time in enumerate(times):
        at = session.log.decisions[number].at
        lines[number] = lines[number].replace(f'"at":"{at}"', f'"at":"2026-01-01T{time}+00:00"')
    study.reviews_path.write_text("\n".join(lines) + "\n")
    assert review_report(study)["reviewers"][0]["seconds"] == 5.0


def test_a_reviewer_with_a_private_name_is_told_which_option(study: Workspace) -> None:
    files = rows_of(study.sources())
    files[0]["private"] = ["Novaková"]
    write_table(study.sources_path, from_rows(SOURCES, files), SOURCES, mode=0o600)
    with pytest.raises(PrivacyError, match="--reviewer: this name is a private string") as error:
        opened(study, "Novaková")
    assert "Novaková" not in str(error.value)
    study.write(MASKS, study.masks())
    assert study.read(IMAGES) is not None and opened(study, "Weber").items
