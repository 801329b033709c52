"""Two reviewers: blind second decisions, their agreement, and adjudication."""

from pathlib import Path

import numpy as np
import pytest
from review_studies import HEIGHT, WIDTH, make_review_study, opened, running

from sono.annotation.review.decisions import DecisionLog
from sono.annotation.review.quality import (
    AgreementRow,
    agreement_rows,
    patients_of,
    review_report,
)
from sono.annotation.review.queue import chosen_masks
from sono.annotation.review.session import ReviewSession
from sono.annotation.review.verdicts import Histories
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode
from sono.curation.core.shares import wilson_limits
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Six masks that A has decided: one edited, one rejected, the others accepted."""
    workspace = make_review_study(tmp_path)
    first = opened(workspace, "A")
    drawn = np.zeros((HEIGHT, WIDTH), np.bool_)
    drawn[5:9, 5:50] = True
    first.decide(0, 0, "edit", drawn)
    first.decide(1, 0, "reject")
    for place in range(2, 6):
        first.decide(place, 0, "accept")
    first.write()
    return workspace


def agreement_of(session: ReviewSession) -> list[AgreementRow]:
    return agreement_rows(Histories.read(session.log.decisions), patients_of(session.workspace))


def by_frame(study: Workspace) -> list[tuple[str, str]]:
    table = study.masks().sort_values("image_id")
    return list(zip(table["state"], table["reviewer"], strict=True))


def test_a_second_reviewer_sees_the_proposal_and_leaves_the_table_alone(study: Workspace) -> None:
    before = study.read(MASKS)
    second = opened(study, "B", which="second")
    shown = [second.item(place) for place in range(6)]
    assert {(one["state"], one["reviewer"], one["decided"]) for one in shown} == {
        ("proposed", None, None)
    }
    proposal = np.zeros((HEIGHT, WIDTH), np.bool_)
    proposal[10:20, 15:45] = True
    assert np.array_equal(second.mask(0), proposal)
    second.decide(0, 0, "edit", np.eye(HEIGHT, WIDTH, dtype=np.bool_))
    second.decide(1, 0, "accept")
    assert (again := second.undo()) and again["place"] == 1
    second.write()
    assert study.masks().equals(before)
    assert [one.kind for one in DecisionLog(study.reviews_path).decisions[6:]] == ["second"] * 3
    # one was decided, and it does not come again; nobody is his own second reviewer
    assert len(opened(study, "B", which="second").items) == 5
    with pytest.raises(SonoError, match="decided by another reviewer than 'A'"):
        opened(study, "A", which="second")


def test_a_second_reviewer_of_an_imported_mask_does_not_see_that_it_was_accepted(
    tmp_path: Path,
) -> None:
    workspace = make_review_study(tmp_path)
    masks = workspace.read(MASKS)
    workspace.write(MASKS, masks.assign(state="accepted", reviewer="X", source="import"))
    first = opened(workspace, "A", which="all")
    first.decide(0, 0, "reject")
    first.write()
    shown = opened(workspace, "B", which="second").item(0)
    assert (shown["state"], shown["reviewer"]) == ("proposed", None)


def test_a_third_opinion_leaves_the_second_reviewer_nothing_to_do_again(study: Workspace) -> None:
    for name in ("B", "C"):
        reviewer = opened(study, name, which="second")
        assert len(reviewer.items) == 6
        for place in range(6):
            reviewer.decide(place, 0, "reject" if name == "C" else "accept")
    with pytest.raises(SonoError, match="another reviewer than 'B'"):
        opened(study, "B", which="second")
    assert agreement_of(reviewer)[-1].kept_by_both == 0  # the last one counts


def test_agreement_is_counted_by_structure_and_by_hand(study: Workspace) -> None:
    second = opened(study, "B", which="second")
    for place in range(6):
        second.decide(place, 0, "reject" if place in (1, 2) else "accept")
    # A kept 0, 2, 3, 4, 5 and B kept 0, 3, 4, 5: seen 5/6, by chance 20/36 + 2/36
    rows = {one.structure: one for one in agreement_of(second)}
    assert rows["all"].pairs == 6 and rows["all"].kept_by_both == 4
    assert rows["all"].kappa == pytest.approx((5 / 6 - 22 / 36) / (1 - 22 / 36), abs=1e-3)
    assert rows["femur"].dice == 1.0 and rows["femur"].disputed == 0
    assert rows["fetal head"].dice == pytest.approx(0.5)  # one of two has no common pixel
    assert rows["all"].disputed == 2
    low, high = rows["all"].dice_limits or (0, 0)
    assert low < 0.75 < high
    assert second.summary().agreement[-1].startswith("all: 6 masks by two reviewers; Dice 0.750 (")


def test_frames_of_one_patient_are_resampled_together(study: Workspace) -> None:
    second = opened(study, "B", which="second")
    for place in range(6):
        second.decide(place, 0, "accept")
    histories = Histories.read(second.log.decisions)
    one_patient = dict.fromkeys((f"{number:016x}" for number in range(6)), "p")
    assert agreement_rows(histories, one_patient)[-1].dice_limits is None
    assert agreement_rows(histories, {})[-1].dice_limits is not None


def test_the_adjudicator_gets_what_differs_and_his_choice_is_written(study: Workspace) -> None:
    second = opened(study, "B", which="second")
    for place in range(6):
        second.decide(place, 0, "accept")
    second.write()
    third = opened(study, "C", which="disputed")
    assert [one["image_id"] for one in (item.row for item in third.items)] == [
        f"{0:016x}",
        f"{1:016x}",
    ]
    edited, proposal = third.mask(0, 0), third.mask(0, 1)
    assert edited[5:9, 5:50].all() and not (edited & proposal).any()
    third.decide(0, 0, "pick_b")
    third.decide(1, 0, "pick_a")
    assert third.summary().remarks == ()
    assert third.summary().accepted_unchanged is None  # to take a version is not to accept it
    third.write()
    assert by_frame(study)[:3] == [("accepted", "C"), ("rejected", "C"), ("accepted", "A")]
    row = study.masks().sort_values("image_id").iloc[0]
    assert np.array_equal(decode(row["counts"], HEIGHT, WIDTH), proposal)
    with pytest.raises(SonoError, match=r"nothing to adjudicate: .*Dice below 0.9"):
        opened(study, "C", which="disputed")
    assert {one["disputed"] for one in review_report(study)["agreement"]} == {0}


def test_an_adjudication_can_be_drawn_and_taken_back(study: Workspace) -> None:
    second = opened(study, "B", which="second")
    second.decide(1, 0, "accept")
    third = opened(study, "B", which="disputed")
    assert third.item(0)["versions"] == [
        {"state": "rejected", "own": False},
        {"state": "accepted", "own": True},
    ]
    third.decide(0, 0, "edit", np.ones((HEIGHT, WIDTH), np.bool_))
    assert third.summary().remarks == (
        "1 of the adjudicated masks had been decided by B before; a third person should adjudicate "
        "them",
    )
    third.undo()
    third.write()
    assert by_frame(study)[1] == ("rejected", "A")
    assert len(opened(study, "C", which="disputed").items) == 1


def test_versions_are_served_and_picks_need_them(study: Workspace) -> None:
    second = opened(study, "B", which="second")
    second.decide(1, 0, "accept")
    with running(second) as page:
        page.open()
        assert page.get("/api/mask/0/0").status_code == 404
        refused = page.decide(0, 0, "pick_a")
        assert (refused.status_code, "no second version" in refused.text) == (422, True)
    with running(opened(study, "C", which="disputed")) as page:
        page.open()
        assert page.get("/api/mask/0/0").status_code == page.get("/api/mask/0/1").status_code == 200
        assert page.get("/api/mask/0/2").status_code == 404
        assert page.decide(0, 0, "pick_b").json()["state"] == "accepted"


def test_a_log_from_before_there_were_two_reviewers_is_read(study: Workspace) -> None:
    lines = study.reviews_path.read_text().replace(',"kind":"first"', "")
    study.reviews_path.write_text(lines)
    assert {one.kind for one in DecisionLog(study.reviews_path).decisions} == {"first"}
    study.reviews_path.write_text(
        lines.replace('"action":"accept"', '"action":"accept","kind":"x"')
    )
    with pytest.raises(SonoError, match="'kind' is 'x'"):
        DecisionLog(study.reviews_path)


def test_one_kind_of_review_at_a_time() -> None:
    assert chosen_masks("all", False, False) == "all"
    assert chosen_masks("proposed", True, False) == "second"
    with pytest.raises(SonoError, match="--second and --adjudicate: these are different reviews"):
        chosen_masks("proposed", True, True)
    with pytest.raises(SonoError, match="--adjudicate and --which decided"):
        chosen_masks("decided", False, True)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson_limits(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson_limits(0.5, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
