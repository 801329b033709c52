"""Talk goes to stderr, with progress bars where a person watches; data goes to stdout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

talk = Console(stderr=True, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Counts finished work; `note` replaces the text beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Show a bar with rate and time left on stderr; nothing on a pipe or when `talk.quiet`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    hidden = talk.quiet or not talk.is_terminal
    with Progress(*columns, console=talk, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=total, note="", rate="0")

        def advance(steps: int = 1, note: str = "") -> None:
            speed = bar.tasks[0].speed or 0.0
            bar.update(task, advance=steps, note=note, rate=f"{speed:.1f}")

        yield advance
