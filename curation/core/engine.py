"""Map work over files: in this process, on local worker processes, or on a dask cluster."""

import faulthandler
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sono.curation.core.alive import listening
from sono.curation.core.console import Advance, progress
from sono.curation.core.errors import counted

BATCHES_EACH = 4  # at least, for each worker, so that one with long files does not have them all
SIGN_SECONDS = 1.0  # between two numbers of frames on the progress bar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """How to run: `jobs` worker processes here (1: in this process), or the cluster at `scheduler`.

    A worker process ends itself if an item gives no sign of life for `item_seconds`, because a
    decoder can hang. A batch has at most `batch_size` items, fewer if there would be less than four
    batches for each worker.
    """

    jobs: int = 1
    scheduler: str | None = None
    batch_size: int = 32
    item_seconds: float = 600

    @classmethod
    def create(cls, jobs: int | None, scheduler: str | None) -> "Engine":
        """Defaults for the command line: one worker per core."""
        return cls(jobs or len(os.sched_getaffinity(0)), scheduler)


def run_batches(
    engine: Engine,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    on_crash: Callable[[Item], Result],
    title: str,
    needs: Sequence[Path] = (),
) -> Iterator[list[Result]]:
    """Yield the results of `function` over `items`, one batch at a time, in order of completion.

    `function` must be picklable and must return its errors as results. If it kills its worker
    process (a decoder can) or hangs, the items of the batch are tried again one by one; items that
    were there at a second death are tried once more alone, and the one that fails gives
    `on_crash(item)`. Workers on other machines must see the files `needs` at the same paths. Raises
    SonoError if the cluster cannot be used.
    """
    size = min(engine.batch_size, -(-len(items) // (BATCHES_EACH * engine.jobs)))
    batches = [items[start : start + size] for start in range(0, len(items), max(1, size))]
    if not batches:
        return
    with progress(title, len(items)) as advance:
        sign = _Note(advance)
        for results in _mapped(engine, function, batches, on_crash, needs, sign):
            advance(len(results), sign.note)
            yield results


class _Note:
    """Shows the number of frames that were read of cines, next to the number of finished items."""

    def __init__(self, advance: Advance) -> None:
        self.note = ""
        self._advance, self._frames, self._shown = advance, 0, time.monotonic()

    def add(self, frames: int) -> None:
        """Count frames of this process."""
        self.show(self._frames + frames)

    def show(self, frames: int) -> None:
        """Set the number of frames, and show it if the last time is a second ago."""
        self._frames = frames
        now = time.monotonic()
        if frames and now - self._shown >= SIGN_SECONDS:
            self._shown, self.note = now, f"{counted(frames, 'frame')} of cines"
            self._advance(0, self.note)


def _mapped(
    engine: Engine,
    function: Callable[[Item], Result],
    batches: list[Sequence[Item]],
    on_crash: Callable[[Item], Result],
    needs: Sequence[Path],
    sign: _Note,
) -> Iterator[list[Result]]:
    bounded = partial(_map_within, function, engine.item_seconds)
    if engine.scheduler is not None:
        from sono.curation.core.dask_workers import map_on_cluster

        return map_on_cluster(engine.scheduler, bounded, batches, on_crash, needs)
    if engine.jobs == 1:
        return _in_this_process(function, batches, sign)
    from sono.curation.core.local_workers import map_on_processes

    return map_on_processes(engine.jobs, bounded, batches, on_crash, sign.show)


def _in_this_process(
    function: Callable[[Item], Result], batches: list[Sequence[Item]], sign: _Note
) -> Iterator[list[Result]]:
    for batch in batches:
        with listening(sign.add):
            results = [function(item) for item in batch]
        yield results


def _map_within(
    function: Callable[[Item], Result], seconds: float, batch: Sequence[Item]
) -> list[Result]:
    """`function` of each item, with at most `seconds` between two signs of life."""
    return [_within(seconds, function, item) for item in batch]


def _within(seconds: float, function: Callable[[Item], Result], item: Item) -> Result:
    """`function(item)`; the process is ended `seconds` after the start or the last sign of life.

    This works even if compiled code never releases Python's global lock.
    """
    with Path(os.devnull).open("w") as nowhere:
        armed = -math.inf

        def arm(_: int = 0) -> None:
            nonlocal armed
            now = time.monotonic()
            if now - armed > seconds / 10:  # it starts a thread
                armed = now
                faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)

        arm()
        try:
            with listening(arm):
                return function(item)
        finally:
            faulthandler.cancel_dump_traceback_later()
