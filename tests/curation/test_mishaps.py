"""Failures on a hospital's disks: full or read-only disks, pipes and unusual names.

Files also change during a run, and processes die.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from waiting import LIMIT, without_progress

from sono.curation import qc as qc_module
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import read_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.files import list_sources

ROOT = Path(__file__).resolve().parents[2]
ALONE = Engine(jobs=1)
NOBODY = 65534


def fan(seed: int) -> bytes:
    """A PNG of speckle in a sector."""
    y, x = np.mgrid[:300, :400]
    inside = (np.abs(np.arctan2(x - 200, y + 20)) < 0.6) & (np.hypot(x - 200, y + 20) < 300)
    speckle = np.random.default_rng(seed).rayleigh(40, (300, 400)).clip(0, 255)
    return cv2.imencode(".png", (speckle * inside).astype(np.uint8))[1].tobytes()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.png").write_bytes(fan(number))
    return folder


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Size, time and content of every file."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns, p.read_bytes())
        for p in files
    }


def codes(study: Workspace) -> dict[bytes, tuple[str, ...]]:
    sources = read_table(study.sources_path, SOURCES)
    pairs = zip(sources["path"], sources["reasons"], strict=True)
    return {
        path.rpartition(b"/")[2]: tuple(code for code in found if code != "unknown_kind")
        for path, found in pairs
    }


def sono(*words: object) -> tuple[int, str]:
    """Exit code and stderr of a command, without its progress."""
    command = [sys.executable, "-m", "sono", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.returncode, without_progress(done.stderr)


def largest_member(pid: int) -> int:
    """The peak memory in bytes of any process of a family, measured ten times a second."""
    family, largest = psutil.Process(pid), 0
    with contextlib.suppress(psutil.NoSuchProcess):
        while family.status() != psutil.STATUS_ZOMBIE:
            for member in (family, *family.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    largest = max(largest, member.memory_info().rss)
            time.sleep(0.1)
    return largest


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "none", place], check=False
        ).returncode
    ):
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_two_workers_with_one_line_and_more_room_mends_it(
    disk: Path, raw: Path
) -> None:
    study, before = Workspace.create(disk / "study"), state(raw)
    code, said = sono("qc", raw, "-w", study.root, "--jobs", 2)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("sono: the disk is full")
    assert not list(disk.rglob(".tmp-*")) and state(raw) == before
    remount(disk, "size=20m")
    run_qc(study, QcOptions(raw), ALONE)
    roomy = Workspace.create(raw.parent / "roomy")
    shutil.copy(study.key_path, roomy.key_path)
    shutil.copy(study.config_path, roomy.config_path)
    run_qc(roomy, QcOptions(raw), ALONE)
    assert (study.root / "images.parquet").read_bytes() == (
        roomy.root / "images.parquet"
    ).read_bytes()


def test_a_read_only_workspace_is_one_line_and_read_only_raw_files_do(
    disk: Path, raw: Path
) -> None:
    remount(disk, "size=20m")
    shutil.copytree(raw, disk / "raw")
    study = Workspace.create(disk / "study")
    remount(disk, "ro")
    with pytest.raises(
        SonoError, match=r"study: cannot be written \(Read-only file system\); make it writable"
    ):
        run_qc(study, QcOptions(raw), ALONE)
    outside = Workspace.create(raw.parent / "outside")
    assert run_qc(outside, QcOptions(disk / "raw"), ALONE).statuses == {"accepted": 8}


def test_whatever_stands_in_the_folder_gets_its_row(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(raw)  # the path of a socket must be short
    odd = os.fsencode(raw) + b"/bad_\xff\xfe name.png"
    Path(os.fsdecode(odd)).write_bytes(fan(20))
    (raw / "dangling.png").symlink_to(raw / "nowhere.png")
    (raw / "loop.png").symlink_to("loop.png")
    (raw / "around").symlink_to(raw)
    os.mkfifo(raw / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        study, before = Workspace.create(tmp_path / "study"), state(raw)
        summary = run_qc(study, QcOptions(raw), ALONE)
        again = run_qc(study, QcOptions(raw), ALONE)
    found = codes(study)
    assert len(found) == 8 + 6 == summary.files
    assert {
        name: found[name][0]
        for name in (b"dangling.png", b"loop.png", b"around", b"fifo.png", b"socket.png")
    } == {
        b"dangling.png": "broken_link",
        b"loop.png": "broken_link",
        b"around": "not_a_file",
        b"fifo.png": "not_a_file",
        b"socket.png": "not_a_file",
    }
    assert summary.statuses == {"accepted": 9, "error": 5}
    assert again.measured == 0
    assert state(raw) == before


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder in which the process works as a user whom file modes bind."""
    place = Path(
        subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
    )
    was = os.geteuid()
    if was == 0:
        os.chown(place, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield place
    os.seteuid(was)
    shutil.rmtree(place)


def test_what_may_not_be_read_is_a_row_and_what_may_not_be_written_a_line(as_nobody: Path) -> None:
    raw = as_nobody / "raw"
    (raw / "closed").mkdir(parents=True)
    for name in ("good.png", "locked.png", "closed/inner.png"):
        (raw / name).write_bytes(fan(len(name)))
    (raw / "locked.png").chmod(0)
    (raw / "closed").chmod(0)
    study = Workspace.create(as_nobody / "study")
    summary = run_qc(study, QcOptions(raw), ALONE)
    found = codes(study)
    assert found[b"locked.png"] == found[b"closed"] == ("unreadable",)
    assert summary.statuses == {"accepted": 1, "error": 2}
    (raw / "closed").chmod(0o700)
    (raw / "locked.png").chmod(0o600)
    assert run_qc(study, QcOptions(raw), ALONE).statuses == {"accepted": 3}
    (study.root / ".lock").unlink()
    study.root.chmod(0o500)
    with pytest.raises(SonoError, match=r"cannot be written \(Permission denied\)"):
        run_qc(study, QcOptions(raw), ALONE)
    study.root.chmod(0o700)


def test_files_that_vanish_or_change_after_the_listing(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*arguments: object) -> Iterator[object]:
        (raw / "0.png").unlink()
        (raw / "1.png").write_bytes(fan(30))
        (raw / "2.png").unlink()
        (raw / "2.png").mkdir()
        yield from run_batches(*arguments)

    study = Workspace.create(tmp_path / "study")
    with monkeypatch.context() as patch:
        patch.setattr(qc_module, "run_batches", late)
        run_qc(study, QcOptions(raw), ALONE)
    found = codes(study)
    assert found[b"0.png"] == found[b"2.png"] == ("unreadable",)
    assert found[b"1.png"] == found[b"3.png"]
    (raw / "2.png" / "inner.png").write_bytes(fan(31))
    summary = run_qc(study, QcOptions(raw), ALONE)
    assert (summary.measured, summary.statuses) == (1, {"accepted": 7})


def test_a_second_sono_is_told_and_the_lock_of_a_killed_one_is_none(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with study.lock():
            os.write(writing, b"held")
            signal.pause()
        os._exit(0)
    os.read(reading, 4)
    (study.root / ".tmp-half").write_bytes(b"half")
    with (
        pytest.raises(
            SonoError, match="another sono is writing to this workspace; wait for it to end"
        ),
        study.lock(),
    ):
        pytest.fail("two hold the lock")
    assert (study.root / ".tmp-half").exists()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with study.lock():
        assert not (study.root / ".tmp-half").exists()


def test_the_bad_files_have_a_row_each_in_both_modes(bad_files: Path, tmp_path: Path) -> None:
    study, before = Workspace.create(tmp_path / "study"), state(bad_files)
    command = [
        sys.executable,
        "-m",
        "sono",
        "qc",
        bad_files,
        "-w",
        study.root,
        "--jobs",
        "2",
        "--strict",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        largest = largest_member(process.pid)
        said = without_progress(process.stderr.read() if process.stderr else "")
    assert (process.returncode, said.count("\n")) == (3, 1)
    assert re.fullmatch(r"sono: \d+ of \d+ frames were not accepted; see the reasons above\n", said)
    assert 50e6 < largest < 600e6
    strict = state(study.root)
    summary = run_qc(study, QcOptions(bad_files), ALONE)
    assert summary.measured in (0, 1)  # the file that needs a plugin is tried again
    assert len(codes(study)) == summary.files == len(list_sources(bad_files))
    assert "worker_died" not in summary.reasons
    assert state(study.root).keys() == strict.keys()
    assert state(bad_files) == before


@pytest.mark.slow
def test_killed_stages_resume_to_the_bytes_of_a_clean_run() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kill.py"), "--kills", "4", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 resumed runs are equal to a clean one" in done.stdout
