"""Messages and progress bars go to stderr (bars only on a terminal); data goes to stdout."""

import sys
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
    """A bar with rate and time left; its tasks have a field `note`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=stderr_console, transient=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Show a bar with rate and time left on stderr; nothing in a pipe or with --quiet."""
    if stderr_console.quiet or not stderr_console.is_terminal:
        yield _silent
        return
    with new_bar() as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            bar.update(task, advance=steps, note=note)

        yield advance


def _silent(steps: int = 1, note: str = "") -> None:
    """An `Advance` that shows nothing."""
