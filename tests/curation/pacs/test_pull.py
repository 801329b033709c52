"""`sono pull` from an archive with errors.

Every file that is written is complete, and the same command continues.
"""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from archive import Archive, Reply, multipart, serving, us_file
from waiting import LIMIT, ended

import sono.cli
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.pacs import wado
from sono.curation.pacs.client import RetryPolicy
from sono.curation.pacs.pull import PullOptions, PullSummary, matches, pull_studies, read_patients

pytest.importorskip("dicomweb_client", reason="the extra pacs (dicomweb-client) is not installed")

SLICE = PullOptions(
    "",
    Path(),
    date(2024, 1, 1),
    date(2024, 3, 31),
    page_size=2,
    patience=RetryPolicy(first_wait_s=0),
)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serving() as made:
        yield made


@pytest.fixture
def pull(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., PullSummary]:
    for name in ("SONO_PACS_USER", "SONO_PACS_PASSWORD", "SONO_PACS_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(**changes: object) -> PullSummary:
        values = {**SLICE.__dict__, "url": archive.url, "out": tmp_path / "raw", **changes}
        return pull_studies(PullOptions(**values))

    return run


def files(out: Path) -> set[Path]:
    return {path for path in out.rglob("*") if path.is_file() and path.name != ".pull.jsonl"}


def test_everything_comes_once_byte_for_byte_under_names_that_tell_nothing(
    archive, pull, tmp_path: Path
) -> None:
    assert pull() == PullSummary(5, 10, 0, 0, pytest.approx(0.013, abs=0.002))
    assert sorted(path.read_bytes() for path in files(tmp_path / "raw")) == sorted(
        archive.files.values()
    )
    assert not any("1.2." in str(path.relative_to(tmp_path)) for path in files(tmp_path / "raw"))
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "raw", *(tmp_path / "raw").rglob("*")]
    }
    assert modes == {0o700, 0o600}
    queries = [query for path, query, _ in archive.asked if path == "/studies"]
    assert all(query["StudyDate"] == "20240101-20240331" for query in queries)
    assert all(query["ModalitiesInStudy"] == "US" for query in queries)
    accepts = {headers["Accept"] for path, _, headers in archive.asked if path.count("/") == 6}
    assert accepts == {'multipart/related; type="application/dicom"; transfer-syntax=*'}


@pytest.mark.parametrize(
    "refused", [["transfer-syntax=*"], ["transfer-syntax=*", "multipart"], ["multipart"]]
)
def test_a_server_that_refuses_a_form_is_asked_for_the_next_and_then_for_that_alone(
    archive, pull, refused: list[str], tmp_path: Path
) -> None:
    def strict(path: str, times: int) -> Reply | None:
        if path.count("/") != 6:
            return None
        accept = archive.asked[-1][2]["Accept"]
        if any(word in accept for word in refused):
            return Reply(406)
        return (
            None
            if "multipart" in accept
            else Reply(200, archive.files[uids(path)], "application/dicom")
        )

    def uids(path: str) -> tuple[str, str, str]:
        parts = path.strip("/").split("/")
        return parts[1], parts[3], parts[5]

    archive.mischief = strict
    assert pull().fetched == 10
    assert sorted(path.read_bytes() for path in files(tmp_path / "raw")) == sorted(
        archive.files.values()
    )
    assert archive.fetched() == 10 + (1 if refused == ["transfer-syntax=*"] else 2)


def test_a_server_that_refuses_every_form_is_no_success(archive, pull, tmp_path: Path) -> None:
    archive.mischief = lambda path, times: Reply(406) if path.count("/") == 6 else None
    summary = pull()
    assert (summary.fetched, summary.failed) == (0, 10)
    assert "HTTP 406 for each of 3 ways" in (tmp_path / "raw" / ".pull.jsonl").read_text()


def test_a_second_run_fetches_nothing_and_a_third_what_is_missing_or_short(
    archive, pull, tmp_path: Path
) -> None:
    pull()
    archive.asked.clear()
    assert (pull().here_already, archive.fetched()) == (10, 0)
    gone, short = sorted(files(tmp_path / "raw"))[:2]
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    (short.parent / ".tmp-killed").write_bytes(b"half")
    assert (pull().fetched, archive.fetched()) == (2, 2)
    assert sorted(path.read_bytes() for path in files(tmp_path / "raw")) == sorted(
        archive.files.values()
    )


def test_a_torn_line_in_the_manifest_costs_one_file(archive, pull, tmp_path: Path) -> None:
    pull()
    manifest = tmp_path / "raw" / ".pull.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-30] + b"\xff\xfe")
    assert (pull().fetched, pull().fetched) == (1, 0)


@pytest.mark.parametrize(
    "bad",
    [
        Reply(500),
        Reply(429, headers=(("Retry-After", "0"),)),
        multipart(us_file(0, 0), cut=300),
        multipart(us_file(0, 0)[:-300], closed=False),
        Reply(200, b"", 'multipart/related; type="application/dicom"; boundary=edge'),
    ],
    ids=["500", "429", "cut", "unclosed", "empty"],
)
def test_a_failure_that_passes_leaves_no_trace(archive, pull, tmp_path: Path, bad: Reply) -> None:
    archive.mischief = lambda path, times: bad if path.count("/") == 6 and times <= 2 else None
    assert (pull().fetched, archive.fetched()) == (10, 30)
    assert sorted(path.read_bytes() for path in files(tmp_path / "raw")) == sorted(
        archive.files.values()
    )


def test_searches_are_tried_again_too(archive, pull) -> None:
    broken = Reply(200, b'[{"0020000D": ')
    archive.mischief = lambda path, times: (
        (Reply(503), broken, None)[times % 3] if path.count("/") < 6 else None
    )
    assert pull().fetched == 10


def test_short_pages_are_not_the_end_and_make_no_noise(archive, tmp_path: Path) -> None:
    archive_honest = archive.honest
    warning = (("Warning", "299 archive: there is more"),)
    archive.honest = lambda path, query: archive_honest(path, {**query, "limit": "1"})._replace(
        headers=warning
    )
    words = [
        sys.executable,
        "-m",
        "sono",
        "pull",
        archive.url,
        str(tmp_path / "raw"),
        "--from",
        "2024-01-01",
        "--json",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout)["fetched"], done.stderr) == (10, "")


@pytest.mark.parametrize(
    ("bad", "fact"),
    [
        (Reply(404), "HTTP 404"),
        (Reply(403), "HTTP 403"),
        (multipart(us_file(3, 0)), "another instance"),
        (multipart(b"\0" * 200), "not send a DICOM file"),
        (Reply(200, b"pixels", "image/jpeg"), "image/jpeg"),
    ],
)
def test_one_file_that_will_not_come_does_not_stop_the_others(
    archive, pull, tmp_path, bad: Reply, fact: str
) -> None:
    archive.mischief = lambda path, times: bad if path.endswith("/1.2.1.1.0") else None
    summary = pull()
    assert (summary.fetched, summary.failed, len(files(tmp_path / "raw"))) == (9, 1, 9)
    noted = [
        json.loads(line) for line in (tmp_path / "raw" / ".pull.jsonl").read_text().splitlines()
    ]
    assert [fact in line["error"] for line in noted if "error" in line] == [True]
    with pytest.raises(SonoError, match="1 file could not be fetched"):
        summary.refuse_failures()
    archive.mischief = lambda path, times: None
    assert (pull().fetched, pull().failed) == (1, 0)


def test_a_server_that_is_down_ends_the_run_and_a_broken_study_cannot_bar_the_others(
    archive, pull
) -> None:
    archive.files |= {
        ("1.2.0", "1.2.0.1", f"1.2.0.1.{number}"): us_file(0, number) for number in range(2, 9)
    }
    archive.mischief = lambda path, times: Reply(500) if "/1.2.0.1." in path else None
    with pytest.raises(
        SonoError, match="HTTP 500, and a retry would not help; the same command continues"
    ):
        pull(patience=RetryPolicy(tries=1))
    with pytest.raises(SonoError):
        pull(patience=RetryPolicy(tries=1))
    archive.mischief = lambda path, times: None
    assert (pull().here_already, pull().here_already) == (8, 17)


@pytest.mark.parametrize(
    ("bad", "fact"),
    [
        (Reply(401), "HTTP 401, the credentials were not accepted; set SONO_PACS_USER"),
        (Reply(403), "HTTP 403 on a search"),
        (Reply(404), "HTTP 404 on a search; there is no DICOMweb service"),
        (Reply(200, b"<html>", "text/html"), "answered with a web page"),
        (
            Reply(307, headers=(("Location", "https://elsewhere.example/studies"),)),
            "redirects to https://elsewhere",
        ),
        (Reply(200, b"[1, 2]"), "JSON but not DICOM"),
        (Reply(200, b""), "a search with nothing, not DICOM JSON"),
        (Reply(200, b"[]", "text/plain"), "a search with text/plain, not DICOM JSON"),
        (Reply(200, b"null"), "JSON but not DICOM"),
        (Reply(200, b"7"), "JSON but not DICOM"),
        (Reply(200, b"true"), "JSON but not DICOM"),
        (Reply(200, b"[" * 100_000), "JSON but not DICOM"),
        (Reply(200, b'[{"a": "b"}]'), "no valid UID"),
        (Reply(200, b"hello"), "not complete JSON"),
        (Reply(503, headers=(("Retry-After", "7200"),)), "HTTP 503"),
    ],
)
def test_a_server_that_is_no_archive_for_us_is_one_line(
    archive, pull, tmp_path: Path, bad: Reply, fact: str
) -> None:
    archive.mischief = lambda path, times: bad
    with pytest.raises(SonoError, match=fact) as caught:
        pull()
    assert "20240101" not in str(caught.value)
    assert not (tmp_path / "raw").exists()


def test_an_archive_without_a_match_is_said_with_what_was_asked_for(archive, pull) -> None:
    archive.mischief = lambda path, times: Reply(204)
    assert pull() == PullSummary(0, 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"first_day": date(2024, 1, 1)}, "no study of modality US from 2024-01-01 to today"),
        (
            {"last_day": date(2024, 3, 31), "modality": "MR"},
            "no study of modality MR from the first day to 2024-03-31",
        ),
        ({"patient_file": Path("ids.txt")}, "no study of modality US of the patients in ids.txt"),
    ],
)
def test_nothing_found_is_an_error_and_a_found_study_none(asked: dict[str, Any], said: str) -> None:
    options = PullOptions("https://pacs.example", Path("raw"), **asked)
    options.refuse_nothing(PullSummary(1, 0, 0, 0, 0.0))
    with pytest.raises(SonoError, match=said):
        options.refuse_nothing(PullSummary(0, 0, 0, 0, 0.0))


def test_a_dead_port_and_tls_to_a_plain_server_are_one_line(archive, pull) -> None:
    with pytest.raises(SonoError, match="TLS failed"):
        pull(url=archive.url.replace("http:", "https:"))
    with pytest.raises(SonoError, match="no connection"):
        pull(url="http://127.0.0.1:9")


def test_credentials_reach_the_server_and_nothing_else(
    archive, pull, tmp_path, monkeypatch, capfd
) -> None:
    monkeypatch.setenv("SONO_PACS_TOKEN", "Secret1")
    archive.mischief = lambda path, times: (
        Reply(404) if path.endswith(".1.0") else Reply(500) if times == 1 else None
    )
    pull()
    assert {headers["Authorization"] for _, _, headers in archive.asked} == {"Bearer Secret1"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    streams = capfd.readouterr()
    assert "trying again" in streams.err
    assert "Secret1" not in streams.out + streams.err + written.decode(errors="replace")


def test_a_proxy_of_the_environment_is_not_asked(archive, pull, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert pull().fetched == 10


def test_only_listed_patients_and_no_wildcards(archive, pull, tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_bytes(b"\xef\xbb\xbfP 1&x\r\n\r\nP2\r\nP2\r\n")
    pull(patient_file=listed, first_day=None, last_day=None)
    assert {query.get("PatientID") for path, query, _ in archive.asked if path == "/studies"} == {
        "P 1&x",
        "P2",
    }
    for content, fact in (
        (b"P1\nP*\n", "ids.txt:2: "),
        (b"\n", "no patient id"),
        (b"\xff\xfe", "not UTF-8"),
    ):
        listed.write_bytes(content)
        with pytest.raises(SonoError, match=fact):
            read_patients(listed)


def test_a_limit_counts_studies_and_no_filter_at_all_is_refused(archive, pull) -> None:
    assert pull(limit=2, first_day=None, last_day=None).fetched == 4
    assert archive.count("/studies") == 1  # a page of two was enough
    with pytest.raises(SonoError, match="every study"):
        pull(first_day=None, last_day=None)
    with pytest.raises(SonoError, match="is after"):
        pull(first_day=date(2024, 5, 1))


@pytest.mark.parametrize(
    ("tag", "held", "expected"),
    [
        ("00080020", ["20240101"], True),
        ("00080020", ["20240331"], True),
        ("00080020", ["20231231"], False),
        ("00080020", ["20240401"], False),
        ("00080061", ["SR", "US"], True),
        ("00080061", ["CT"], False),
        ("00100020", ["P1 "], True),
        ("00100020", ["P11"], False),
    ],
)
def test_what_a_server_gives_beyond_the_filter_is_left(
    tag: str, held: list[str], expected: bool
) -> None:
    query = {"StudyDate": "20240101-20240331", "ModalitiesInStudy": "US", "PatientID": "P1"}
    assert matches({tag: {"Value": held}}, query) is expected
    assert matches({}, query)


def test_a_full_disk_leaves_no_half_file(archive, pull, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(wado, "_past_header", full)
        with pytest.raises(SonoError, match="raw: the disk is full"):
            pull()
    assert files(tmp_path / "raw") == set()
    assert pull().fetched == 10


def test_a_folder_of_others_or_of_a_workspace_is_refused(pull, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "letter.txt").write_text("dear")
    with pytest.raises(SonoError, match="not a folder of sono pull"):
        pull()
    (tmp_path / "sono.toml").write_text("")
    with pytest.raises(SonoError, match="may be shared"):
        pull(out=tmp_path / "deep" / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["letter.txt", "raw", "sono.toml"]


def test_a_link_into_a_workspace_and_a_vault_are_refused(pull, tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "st")
    workspace.frames.mkdir()
    (tmp_path / "side").mkdir()
    (tmp_path / "side" / "l").symlink_to(workspace.frames)
    with pytest.raises(SonoError, match="may be shared"):
        pull(out=tmp_path / "side" / "l" / "raw2")
    with pytest.raises(SonoError, match="is inside the vault"):
        pull(out=workspace.vault / "raw2")
    assert not list(tmp_path.rglob("raw2"))


def test_text_of_the_server_is_shown_as_one_plain_line(archive, pull) -> None:
    bad = [{"00080018": {"Value": ["1.2.3"]}, "00080060": {"Value": ["\ud800\n\x1b[31m"]}}]
    archive.mischief = lambda path, times: (
        Reply(200, json.dumps(bad).encode()) if path.count("/") == 3 else None
    )
    assert pull(limit=1).left_out == {"???[31m": 1}


def test_a_broken_file_header_makes_no_warning_that_quotes_it(archive, pull) -> None:
    broken = us_file(1, 0).replace(b"1.2.840.10008.1.2.1", b"\xff\xfe\xff.840.10008.1.2.1")
    archive.mischief = lambda path, times: (
        multipart(broken) if path.endswith("/1.2.1.1.0") else None
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert pull().fetched == 10
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_whole_files_and_the_same_command_goes_on(
    archive, pull, tmp_path: Path, how: int
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def stall(path: str, _: int) -> None:
        if archive.fetched() == 4 and path.count("/") == 6:
            reached.set()
            go_on.wait(LIMIT)

    archive.mischief = stall
    words = [
        sys.executable,
        "-m",
        "sono",
        "pull",
        archive.url,
        str(tmp_path / "raw"),
        "--from",
        "2024-01-01",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reached.wait(LIMIT)
    with pytest.raises(SonoError, match="another sono pull"):
        pull()
    process.send_signal(how)
    _, err = ended(process)
    go_on.set()
    if how == signal.SIGINT:
        assert (process.returncode, err.count("\n"), "to continue" in err) == (
            130,
            1,
            True,
        )
    assert sum(path.suffix == ".dcm" for path in files(tmp_path / "raw")) == 3
    assert pull().fetched == 7
    assert sorted(path.read_bytes() for path in files(tmp_path / "raw")) == sorted(
        archive.files.values()
    )


def test_the_command_prints_its_summary_and_fails_where_files_fail(
    archive, tmp_path: Path, monkeypatch, capfd
) -> None:
    archive.mischief = lambda path, times: Reply(404) if path.endswith("/1.2.1.1.0") else None
    words = [
        "sono",
        "pull",
        archive.url,
        str(tmp_path / "raw"),
        "--to",
        "2024-03-31",
        "--json",
        "--quiet",
    ]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        sono.cli.main()
    streams = capfd.readouterr()
    assert (stop.value.code, json.loads(streams.out)["failed"]) == (1, 1)
    assert (
        streams.err.count("\n"),
        streams.err.startswith("sono: 1 file could not be fetched"),
    ) == (1, True)
