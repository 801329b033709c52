"""Ctrl-C and SIGTERM ask a run to stop; it finishes the step under way and saves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether somebody has asked."""

    asked: bool = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """Note SIGINT and SIGTERM meanwhile; a second Ctrl-C ends the work at once (KeyboardInterrupt).

    A second SIGTERM does not: a cluster sends one to every process, and torchrun passes on the one
    that it got. A thread that is not the main one gets no signals, and notes none.
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
