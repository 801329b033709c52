"""One way to map work over files: in this process, on local worker processes, or on a dask cluster."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sono.curation.console import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """How to run: `jobs` worker processes here (1: in this process), or the cluster at `scheduler`."""

    jobs: int = 1
    scheduler: str | None = None
    batch_size: int = 32

    @classmethod
    def create(cls, jobs: int | None, scheduler: str | None) -> "Engine":
        """Defaults for the command line: one worker a core."""
        return cls(jobs or len(os.sched_getaffinity(0)), scheduler)


def run_batches(
    engine: Engine,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    on_crash: Callable[[Item], Result],
    title: str,
) -> Iterator[list[Result]]:
    """Yield the results of `function` over `items`, a batch at a time, in order of completion.

    `function` must be picklable and must return its errors as results. Where it kills its worker process (a decoder
    can), the items of the batch are tried again one by one and the guilty one gives `on_crash(item)`.
    """
    batches = [items[start : start + engine.batch_size] for start in range(0, len(items), engine.batch_size)]
    if not batches:
        return
    here = engine.scheduler is None and engine.jobs == 1
    mapped = _in_process(function, batches) if here else _on_cluster(engine, function, batches, on_crash)
    with progress(title, len(items)) as advance:
        for results in mapped:
            advance(len(results))
            yield results


def _map_batch(function: Callable[[Item], Result], batch: Sequence[Item]) -> list[Result]:
    return [function(item) for item in batch]


def _map_on_worker(function: Callable[[Item], Result], batch: Sequence[Item]) -> list[Result]:
    """The same on one core: OpenCV would start a thread a core in every worker."""
    import cv2

    cv2.setNumThreads(1)
    return _map_batch(function, batch)


def _in_process(function: Callable[[Item], Result], batches: list[Sequence[Item]]) -> Iterator[list[Result]]:
    return (_map_batch(function, batch) for batch in batches)


def _on_cluster(
    engine: Engine,
    function: Callable[[Item], Result],
    batches: list[Sequence[Item]],
    on_crash: Callable[[Item], Result],
) -> Iterator[list[Result]]:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    with _client(engine) as client:
        waiting = {client.submit(_map_on_worker, function, batch, pure=False, retries=0): batch for batch in batches}
        pending = as_completed(list(waiting))
        for future in pending:
            batch = waiting.pop(future)
            try:
                yield future.result()
            except KilledWorker:
                if len(batch) == 1:
                    yield [on_crash(batch[0])]
                    continue
                for item in batch:
                    single = client.submit(_map_on_worker, function, [item], pure=False, retries=0)
                    waiting[single] = [item]
                    pending.add(single)
            future.release()


def _client(engine: Engine) -> Any:
    """A client of the cluster named, or of a new local one without a dashboard and on loopback only."""
    import dask
    from distributed import Client, LocalCluster

    if engine.scheduler is not None:
        return Client(engine.scheduler)
    # a batch that kills its worker must not take others with it, so each worker holds one batch at a time
    dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.scheduler.worker-saturation": 1.0})
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            n_workers=engine.jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would still serve HTTP, at 8787 on every interface
            memory_limit=None,
            silence_logs=50,
        )
        return _OwnedClient(Client(cluster), cluster)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let Ctrl-C pass for a second: processes started meanwhile inherit that, and are ended by this one instead."""
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _OwnedClient:
    """Closes the local cluster together with its client."""

    def __init__(self, client: Any, cluster: Any) -> None:
        self.client, self.cluster = client, cluster

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.cluster.close()
