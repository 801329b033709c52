"""Messages and progress go to stderr (a bar, or lines in a pipe); data goes to stdout."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_SECONDS = 10.0  # between two lines of long work in a pipe
NARROW = 60  # columns; below, the numbers are more important than the bar

stderr_console = Console(stderr=True, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning of one line to stderr; --quiet does not silence it."""
    sys.stderr.write(f"sono: warning: {' '.join(text.split())}\n")


class Advance(Protocol):
    """Counts finished work; `note` replaces the text next to the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


class _Rate(ProgressColumn):
    """Steps per second, computed when the bar is drawn and not at each step."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f}/s")


def new_bar() -> Progress:
    """A bar with rate and time left; its tasks have a field `note`.

    A narrow terminal shows the numbers only.
    """
    numbers = (MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), TimeRemainingColumn())
    columns: tuple[ProgressColumn, ...] = (TextColumn("{task.description}"), *numbers)
    if stderr_console.width >= NARROW:
        columns = (columns[0], BarColumn(), *numbers, TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=stderr_console, transient=True)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Advance]:
    """Show a bar with rate and time left on stderr; lines in a pipe, nothing with --quiet.

    The time left is not known without a `total`.
    """
    if stderr_console.quiet:
        yield _silent
        return
    if not stderr_console.is_terminal:
        with progress_lines(title, total) as advance:
            yield advance
        return
    with new_bar() as bar:
        task = bar.add_task(title, total=total, note="")

        def step(steps: int = 1, note: str = "") -> None:
            bar.update(task, advance=steps, note=note)

        yield step


@contextmanager
def progress_lines(title: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Print a line on stderr at the first step that ends 10 s or more after the last line."""
    started = spoken = time.monotonic()

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, spoken
        done += steps
        now = time.monotonic()
        if now - spoken >= LINE_SECONDS:
            spoken = now
            count = str(done) if total is None else f"{done} of {total}"
            parts = (count, note, f"{now - started:.0f} s")
            stderr_console.print(f"{title}: {', '.join(filter(None, parts))}", markup=False)

    yield advance


def _silent(steps: int = 1, note: str = "") -> None:
    """An `Advance` that shows nothing."""
