"""Waiting for a condition or a process, with a limit that only something broken reaches."""

import re
import subprocess
import time
from collections.abc import Callable

LIMIT = 600.0  # seconds: a loaded machine is many times slower than an idle one
PROGRESS = re.compile(r"^[\w ]+: \d+ of \d+,(?: [^\n,]+,)? \d+ s\n", re.MULTILINE)


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until `holds()`; a `process` that it depends on must still run."""
    end = time.monotonic() + LIMIT
    while not holds():
        assert process is None or process.poll() is None, f"ended early with {process.returncode}"
        assert time.monotonic() < end, f"still waiting after {LIMIT:.0f} seconds"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of `process`: its stdout and stderr. One that does not end is killed."""
    try:
        return process.communicate(timeout=LIMIT)
    except BaseException:
        process.kill()
        raise


def without_progress(stderr: str) -> str:
    """What a command said on stderr, without the lines of progress that a slow machine prints."""
    return PROGRESS.sub("", stderr)
