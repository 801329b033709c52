"""Decisions on frames and captions in a mask review: stored, undone, and kept by later commands."""

import json
from pathlib import Path

import pytest
from review_studies import make_review_study, opened, running

from sono.annotation.captions import build_captions
from sono.annotation.release.card import _captions
from sono.annotation.review.session import ReviewSession, StaleError
from sono.annotation.study_report import write_statistics_report
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import CAPTIONS, IMAGES, from_rows, rows_of, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.images_table import build_images
from sono.curation.quarantine import release

FIRST, SECOND = f"{0:016x}", f"{1:016x}"


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Six frames of one age, two of them with remarks, with captions."""
    workspace = make_review_study(tmp_path)
    change(workspace, 0, ga_days=150)
    change(workspace, 1, ga_days=150, reasons=["overlay", "no_record"])
    for number in range(2, 6):
        change(workspace, number, ga_days=150)
    build_captions(workspace)
    return workspace


def change(workspace: Workspace, number: int, **values: object) -> None:
    """Change a frame in the images table and in the vault."""
    for path, spec, mode in (
        (workspace.path(IMAGES), IMAGES, 0o644),
        (workspace.sources_path, SOURCES, 0o600),
    ):
        rows = rows_of(workspace.read(IMAGES) if spec is IMAGES else workspace.sources())
        rows = [row | {"reasons": [] if row["reasons"] is None else row["reasons"]} for row in rows]
        rows[number] |= values
        write_table(path, from_rows(spec, rows), spec, mode, workspace.study().key_check)


def frame(study: Workspace, number: int) -> dict[str, object]:
    return rows_of(study.read(IMAGES).sort_values("image_id"))[number]


def text_of(study: Workspace, image_id: str, level: str = "global") -> str:
    captions = study.read(CAPTIONS)
    own = captions[(captions["image_id"] == image_id) & (captions["level"] == level)]
    return str(own["text"].iloc[0])


def test_an_excluded_frame_leaves_the_study_and_stays_out(study: Workspace) -> None:
    session = opened(study, "Weber")
    stored = session.frames.path(FIRST)
    shown = session.judge_frame(0, 0, "wrong_plane", [])
    assert (shown["frame"]["excluded"], shown["frame"]["version"]) == ("wrong_plane", 1)
    assert session.next_open(-1) == 1 and session.progress()["set_aside"] == 1
    session.finish()
    assert session.summary().frames_excluded == {"wrong_plane": 1}
    for _ in range(2):
        row = frame(study, 0)
        assert (row["status"], row["file"], row["split"]) == ("rejected", None, None)
        assert list(row["reasons"]) == ["wrong_plane", "rejected_by_reviewer"]  # type: ignore[call-overload]
        assert not stored.exists() and (study.quarantine / stored.parent.name).exists()
        build_images(study)  # as `sono qc` does
    build_captions(study)
    assert FIRST not in set(study.captions()["image_id"])
    stats, page = write_statistics_report(study)
    assert "wrong_plane" in set(stats.exclusions["code"])
    assert "does not show the plane" in page.read_text(encoding="utf-8")
    released = release(study, [stored.stem], "Weber")
    assert released.accepted == 1 and frame(study, 0)["status"] == "accepted"


def test_a_frame_decision_is_undone_before_it_has_an_effect(study: Workspace) -> None:
    before = study.read(IMAGES)
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    session.judge_frame(0, 0, "blurred", [])
    shown = session.undo()
    assert shown is not None and shown["frame"]["excluded"] is None and shown["place"] == 0
    assert shown["decided"] == "accept" and session.progress()["set_aside"] == 0
    session.finish()
    assert study.read(IMAGES)["status"].tolist() == before["status"].tolist()
    assert study.released().empty and not session.summary().frames_excluded


def test_a_remark_that_is_wrong_is_withdrawn_until_a_reviewer_says_otherwise(
    study: Workspace,
) -> None:
    session = opened(study, "Weber")
    remarks = {one["code"]: one["fixed"] for one in session.item(1)["frame"]["remarks"]}
    assert remarks == {"overlay": False, "no_record": True}
    session.judge_frame(1, 0, None, ["overlay"])
    session.finish()
    for _ in range(2):
        assert list(frame(study, 1)["reasons"]) == ["no_record"]  # type: ignore[call-overload]
        build_images(study)
    again = opened(study, "Weber")
    shown = again.item(1)["frame"]
    assert {one["code"]: one["wrong"] for one in shown["remarks"]}["overlay"]
    again.judge_frame(1, 0, None, [])
    again.finish()
    assert "overlay" in list(frame(study, 1)["reasons"])  # type: ignore[call-overload]
    assert study.released().empty


def test_all_crops_of_an_excluded_frame_are_out(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.judge_frame(0, 0, "not_fetal", [])
    session.finish()
    rows = rows_of(study.sources())
    other = rows[0] | {"source_id": "s9", "path": b"/x/9"}
    other["file"] = str(rows[0]["file"]).rpartition("-")[0] + "-00000000.png"
    study.write_vault(study.sources_path, SOURCES, from_rows(SOURCES, [*rows, other]))
    build_images(study)
    images = study.read(IMAGES)
    assert set(images.loc[images["image_id"] == FIRST, "status"]) == {"rejected"}


def test_what_a_killed_review_left_is_applied_by_the_next_one(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.judge_frame(0, 0, "text_visible", [])
    session.judge_caption(1, 0, "global", "wrong")
    with pytest.raises(SonoError, match="start it again if it was killed"):
        study.masks()
    assert len(opened(study, "Weber").items) == 5
    assert frame(study, 0)["status"] == "rejected"
    assert SECOND not in set(study.captions().loc[lambda t: t["level"] == "global", "image_id"])


@pytest.mark.parametrize(
    ("excluded", "withdrawn"),
    [("nice", []), (None, ["overlay"]), (None, ["no_record"]), ("exact_duplicate", [])],
)
def test_an_unknown_reason_or_remark_is_refused(
    study: Workspace, excluded: str | None, withdrawn: list[str]
) -> None:
    session = opened(study, "Weber")
    with pytest.raises(SonoError, match=r"no reason to exclude|no remark on this frame"):
        session.judge_frame(0, 0, excluded, withdrawn)
    assert not session.log.decisions


def test_without_the_vault_frames_cannot_be_excluded(study: Workspace) -> None:
    study.vault.rename(study.vault.with_name("away"))
    session = opened(study, "Weber")
    assert "need the study's vault" in session.item(0)["frame"]["refusal"]
    with pytest.raises(SonoError, match="need the study's vault"):
        session.judge_frame(0, 0, "blurred", [])


def test_decisions_wait_for_a_vault_that_is_away(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.judge_frame(0, 0, "blurred", [])
    away = study.vault.rename(study.vault.with_name("away"))
    with pytest.raises(SonoError, match=r"the next `sono masks review` writes them"):
        session.finish()
    assert not study.vault.exists()  # nothing is written in its place
    away.rename(study.vault)
    opened(study, "Weber")
    assert frame(study, 0)["status"] == "rejected"


def test_a_corrected_caption_is_kept_by_the_next_build(study: Workspace) -> None:
    written = text_of(study, FIRST)
    session = opened(study, "Weber")
    captions = session.item(0)["frame"]["captions"]
    assert [one["level"] for one in captions] == ["global", "region"]
    text = "The transthalamic plane at 21 weeks and 3 days, showing the fetal head."
    shown = session.judge_caption(0, 0, "global", "corrected", f" {text} ")
    assert shown["frame"]["captions"][0] == {"level": "global", "text": text, "state": "corrected"}
    session.finish()
    assert session.summary().captions == {"corrected": 1}
    summary = build_captions(study)
    assert (summary.corrected, summary.marked_wrong, summary.outdated) == (1, 0, ())
    assert text_of(study, FIRST) == text != written
    row = study.captions().set_index(["image_id", "level"]).loc[(FIRST, "global")]
    assert (row["reviewer"], row["tier"]) == ("Weber", "full")
    assert "corrected the text of 1." in _captions(write_statistics_report(study)[0])
    assert "plane" in list(row["fields"])
    change(study, 0, ga_days=160)
    summary = build_captions(study)
    assert summary.corrected == 0 and "ga" in summary.outdated[0] and FIRST in summary.outdated[0]
    assert "22 weeks and 6 days" in text_of(study, FIRST)


def test_a_caption_that_is_wrong_is_not_used_until_it_is_corrected(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.judge_caption(0, 0, "region", "wrong")
    session.judge_caption(1, 0, "global", "wrong")
    session.finish()
    summary = build_captions(study)
    assert summary.marked_wrong == 2
    used = set(zip(study.captions()["image_id"], study.captions()["level"], strict=True))
    assert (FIRST, "global") in used and (FIRST, "region") not in used
    assert (SECOND, "global") not in used
    stats, page = write_statistics_report(study)
    assert stats.caption_reviews == {"corrected": 0, "wrong": 2}
    assert "2 marked as wrong" in page.read_text(encoding="utf-8")
    again = opened(study, "Weber")
    text = again.item(0)["frame"]["captions"][1]["text"]
    again.judge_caption(0, 0, "region", "corrected", text)
    assert again.undo() is not None
    again.judge_caption(0, 2, "region", "corrected", text)
    again.finish()
    assert (FIRST, "region") in set(
        zip(study.captions()["image_id"], study.captions()["level"], strict=True)
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("A femur on the transthalamic plane.", "wrong_structure"),
        ("The four-chamber view.", "wrong_plane"),
        ("The transthalamic plane of 2021-03-12.", "identifier"),
        ("The transthalamic plane of Novaková.", "a private string"),
    ],
)
def test_a_text_that_breaks_a_rule_or_is_private_is_refused(
    study: Workspace, text: str, why: str
) -> None:
    rows = rows_of(study.sources())
    rows[0]["private"] = ["Novaková"]
    study.write_vault(study.sources_path, SOURCES, from_rows(SOURCES, rows))
    session = opened(study, "Weber")
    with pytest.raises(SonoError, match=why) as error:
        session.judge_caption(0, 0, "global", "corrected", text)
    assert not session.log.decisions and "Novaková" not in str(error.value)


def test_the_caption_of_a_mask_stays_with_it_when_it_is_edited(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.judge_caption(0, 0, "region", "corrected", "The fetal head, transthalamic plane.")
    drawn = session.mask(0).copy()
    drawn[2:6, 2:6] = True
    session.decide(0, 0, "edit", drawn)
    session.judge_caption(0, 1, "region", "corrected", "The fetal head in the transthalamic plane.")
    session.finish()
    row = study.captions().set_index(["image_id", "level"]).loc[(FIRST, "region")]
    assert row["mask_id"] == session.items[0].row["mask_id"] != session.items[0].key
    assert build_captions(study).corrected == 1
    assert text_of(study, FIRST, "region") == "The fetal head in the transthalamic plane."


def test_stale_and_wrong_requests_save_nothing(study: Workspace) -> None:
    session = opened(study, "Weber")
    with pytest.raises(StaleError):
        session.judge_frame(0, 1, "blurred", [])
    with running(session) as page:
        good = {"place": 0, "version": 0, "excluded": "blurred", "withdrawn": []}
        caption = {"place": 0, "version": 0, "level": "global", "state": "wrong"}
        assert page.post("/api/frame", good).status_code == 403
        page.open()
        assert page.post("/api/frame", good, Origin="http://evil.example").status_code == 403
        for path, body, code in (
            ("/api/frame", good | {"version": 3}, 409),
            ("/api/caption", caption | {"version": 3}, 409),
            ("/api/frame", good | {"place": 99}, 404),
            ("/api/caption", caption | {"place": 99}, 404),
            ("/api/frame", good | {"excluded": "x" * 50}, 422),
            ("/api/frame", good | {"withdrawn": ["overlay"] * 101}, 422),
            ("/api/frame", good | {"withdrawn": [{}]}, 422),
            ("/api/frame", {"place": 0, "version": 0}, 422),
            ("/api/frame", good | {"reviewer": "X"}, 422),
            ("/api/caption", caption | {"state": None}, 422),
            ("/api/caption", caption | {"level": "other"}, 422),
            ("/api/caption", caption | {"state": "corrected", "text": "a" * 513}, 422),
            ("/api/decision", {"place": 0, "version": 0, "action": "undo"}, 422),
            ("/api/decision", {"place": 0, "version": 0, "action": "frame"}, 422),
        ):
            assert page.post(path, body).status_code == code, (path, body)
        for content in (
            b'{"place": NaN, "version": 0, "excluded": null, "withdrawn": []}',
            b'{"place": 0, "version": 0, "excluded": "\\ud800", "withdrawn": []}',
            b'{"place":',
            b"[" * 100_000,
        ):
            headers = {"Origin": page.home, "Content-Type": "application/json"}
            sent = page.browser.post(
                f"{page.home}/api/frame", data=content, headers=headers, timeout=20
            )
            assert sent.status_code in (400, 422)
        assert not session.log.decisions
        assert page.post("/api/frame", good).json()["frame"]["excluded"] == "blurred"
        assert page.post("/api/frame", good).status_code == 409
    assert len(session.log.decisions) == 1


def test_a_wrong_mask_shows_the_caption_of_the_mask_in_whose_place_it_stands(
    tmp_path: Path,
) -> None:
    study = make_review_study(tmp_path, 40)
    build_captions(study)
    session = opened(study, "Weber", planted=0.5)
    levels = [
        [one["level"] for one in session.item(place)["frame"]["captions"]]
        for place in range(len(session.items))
    ]
    assert all(one == ["global", "region"] for one in levels)
    place = next(at for at, one in enumerate(session.items) if one.kind == "planted")
    session.judge_caption(place, 0, "region", "wrong")
    session.finish()
    assert build_captions(study).marked_wrong == 1


def test_the_log_has_both_states_and_nothing_of_the_sources(study: Workspace) -> None:
    session: ReviewSession = opened(study, "Weber")
    session.judge_frame(0, 0, "blurred", [])
    session.judge_caption(0, 1, "global", "wrong")
    session.finish()
    lines = [json.loads(line) for line in study.reviews_path.read_text().splitlines()]
    frames, captions = lines[:2]
    assert (frames["kind"], frames["before"]["excluded"], frames["after"]["excluded"]) == (
        "frame",
        None,
        "blurred",
    )
    assert (captions["before"]["state"], captions["after"]["state"]) == (None, "wrong")
    assert set(frames["after"]) == {
        "image_id", "excluded", "withdrawn", "reviewer", "reviewed_at",
    }  # fmt: skip
    assert "/x" not in study.reviews_path.read_text()
