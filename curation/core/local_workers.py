"""Work on local processes that may die.

The items of a dead process are tried again one by one, so that the one that kills it is found.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from sono.curation.core.errors import SonoError

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item]], list[Result]]


def map_on_processes(
    jobs: int,
    work: Work[Item, Result],
    batches: Sequence[Sequence[Item]],
    on_crash: Callable[[Item], Result],
) -> Iterator[list[Result]]:
    """Yield `work(batch)` of all `batches` from `jobs` processes, in order of completion.

    A process that dies breaks the whole pool. Each item in progress is then tried alone: if its
    process dies again, the item gives `on_crash(item)`.
    """
    waiting = deque(batches)
    suspects: list[Item] = []
    while waiting:
        running: dict[Future[list[Result]], Sequence[Item]] = {}
        try:
            with _pool(jobs, work) as pool:
                while waiting or running:
                    while waiting and len(running) <= jobs:  # one is ready when another is done
                        future = _submit(pool, work, waiting[0])
                        running[future] = waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del running[future]
                        yield result
        except BrokenProcessPool:
            suspects += [item for batch in running.values() for item in batch]
    while suspects:
        yield from _alone(work, suspects, on_crash)


def _alone(
    work: Work[Item, Result], suspects: list[Item], on_crash: Callable[[Item], Result]
) -> Iterator[list[Result]]:
    """Run the suspects one at a time on one process, up to the first that kills it."""
    try:
        with _pool(1, work) as pool:
            while suspects:
                result = _submit(pool, work, [suspects[0]]).result()
                del suspects[0]
                yield result
    except BrokenProcessPool:
        yield [on_crash(suspects.pop(0))]


@contextmanager
def _pool(jobs: int, work: Work[Item, Result]) -> Iterator[ProcessPoolExecutor]:
    """New processes that end with the block, forked from a server that has loaded `work`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_module_of(work)])
    others = set(multiprocessing.active_children())
    begun = context.Event()
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(begun,))
    try:
        yield pool
    except BaseException as error:
        # they may be in the middle of long work
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool) and not begun.is_set():
            raise SonoError(
                'the worker processes could not start: a script needs `if __name__ == "__main__":` '
                "around its code "
                "and must be a file; or use one job"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(
    pool: ProcessPoolExecutor, work: Work[Item, Result], batch: Sequence[Item]
) -> Future[list[Result]]:
    with _interrupts_held():  # a process may have to be started
        return pool.submit(work, batch)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C until the block ends; processes started inside never receive one."""
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _module_of(function: Callable[..., Any]) -> str:
    """The module that defines the innermost function of nested partials."""
    while isinstance(function, partial):
        function = next((value for value in function.args if callable(value)), function.func)
    return function.__module__


def _begin(begun: Event) -> None:
    """Set up a worker: it ends with its parent and uses one core."""
    import cv2

    begun.set()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
