"""Masks that a reviewer draws where there was none."""

import base64
from pathlib import Path

import numpy as np
import pytest
from review_studies import HEIGHT, WIDTH, make_review_study, opened, running

from sono.annotation.masks import mask_row, mask_table, pixels
from sono.annotation.review.decisions import DecisionLog
from sono.annotation.review.others import other_masks
from sono.annotation.review.quality import reviewer_rows
from sono.annotation.review.server import pack
from sono.annotation.review.session import ReviewSession, StaleError
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace

DRAWN = np.zeros((HEIGHT, WIDTH), np.bool_)
DRAWN[5:9, 7:30] = True


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Six frames, by number: no mask on 0, 1 and 5, a rejected one on 2; 5 has no plane."""
    workspace = make_review_study(tmp_path)
    masks = rows_of(workspace.masks().sort_values("image_id"))
    masks[2]["state"] = "rejected"
    workspace.write(MASKS, from_rows(MASKS, masks[2:5]))
    images = rows_of(workspace.read(IMAGES).sort_values("image_id"))
    images[5]["plane"] = None
    workspace.write(IMAGES, from_rows(IMAGES, images))
    return workspace


def asked(session: ReviewSession) -> list[tuple[int, str]]:
    """The frames, by number, and structures of the queue."""
    return [(int(one.image_id, 16), one.structure) for one in session.items]


def test_frames_without_a_mask_are_queued_by_plane(
    study: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    session = opened(study, "Weber", which="missing")
    assert asked(session) == [(1, "femur"), (0, "fetal head"), (2, "fetal head")]
    study.write(MASKS, study.masks().loc[lambda table: table["structure"] == "fetal head"])
    later = opened(study, "Weber", which="missing")  # femurs have no masks now
    assert asked(later) == [(0, "fetal head"), (2, "fetal head"), (1, "femur"), (3, "femur")]
    assert "1 frame of unknown plane" in capsys.readouterr().err
    shown = session.item(0)
    assert (shown["plane"], shown["empty"], shown["version"]) == ("femur", True, 0)
    assert not session.mask(0).any()
    femurs = opened(study, "Weber", "Femur", which="missing")
    assert asked(femurs) == [(5, "femur"), (1, "femur"), (3, "femur")]
    thalami = opened(study, "Weber", "thalami", which="missing")  # the plane shows it
    assert asked(thalami) == [(5, "thalami"), (0, "thalami"), (2, "thalami"), (4, "thalami")]
    with pytest.raises(SonoError, match="unknown structure 'femr'"):
        opened(study, "Weber", "femr", which="missing")


def test_other_frames_of_a_plane_show_what_is_missing(study: Workspace) -> None:
    image = rows_of(study.read(IMAGES))[4]
    more = mask_row(image, DRAWN, "thalami", "import", state="accepted")
    study.write(MASKS, mask_table([*rows_of(study.masks()), more]))
    session = opened(study, "Weber", which="missing")
    assert asked(session)[1:] == [(0, name) for name in ("fetal head", "thalami")] + [
        (2, name) for name in ("fetal head", "thalami")
    ]


def test_a_drawn_mask_is_stored_bit_for_bit_and_undone(study: Workspace) -> None:
    session = opened(study, "Weber", which="missing")
    with pytest.raises(SonoError, match="there is none yet"):
        session.decide(0, 0, "accept")
    with pytest.raises(SonoError, match="empty"):
        session.decide(0, 0, "edit", np.zeros_like(DRAWN))
    assert not session.log.decisions
    session.decide(0, 0, "edit", DRAWN)
    with pytest.raises(StaleError):
        session.decide(0, 0, "edit", DRAWN)
    session.decide(1, 0, "edit", DRAWN)
    session.undo()
    session.decide(2, 0, "reject")  # it is not on this frame
    session.finish()
    new = rows_of(study.masks().loc[lambda table: table["source"] == "manual"])
    assert [(int(str(row["image_id"]), 16), row["structure"]) for row in new] == [(1, "femur")]
    assert np.array_equal(pixels(new[0]), DRAWN)
    assert (new[0]["state"], new[0]["reviewer"]) == ("edited", "Weber")
    assert len(study.masks()) == 4
    (row,) = reviewer_rows(session.log.decisions)
    assert (row.drawn, row.absent, row.kept, row.rejected, row.unchanged) == (1, 1, 0, 0, None)
    # what was drawn or is said to be absent does not come again; what was undone does
    assert asked(opened(study, "Weber", which="missing")) == [(0, "fetal head")]


def test_what_a_killed_review_drew_is_written_by_the_next_one(study: Workspace) -> None:
    session = opened(study, "Weber", which="missing")
    session.decide(0, 0, "edit", DRAWN)
    session.decide(1, 0, "reject")
    assert asked(opened(study, "Weber", which="missing")) == [(2, "fetal head")]
    assert (study.masks()["source"] == "manual").sum() == 1
    assert not DecisionLog(study.reviews_path).pending()


def test_any_structure_can_be_drawn_on_a_frame_of_the_queue(study: Workspace) -> None:
    session = opened(study, "Weber")
    total = session.progress()["total"]
    assert asked(session) == [(3, "femur"), (4, "fetal head")]
    choice = session.structures(1)
    assert choice["masked"] == ["fetal head"] and choice["plane"][:2] == ["fetal head", "thalami"]
    added = session.add(1, "Thalami")
    assert (added["place"], added["structure"], added["added"]) == (2, "thalami", True)
    assert session.add(1, "thalami")["place"] == 2  # not twice while it is not drawn
    assert session.next_open(1) == 0 and session.progress()["total"] == total
    assert not session.item(1)["rivals"]
    session.decide(2, 0, "edit", DRAWN)
    assert session.progress()["structures"]["thalami"] == [1, 1]
    assert session.structures(1)["masked"] == ["fetal head", "thalami"]
    assert session.add(1, "thalami")["place"] == 3  # a second one
    session.undo()
    assert session.progress()["total"] == total
    assert session.structures(1)["masked"] == ["fetal head"]
    session.decide(2, 2, "edit", DRAWN)
    with pytest.raises(SonoError, match="did you mean"):
        session.add(1, "thalamus")
    session.finish()
    assert session.summary().decided == {"edit": 1}
    assert set(study.masks().loc[lambda table: table["source"] == "manual", "structure"]) == {
        "thalami"
    }


def test_a_second_reviewer_draws_it_too_and_a_third_decides(study: Workspace) -> None:
    first = opened(study, "A", which="missing")
    first.decide(0, 0, "edit", DRAWN)
    first.decide(1, 0, "edit", DRAWN)
    first.finish()
    second = opened(study, "B", which="second")
    assert [one.empty for one in second.items] == [True, True]
    with pytest.raises(SonoError, match="there is none yet"):
        second.decide(0, 0, "accept")
    other = np.roll(DRAWN, 3, axis=0)
    second.decide(0, 0, "edit", other)
    second.decide(1, 0, "reject")
    second.finish()
    third = opened(study, "C", which="disputed")
    by_frame = {int(one.image_id, 16): place for place, one in enumerate(third.items)}
    drawn, absent = by_frame.pop(int(second.items[0].image_id, 16)), *by_frame.values()
    third.decide(drawn, 0, "pick_b")
    third.decide(absent, 0, "pick_b")
    third.finish()
    (new,) = rows_of(study.masks().loc[lambda table: table["source"] == "manual"])
    assert np.array_equal(pixels(new), other) and new["image_id"] == second.items[0].image_id


def test_requests_for_new_masks_are_checked(study: Workspace) -> None:
    session = opened(study, "Weber")
    with running(session) as page:
        good = {"place": 0, "structure": "femur"}
        assert page.post("/api/new", good).status_code == 403
        assert page.get("/api/structures/0").status_code == 403
        page.open()
        assert page.post("/api/new", good, Origin="http://evil.example").status_code == 403
        for body, code in (
            (good | {"place": 99}, 404),
            (good | {"structure": "x" * 101}, 422),
            (good | {"structure": "<b>"}, 422),
            (good | {"more": 1}, 422),
        ):
            assert page.post("/api/new", body).status_code == code
        assert len(session.items) == 2
        assert page.get("/api/structures/0").json()["plane"] == ["femur"]
        place = page.post("/api/new", good).json()["place"]
        assert not any(page.get(f"/api/mask/{place}").content)
        bits = base64.b64encode(pack(DRAWN)).decode()
        assert page.decide(place, 0, "edit", mask=bits).json()["decided"] == "edit"
        assert page.decide(place, 0, "edit", mask=bits).status_code == 409
        assert page.get(f"/api/mask/{place}").content == pack(DRAWN)


def test_other_masks_are_outlined_unless_they_are_to_be_decided_without_a_hint(
    tmp_path: Path,
) -> None:
    workspace = make_review_study(tmp_path)
    session = opened(workspace, "Weber")
    thalami = session.add(0, "thalami")["place"]
    (head,) = other_masks(session, thalami)
    assert head["structure"] == "fetal head"
    # the edges of the pixels of rows 10 to 19 and columns 15 to 44
    corners = {(15, 10), (45, 10), (45, 20), (15, 20)}
    assert {tuple(corner) for corner in head["rings"][0]} == corners
    assert other_masks(session, session.add(0, "fetal head")["place"]) == []
    session.decide(0, 0, "reject")
    assert other_masks(session, thalami) == []
    for options in ({"blind": 1.0}, {"which": "second"}):
        if "which" in options:
            first = opened(workspace, "A")
            first.decide(0, 0, "accept")
            first.write()
        hidden = opened(workspace, "Weber", **options)
        assert other_masks(hidden, hidden.add(0, "thalami")["place"]) == []
        hidden.decide(0, 0, "edit", DRAWN)
        shown = other_masks(hidden, hidden.add(0, "thalami")["place"])
        assert [one["structure"] for one in shown] == [hidden.items[0].structure]
