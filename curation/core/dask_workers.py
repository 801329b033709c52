"""Work on a dask cluster, whose workers read the raw files and write the frames themselves."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sono import __version__
from sono.curation.core.errors import SonoError

CONTINUES = "the same command continues where it stopped"
CONNECT_SECONDS = 10
NO_WORKER_SECONDS = 60  # without any worker, after which a run ends
LOOK_SECONDS = 2  # without a result, after which the workers are counted

Item = TypeVar("Item")
Result = TypeVar("Result")

# a worker may have several threads; so that a crash costs no other batch
_one_batch = threading.Lock()


def _on_worker(
    work: Callable[[Sequence[Item]], list[Result]], needs: Sequence[Path], batch: Sequence[Item]
) -> list[Result]:
    import cv2

    _check_sight(needs)
    cv2.setNumThreads(1)  # OpenCV would start a thread a core in every worker
    with _one_batch:
        return work(batch)


def _check_sight(needs: Sequence[Path]) -> None:
    from distributed import get_worker

    for path in needs:
        if not os.path.lexists(path):
            raise SonoError(
                f"{path.parent}: the worker at {get_worker().address} does not see this folder; "
                "workers read the raw "
                "files and write the frames themselves, so mount it there at the same path "
                f"({CONTINUES})"
            )


def map_on_cluster(
    scheduler: str,
    work: Callable[[Sequence[Item]], list[Result]],
    batches: Sequence[Sequence[Item]],
    on_crash: Callable[[Item], Result],
    needs: Sequence[Path],
) -> Iterator[list[Result]]:
    """Yield `work(batch)` of all `batches` from the workers at `scheduler`, in order of completion.

    If a worker dies, the items of its batch are tried one by one, and what remains once more after
    all other work: an item that still kills its worker gives `on_crash(item)`. Workers must see the
    files `needs` at the same paths.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    with _client_of(scheduler) as client:
        submit = partial(
            client.submit, partial(_on_worker, work, tuple(needs)), pure=False, retries=0
        )
        waiting = {submit(batch): batch for batch in batches}
        pending = as_completed(list(waiting))
        suspects = []
        for future in _finished(client, pending):
            batch = waiting.pop(future)
            try:
                yield _result(future)
            except KilledWorker:
                if len(batch) == 1:
                    suspects.append(batch[0])
                    continue
                singles = {submit([item]): [item] for item in batch}
                waiting |= singles
                pending.update(list(singles))
        for item in suspects:  # some were only in the same worker's queue as the one that killed it
            try:
                yield from map(_result, _finished(client, as_completed([submit([item])])))
            except KilledWorker:
                yield [on_crash(item)]


def _result(future: Any) -> Any:
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except FutureCancelledError as error:
        raise SonoError(f"the connection to the scheduler was lost; {CONTINUES}") from error
    finally:
        future.release()


def _finished(client: Any, pending: Any) -> Iterator[Any]:
    """Yield the futures of `pending` as they finish.

    Raises SonoError if the cluster has had no worker for a while.
    """
    heard = worked = time.monotonic()
    while not pending.is_empty():
        if pending.has_ready():
            yield next(pending)
            heard = worked = time.monotonic()
            continue
        time.sleep(0.01)
        if time.monotonic() - heard > LOOK_SECONDS:
            heard = time.monotonic()
            worked = heard if client.nthreads() else worked
            if heard - worked > NO_WORKER_SECONDS:
                raise SonoError(
                    f"the cluster has no worker; start some with `dask worker`: {CONTINUES}"
                )


def _client_of(address: str) -> Any:
    """A client of the scheduler at `address`; raises SonoError if none answers."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise SonoError(
            f"--scheduler {address}: no dask scheduler answers there; start one (`dask scheduler`) "
            f"or give its "
            "tcp://host:port"
        ) from error
    there: Any = client.get_versions(packages=["sono"])
    for name, answer in [
        (f"the scheduler at {address}", there["scheduler"]),
        *there["workers"].items(),
    ]:
        version = answer["packages"]["sono"]
        if version != __version__:
            client.close()
            raise SonoError(
                f"{name} has sono {version}, not {__version__}; install the same version there"
            )
    return client
