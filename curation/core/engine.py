"""Map work over files: in this process, on local worker processes, or on a dask cluster."""

import faulthandler
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sono.curation.core.console import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """How to run: `jobs` worker processes here (1: in this process), or the cluster at `scheduler`.

    A worker process ends itself if one item takes longer than `item_seconds`, because a decoder can
    hang.
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
    batches = [
        items[start : start + engine.batch_size]
        for start in range(0, len(items), engine.batch_size)
    ]
    if not batches:
        return
    mapped = _mapped(engine, function, batches, on_crash, needs)
    with progress(title, len(items)) as advance:
        for results in mapped:
            advance(len(results))
            yield results


def _mapped(
    engine: Engine,
    function: Callable[[Item], Result],
    batches: list[Sequence[Item]],
    on_crash: Callable[[Item], Result],
    needs: Sequence[Path],
) -> Iterator[list[Result]]:
    bounded = partial(_map_within, function, engine.item_seconds)
    if engine.scheduler is not None:
        from sono.curation.core.dask_workers import map_on_cluster

        return map_on_cluster(engine.scheduler, bounded, batches, on_crash, needs)
    if engine.jobs == 1:
        return ([function(item) for item in batch] for batch in batches)
    from sono.curation.core.local_workers import map_on_processes

    return map_on_processes(engine.jobs, bounded, batches, on_crash)


def _map_within(
    function: Callable[[Item], Result], seconds: float, batch: Sequence[Item]
) -> list[Result]:
    """`function` of each item, with at most `seconds` for each."""
    return [_within(seconds, function, item) for item in batch]


def _within(seconds: float, function: Callable[[Item], Result], item: Item) -> Result:
    """`function(item)`; the process is ended after `seconds`.

    This works even if compiled code never releases Python's global lock.
    """
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            return function(item)
        finally:
            faulthandler.cancel_dump_traceback_later()
