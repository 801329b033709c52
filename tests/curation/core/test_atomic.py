import multiprocessing
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from waiting import LIMIT

from sono.curation.core.atomic import (
    atomic_path,
    check_inside,
    check_target,
    open_lock,
    read_json,
    read_regular,
    remove_leftovers,
    write_bytes,
    write_text,
)
from sono.curation.core.atomic_folders import atomic_folder, copy_others, new_folder
from sono.curation.core.errors import SonoError


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "key", "secret", mode=0o600)
    assert (tmp_path / "deep" / "key").read_text() == "secret"
    assert (tmp_path / "deep" / "key").stat().st_mode & 0o777 == 0o600


def test_a_failure_keeps_the_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "table"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-abc").write_text("half")
    (tmp_path / "kept").write_text("whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_only_regular_files_of_a_limited_size_are_read(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "four")
    assert read_regular(tmp_path / "file", 4) == b"four"
    with pytest.raises(SonoError, match=r"file: 4 bytes; at most 3 are read here"):
        read_regular(tmp_path / "file", 3)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for odd in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(SonoError, match="a pipe, socket or device, not a regular file"):
            read_regular(odd, 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_a_lock_is_a_regular_file_whose_content_stays(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "link").symlink_to("letter")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for odd in ("link", "pipe", "folder"):
        with pytest.raises(SonoError, match=f"{odd}: not a regular file; delete it"):
            open_lock(tmp_path / odd)
    open_lock(tmp_path / "letter").close()
    assert (tmp_path / "letter").read_text() == "dear"


def test_a_path_out_of_its_root_is_refused_by_whatever_link(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (root / "file").symlink_to("../secret")
    (root / "folder").symlink_to("..")
    (root / "fine").symlink_to("inner")
    check_inside(root / "fine" / "new", root)
    for path in ("file", "folder/secret", "../secret", "/etc/passwd", "inner/../../secret"):
        with pytest.raises(SonoError, match="leads out of"):
            check_inside(root / path, root)


def test_a_new_folder_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), new_folder(target) as new:
        write_text(new / "part", "half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    target.mkdir()  # an empty folder may stand there
    (tmp_path / ".tmp-out-new").mkdir()
    (tmp_path / ".tmp-out-new" / "left").write_text("by a killed process")
    with new_folder(target) as new:
        write_text(new / "part", "whole")
        assert list(target.iterdir()) == []
    assert [path.name for path in target.iterdir()] == ["part"]
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(SonoError, match="not an empty folder"), new_folder(target):
        pass


def test_two_processes_do_not_write_one_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_folder(tmp_path / "out") as new:
        write_text(new / "part", "mine")
        with (
            pytest.raises(SonoError, match="another sono is writing it"),
            new_folder(tmp_path / "out"),
        ):
            pass
    assert (tmp_path / "out" / "part").read_text() == "mine"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SonoError, match="name a new folder inside it"), new_folder(Path()):
        pass


def test_what_only_the_old_folder_has_is_copied(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    copy_others(old, new)
    for path, text in {
        "old/report": "old",
        "old/mine/note": "kept",
        "old/.tmp-x": "half",
        "new/report": "new",
    }.items():
        write_text(tmp_path / path, text)
    copy_others(old, new)
    assert {path.name: path.read_text() for path in new.rglob("*") if path.is_file()} == {
        "report": "new",
        "note": "kept",
    }


def test_json_is_read_up_to_a_depth(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "j")
    (tmp_path / "j").write_text('{"a": [1]}')
    assert read_json(tmp_path / "j") == {"a": [1]}


def _write_often(target: Path, letter: str, times: int) -> None:
    for _ in range(times):
        write_text(target, letter * 5000)


def test_processes_that_write_one_file_at_once_leave_it_whole(tmp_path: Path) -> None:
    context, target = multiprocessing.get_context("fork"), tmp_path / "frame.txt"
    writers = [context.Process(target=_write_often, args=(target, letter, 80)) for letter in "abc"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        remove_leftovers(tmp_path)
        if target.exists():
            seen.add(target.read_text())
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert seen <= {letter * 5000 for letter in "abc"} and seen
    assert [path.name for path in tmp_path.iterdir()] == ["frame.txt"]


def test_nothing_takes_the_place_of_a_pipe_a_socket_or_an_open_stream(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    for name in ("pipe", "socket", "link", "stdout"):
        before = os.lstat(tmp_path / name)
        for write in (check_target, partial(write_bytes, content=b"x")):
            with pytest.raises(
                SonoError, match=rf"{name}: (a pipe, socket or device|leads to an open stream)"
            ):
                write(tmp_path / name)
        assert os.path.samestat(before, os.lstat(tmp_path / name))


def test_two_that_write_one_folder_take_turns(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with atomic_folder(tmp_path / "run") as new:
            inside.set()
            assert go_on.wait(LIMIT)
            (new / "a").write_text("1")

    def second() -> None:
        with atomic_folder(tmp_path / "run") as new:
            (new / "b").write_text("2")

    with ThreadPoolExecutor() as pool:
        works = [pool.submit(first)]
        assert inside.wait(LIMIT)
        works.append(pool.submit(second))
        with pytest.raises(TimeoutError):
            works[1].result(0.1)
        go_on.set()
        for work in works:
            work.result(LIMIT)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "run",
        "run/b",
    ]
