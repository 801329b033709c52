"""Signs of life of long work on one file: they extend its time limit and move the progress bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[int], None]] = []


def alive(frames: int = 0) -> None:
    """Report that work on a file continues, with `frames` more of them at hand."""
    for listener in _listeners:
        listener(frames)


def add_listener(listener: Callable[[int], None]) -> None:
    """Call `listener` at each sign of life in this process."""
    _listeners.append(listener)


@contextmanager
def listening(listener: Callable[[int], None]) -> Iterator[None]:
    """Call `listener` at each sign of life until the block ends."""
    add_listener(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
