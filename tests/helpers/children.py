"""Run commands in a forked child of this process, in which everything is already imported.

A child may be killed, may find the disk full, or may hang.
"""

import ctypes
import faulthandler
import fcntl
import importlib
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import cv2
import torch
from clip_files import TINY

import sono
import sono.cli
from sono.training.model import architectures

WORK_LIMIT = 90.0  # CPU seconds of a command on a small study
IDLE_LIMIT = 10.0  # seconds that it may wait without working
CHANGES = frozenset(
    ["open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"]
)
CRASHED = 70


class Outcome(NamedTuple):
    """Exit code, or minus the signal that ended the command, and both streams."""

    code: int
    out: str
    err: str

    @property
    def one_line(self) -> bool:
        """Whether the last word on stderr is a line of ours."""
        lines = self.err.strip().splitlines()
        return bool(lines) and lines[-1].startswith("sono: ") and "Traceback" not in self.err


def import_all() -> None:
    """Import every module of sono, so that a child need not."""
    for module in pkgutil.walk_packages(sono.__path__, "sono."):
        if not module.name.startswith(("sono.tests", "sono.benchmarks", "sono.__main__")):
            importlib.import_module(module.name)
    cv2.setNumThreads(0)  # a child would wait for threads that it does not have
    torch.set_num_threads(1)


def run(
    words: list[str], prepare: Callable[[], object] = lambda: None, cwd: Path | None = None
) -> Outcome:
    """Run `sono` with the arguments `words` in a child, which calls `prepare()` first.

    A child that hangs is killed, and the test fails.
    """
    with started(words, prepare, cwd) as ended:
        return ended()


@contextmanager
def started(
    words: list[str], prepare: Callable[[], object] = lambda: None, cwd: Path | None = None
) -> Iterator[Callable[[], Outcome]]:
    """Start `run`; what is given waits for its end."""
    with _Said() as out, _Said() as err:
        # of the server thread, which the child does without
        with warnings.catch_warnings(action="ignore"):
            child = os.fork()
        if child == 0:
            _be_child(words, prepare, cwd, (out.write_end, err.write_end))
        yield lambda: Outcome(
            os.waitstatus_to_exitcode(_status(child, words, err)), out.text(), err.text()
        )


class _Said:
    """The output of a child, in a pipe that holds all of it.

    A file could not be written if the disk is full.
    """

    def __enter__(self) -> Self:
        self._read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read_end)
        os.close(self.write_end)

    def text(self) -> str:
        os.set_blocking(self._read_end, False)
        try:
            return os.read(self._read_end, 1 << 20).decode()
        except BlockingIOError:  # nothing was said
            return ""


def _be_child(
    words: list[str], prepare: Callable[[], object], cwd: Path | None, ends: tuple[int, int]
) -> None:
    code = CRASHED
    try:
        for number, end in enumerate(ends, 1):
            os.dup2(end, number)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        # as Python opens it
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
        faulthandler.register(signal.SIGUSR1)  # see _status
        sys.argv = ["sono", *words]
        architectures.SIZES["tiny"] = TINY
        # what a killed process has written stays; only a cut of power needs these
        os.fsync = os.sync = lambda *_: None
        if cwd:
            os.chdir(cwd)
        prepare()
        sono.cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _status(child: int, words: list[str], err: _Said) -> int:
    """How the child ends.

    One that hangs works WORK_LIMIT seconds, or gets nothing done for IDLE_LIMIT seconds; the error
    contains the stack of each of its threads.
    """
    worked, since = 0.0, time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        state, now = _progress(child)
        if now > worked or state != "S":  # it waits for the disk or its turn, not for a pipe
            worked, since = now, time.monotonic()
        idle = time.monotonic() - since
        if worked > WORK_LIMIT or idle > IDLE_LIMIT:
            os.kill(child, signal.SIGUSR1)
            time.sleep(0.5)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(
                f"sono {' '.join(words)}: still running after {worked:.0f} seconds of work, the "
                f"last {idle:.0f} without any\n{err.text()}"
            )
        time.sleep(0.005)


def _progress(child: int) -> tuple[str, float]:
    """The state of a process, S where it sleeps, and the CPU seconds that it has worked."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def killed_at(number: int, below: Path, changes: frozenset[str] = CHANGES) -> Callable[[], None]:
    """Kill the child as by SIGKILL just before change `number` below a folder.

    Only changes of the given kinds count.
    """

    def prepare() -> None:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in changes or not isinstance(arguments[0], (str, bytes, os.PathLike)):
                return
            reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            seen += not reads and os.fsdecode(arguments[0]).startswith(f"{below}/")
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)

    return prepare


def without_rights() -> None:
    """Make file modes apply to the child, even if it runs as root.

    It drops the capabilities with which root reads and writes everything.
    """
    # version 3, this process
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def close(folder: Path, deep: bool = True) -> None:
    """Make a folder read-only, and with `deep` all folders below it.

    Modes of files are not changed, because the files may be links to those of other tests.
    """
    for path in (folder, *(folder.rglob("*") if deep else ())):
        if path.is_dir():
            path.chmod(0o500)


def disk_of(size: int) -> Callable[[], None]:
    """Let no file of the child grow beyond `size` bytes.

    The error is EFBIG, while that of a full disk is ENOSPC.
    """
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
