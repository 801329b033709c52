"""The review of masks: the queue, the log of decisions, and the server."""

import base64
import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review_studies import HEIGHT, TOKEN, WIDTH, Page, make_review_study, opened, running

from sono.annotation.review import decisions
from sono.annotation.review.decisions import DecisionLog
from sono.annotation.review.queue import Wanted
from sono.annotation.review.run import run_review
from sono.annotation.review.server import MAX_BODY, free_socket, pack, unpack
from sono.annotation.review.session import StaleError
from sono.annotation.review.writing import apply_decisions
from sono.curation.core.atomic import lock_file, open_lock
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return make_review_study(tmp_path)


def states(study: Workspace) -> list[str]:
    return list(study.masks().sort_values("image_id")["state"])


def test_the_most_doubtful_mask_comes_first_and_one_structure_can_be_chosen(
    study: Workspace,
) -> None:
    masks = study.read(MASKS)
    scores = masks["score"].where(masks["score"] > 0.1)  # a missing one counts as one half
    study.write(MASKS, masks.assign(score=scores))
    session = opened(study, "Weber")
    scores = [session.item(place)["score"] for place in range(6)]
    assert [0.5 if score is None else score for score in scores] == [0.2, 0.3, 0.4, 0.5, 0.5, 0.6]
    only = opened(study, "Weber", "femur")
    assert {one.row["structure"] for one in only.items} == {"femur"}
    with pytest.raises(SonoError, match="did you mean 'femur'"):
        opened(study, "Weber", "femor")


def test_decisions_reach_the_masks_table_with_reviewer_and_time(study: Workspace) -> None:
    session = opened(study, "M. Weber")
    drawn = session.mask(1).copy()
    drawn[30:33, 3:9] = True
    session.decide(0, 0, "accept")
    session.decide(1, 0, "edit", drawn)
    session.decide(2, 0, "reject")
    session.decide(3, 0, "skip")
    session.decide(4, 0, "flag")
    session.write()
    assert states(study) == ["accepted", "edited", "rejected", "proposed", "proposed", "proposed"]
    table = study.masks().sort_values("image_id").reset_index(drop=True)
    assert list(table["reviewer"].fillna("")) == ["M. Weber"] * 3 + [""] * 3
    assert table["reviewed_at"].notna().sum() == 3
    edited = table.loc[1]
    assert np.array_equal(decode(edited["counts"], HEIGHT, WIDTH), drawn)
    assert edited["area"] == drawn.sum() and edited["source"] == "heuristic"
    assert session.progress()["actions"] == {"accept": 1, "edit": 1, "reject": 1, "flag": 1}
    assert session.next_open(0) == 3
    assert session.summary().decided["reject"] == 1


def test_decided_masks_leave_the_queue_and_can_be_asked_for(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    session.write()
    assert len(opened(study, "Weber").items) == 5
    assert len(opened(study, "Weber", which="decided").items) == 1
    assert len(opened(study, "Weber", which="all").items) == 6


def test_undo_goes_back_step_by_step_to_the_first_decision(study: Workspace) -> None:
    session = opened(study, "Weber")
    before = study.masks()
    for place in range(6):
        session.decide(place, 0, "edit" if place % 2 else "reject", session.mask(place))
    session.decide(0, 1, "accept")
    undone = [session.undo() for _ in range(8)]
    assert [one and one["place"] for one in undone] == [0, 5, 4, 3, 2, 1, 0, None]
    assert session.progress()["decided"] == 0
    session.write()
    after = study.masks()
    order = ["mask_id", "state", "counts"]
    assert before[order].sort_values("mask_id").values.tolist() == (
        after[order].sort_values("mask_id").values.tolist()
    )


def test_a_stale_version_is_refused_and_changes_nothing(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "reject")
    with pytest.raises(StaleError) as stale:
        session.decide(0, 0, "accept")
    assert stale.value.version == 1 and len(session.log.decisions) == 1


def test_a_table_that_lacks_decisions_is_not_used_until_they_are_applied(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    with pytest.raises(SonoError, match="start it again if it was killed"):
        study.masks()
    opened(study, "Weber")  # applies what was left
    assert states(study)[0] == "accepted"


def test_the_unfinished_line_of_a_killed_review_is_cut_off(
    study: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    session.decide(1, 0, "reject")
    content = study.reviews_path.read_bytes()
    study.reviews_path.write_bytes(content[:-5])  # the second one was never confirmed
    assert len(DecisionLog(study.reviews_path).decisions) == 1
    assert "does not count and is kept in reviews.unfinished.jsonl" in capfd.readouterr().err
    kept = study.reviews_path.with_name("reviews.unfinished.jsonl")
    assert study.reviews_path.read_bytes() + kept.read_bytes() == content[:-5] + b"\n"
    for path in (study.reviews_path, kept):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_last_decision_without_its_line_break_counts(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    content = study.reviews_path.read_bytes()
    study.reviews_path.write_bytes(content[:-1])
    assert len(DecisionLog(study.reviews_path).decisions) == 1
    assert study.reviews_path.read_bytes() == content


def test_a_log_that_is_a_link_is_not_followed(study: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("notes without an end of line")
    study.reviews_path.symlink_to(other)
    with pytest.raises(SonoError, match=r"reviews\.jsonl: a link"):
        opened(study, "Weber")
    assert other.read_text() == "notes without an end of line"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"after": 5}, "'after' is 5"),
        ({"before": {}}, "lacks 'area'"),
        ({"reviewer": None}, "'reviewer' is None"),
        ({"action": []}, "'action' is"),
        ({"number": "x"}, "'number' is 'x'"),
        ({"kind": "frame"}, "lacks 'excluded'"),
        ({"kind": "caption"}, "lacks 'facts'"),
        ({"counts": "zzz"}, "not run lengths"),
        ({"counts": None}, "counts"),
        ({"state": "bogus"}, "allowed: proposed"),
        ({"area": "x"}, "does not fit"),
        ({"area": 7}, "box or area"),
        ({"box_x": -5}, "allowed: 0"),
        ({"box_y": 0}, "box or area"),
        ({"height": 10}, "height"),
        ({"score": 10**400}, "does not fit"),
        ({"image_id": "0" * 17}, "the study has no frame 0"),
        ({"structure": "A. Smith"}, "unknown structure 'A. Smith'"),
    ],
)
def test_a_damaged_decision_is_named_before_anything_is_written(
    study: Workspace, change: dict[str, Any], words: str
) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "skip")
    session.decide(1, 0, "accept")
    first, line = study.reviews_path.read_bytes().splitlines()
    entry = json.loads(line)
    inner = change.keys() <= entry["after"].keys() - {"reviewer"}
    (entry["after"] if inner else entry).update(change)
    study.reviews_path.write_bytes(first + b"\n" + json.dumps(entry).encode() + b"\n")
    before = study.path(MASKS).read_bytes(), study.reviews_path.read_bytes()
    with pytest.raises(SonoError, match=r"reviews\.jsonl: line 2 is no decision") as error:
        opened(study, "Weber")
    assert words in str(error.value) and "restore the file" in str(error.value)
    assert (study.path(MASKS).read_bytes(), study.reviews_path.read_bytes()) == before


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n", b"[1]\n", b'{"applied": "x"}\n', b"\xff\n", b"5\n", b'{"applied":1e400}\n',
        b'{"applied":-1}\n', b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_a_damaged_log_is_named_with_its_line(study: Workspace, line: bytes) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    session.write()
    with study.reviews_path.open("ab") as log:
        log.write(line)
    with pytest.raises(SonoError, match=r"reviews\.jsonl: line 3 is no decision"):
        opened(study, "Weber")


def test_a_full_disk_confirms_nothing_and_keeps_the_log_whole(
    study: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    whole = study.reviews_path.read_bytes()
    real = os.write
    monkeypatch.setattr(decisions.os, "write", lambda file, line: real(file, line[:9]))
    with pytest.raises(SonoError, match="could not be saved"):
        session.decide(1, 0, "accept")
    monkeypatch.undo()
    assert study.reviews_path.read_bytes() == whole
    assert session.item(1)["version"] == 0
    session.decide(1, 0, "accept")
    session.write()
    assert states(study)[:2] == ["accepted", "accepted"]


def test_a_log_that_is_removed_during_a_review_loses_no_later_decision(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "accept")
    session.decide(1, 0, "reject")
    moved = study.reviews_path.rename(study.root.parent / "moved.jsonl")
    with pytest.raises(SonoError, match=r"reviews\.jsonl: removed or changed by another program"):
        session.decide(2, 0, "accept")
    assert session.item(2)["version"] == 0
    with pytest.raises(SonoError, match="the next `sono masks review` writes them"):
        session.finish()
    assert states(study)[:3] == ["accepted", "rejected", "proposed"]
    moved.replace(study.reviews_path)
    session.finish()
    assert states(study)[:3] == ["accepted", "rejected", "proposed"]
    lines = study.reviews_path.read_bytes().splitlines(keepends=True)
    study.reviews_path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(SonoError, match="1 of 2 decisions are missing"):
        opened(study, "Weber")


def test_applying_again_changes_nothing_and_masks_that_are_gone_are_told(study: Workspace) -> None:
    session = opened(study, "Weber")
    session.decide(0, 0, "edit", np.ones((HEIGHT, WIDTH), np.bool_))
    session.decide(1, 0, "reject")
    once, lost = apply_decisions(study.read(MASKS), session.log.decisions)
    twice, _ = apply_decisions(once, session.log.decisions)
    assert once.equals(twice) and not lost
    gone = once[once["image_id"] != f"{1:016x}"]
    assert apply_decisions(gone, session.log.decisions)[1] == [session.items[1].key]


def test_the_reviewer_must_have_a_name_that_is_not_private(study: Workspace) -> None:
    with pytest.raises(SonoError, match="--reviewer is empty"):
        opened(study, " ")


def test_nothing_to_review_says_what_to_do(study: Workspace) -> None:
    study.write(MASKS, study.masks().iloc[:0])
    with pytest.raises(SonoError, match="sono masks propose"):
        opened(study, "Weber")


def test_bits_survive_the_way_to_the_page_and_back() -> None:
    mask = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5
    assert np.array_equal(unpack(pack(mask), HEIGHT, WIDTH), mask)
    with pytest.raises(SonoError, match="bytes"):
        unpack(pack(mask) + b"\0", HEIGHT, WIDTH)


def test_the_link_works_once_and_nothing_opens_without_the_cookie(study: Workspace) -> None:
    with running(opened(study, "Weber")) as page:
        paths = (
            "/",
            "/review.js",
            "/review.svg",
            "/api/progress",
            "/api/item/0",
            "/api/frame/0",
            "/api/mask/0",
        )
        assert {page.get(path).status_code for path in paths} == {403}
        assert page.decide(0, 0, "accept").status_code == 403
        assert Page(page.port).open("wrong").status_code == 403
        first = page.open()
        assert first.status_code == 200 and "token" not in first.url
        scripts = re.findall(r'(?:src|href)="(/[^"]+)"', first.text)
        assert {"/review.svg", "/draw.js", "/ellipse.js", "/input.js"} < set(scripts)
        assert {page.get(path).status_code for path in scripts} == {200}
        cookie = first.history[0].headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert Page(page.port).open(TOKEN).status_code == 403  # a second use
        for path in paths:
            answer = page.get(path)
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert page.get("/review.py").status_code == page.get("/api/item/6").status_code == 404
        assert page.get("/..%2f..%2fsono.toml").status_code == 404


def test_other_hosts_other_pages_and_large_bodies_are_refused(study: Workspace) -> None:
    with running(opened(study, "Weber")) as page:
        page.open()
        for host in ("evil.example", "127.0.0.1", f"127.0.0.1.evil.example:{page.port}"):
            assert page.get("/api/progress", Host=host).status_code == 421
        body = {"place": 0, "version": 0, "action": "accept"}
        for origin in ("http://evil.example", "null", page.home.replace("http", "https")):
            assert page.post("/api/decision", body, Origin=origin).status_code == 403
        headers = {"Origin": page.home, "Content-Type": "application/json"}
        stream = (b" " for _ in range(3))  # of unknown length
        sent = page.browser.post(
            f"{page.home}/api/decision", data=stream, headers=headers, timeout=20
        )
        assert sent.status_code == 413
        large = page.browser.post(
            f"{page.home}/api/decision", data=b" " * (MAX_BODY + 1), headers=headers, timeout=20
        )
        assert large.status_code == 413
        assert page.browser.delete(f"{page.home}/api/progress", timeout=20).status_code == 405
        assert page.get("/api/progress").json()["decided"] == 0


@pytest.mark.parametrize(("known", "status"), [(False, 403), (True, 413)])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 10\r\n"])
def test_a_body_in_chunks_is_refused_unread(
    study: Workspace, length: bytes, known: bool, status: int
) -> None:
    with running(opened(study, "Weber")) as page:
        page.open()
        cookie = "; ".join(f"{one.name}={one.value}" for one in page.browser.cookies)
        head = (
            f"POST /api/decision HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nOrigin: {page.home}\r\n"
            f"Cookie: {cookie if known else 'x=y'}\r\nContent-Type: application/json\r\n"
        )
        with socket.create_connection(("127.0.0.1", page.port), timeout=20) as sent:
            sent.sendall(head.encode() + length + b"Transfer-Encoding: chunked\r\n\r\n")
            assert sent.recv(99).startswith(f"HTTP/1.1 {status}".encode())  # before any chunk


@pytest.mark.parametrize(
    "body",
    [
        {"place": 0, "version": 0, "action": "delete"},
        {"place": -1, "version": 0, "action": "accept"},
        {"place": 0, "version": 0, "action": "accept", "path": "/etc/passwd"},
        {"place": 0, "version": 0, "action": "edit"},
        {"place": 0, "version": 0, "action": "edit", "mask": "?"},
        {"place": 0, "version": 0, "action": "edit", "mask": "AAAA"},
        {"place": 0, "version": 0, "action": "edit", "mask": "éééé"},
        {"place": 0, "version": 0, "action": "edit", "mask": base64.b64encode(bytes(305)).decode()},
        [],
        "accept",
    ],
)
def test_a_wrong_decision_is_refused_and_nothing_is_saved(study: Workspace, body: object) -> None:
    with running(session := opened(study, "Weber")) as page:
        page.open()
        assert page.post("/api/decision", body).status_code == 422
    assert not session.log.decisions


def test_two_tabs_cannot_overwrite_each_other(study: Workspace) -> None:
    with running(session := opened(study, "Weber")) as page:
        page.open()
        assert page.decide(2, 0, "accept").json()["version"] == 1
        late = page.decide(2, 0, "reject")
        assert (late.status_code, late.json()["version"]) == (409, 1)
        drawn = np.eye(HEIGHT, WIDTH, dtype=np.bool_)
        bits = base64.b64encode(pack(drawn)).decode()
        assert page.decide(2, 1, "edit", mask=bits).json()["decided"] == "edit"
        assert page.get("/api/mask/2").content == pack(drawn)
        assert page.post("/api/undo", {}).json()["item"]["decided"] is None
        session.write()
    assert states(study)[2] == "accepted"


def test_a_decision_is_saved_while_another_command_writes(study: Workspace) -> None:
    session = opened(study, "Weber")
    with running(session) as page, study.lock():
        page.open()
        answers = [page.decide(place, 0, "accept") for place in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        with pytest.raises(SonoError, match=r"for it to end; .* the next `sono masks review`"):
            session.finish()
    session.finish()
    assert set(states(study)) == {"accepted"}


def test_a_missing_frame_is_named_with_what_to_do(study: Workspace) -> None:
    session = opened(study, "Weber")
    next((study.root / "frames").rglob("*0000-*.png")).unlink()
    with running(session) as page:
        page.open()
        answer = page.get("/api/frame/0")
    assert answer.status_code == 422
    assert "stored frame missing or damaged; delete it and run `sono qc`" in answer.json()["error"]


def test_one_review_at_a_time_and_a_used_port_are_told(study: Workspace) -> None:
    with open_lock(study.root / ".review.lock") as lock:
        lock_file(lock, "")
        with pytest.raises(SonoError, match="another review is running"):
            run_review(study, Wanted("Weber"), browser=False)
    with free_socket(0) as listener:  # asyncio answers without delay only where this is named
        assert listener.proto == socket.IPPROTO_TCP
    with free_socket(0) as used, pytest.raises(SonoError, match="leave --port out"):
        free_socket(used.getsockname()[1])


def start(study: Workspace) -> tuple["subprocess.Popen[str]", Page]:
    command = [sys.executable, "-m", "sono", "masks", "review", "--reviewer", "Weber"]
    server = subprocess.Popen(
        [*command, "--planted", "0", "--no-browser", "-w", str(study.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    printed = ""
    while (found := re.search(r":(\d+)/\?token=(\S+)", printed)) is None:
        line = server.stderr.readline()
        assert line, printed
        printed += line
    page = Page(int(found[1]))
    page.open(found[2])
    return server, page


@pytest.mark.slow
def test_no_confirmed_decision_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    study = make_review_study(tmp_path, 60)
    rng, confirmed = random.Random(0), {}
    for _ in range(4):
        server, page = start(study)
        places = page.get("/api/progress").json()["total"]
        for place in range(rng.randrange(1, min(places, 25))):
            item = page.get(f"/api/item/{place}").json()
            action = rng.choice(("accept", "reject"))
            assert page.decide(place, item["version"], action).status_code == 200
            confirmed[item["mask_id"]] = f"{action}ed"
        server.kill()
        server.communicate()
    session = opened(study, "Weber", which="all")
    assert len(session.log.decisions) == len(confirmed)
    table = study.masks().set_index("mask_id")["state"]
    assert len(table) == 60
    assert table[table != "proposed"].to_dict() == confirmed


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_termination_end_a_review_with_its_table_written(
    study: Workspace, number: signal.Signals
) -> None:
    server, page = start(study)
    assert page.decide(0, 0, "accept").status_code == 200
    server.send_signal(number)
    out, _ = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "accept 1" in out and "next: sono captions build" in out
    assert states(study)[0] == "accepted"
