"""Stop a run by Ctrl-C or SIGTERM; it finishes the current step and saves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether a stop was requested."""

    asked: bool = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM meanwhile; a second Ctrl-C stops at once (KeyboardInterrupt).

    A second SIGTERM does not: a cluster sends one to every process, and torchrun forwards the one
    that it received. Only the main thread gets signals.
    """
    stop = Stop()

    def note(number: int, _: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
