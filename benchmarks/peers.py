"""Run a case of a comparison in the Python of another tool."""

import os
import subprocess


class SkippedError(Exception):
    """A case that does not run, with the reason."""


def run_peer(python: str | None, script: str, *arguments: str) -> str:
    """The last line that `script` prints, on one thread, in the Python of a tool.

    Raises SkippedError without such a Python, or with the last line of an error.
    """
    if python is None:
        raise SkippedError("no --peer-python")
    done = subprocess.run(
        [python, script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode:
        raise SkippedError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return (done.stdout.strip().splitlines() or [""])[-1]
