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
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from sono.curation.core.alive import add_listener
from sono.curation.core.errors import SonoError

SIGN_SECONDS = 1.0  # between two looks at the number of frames
_CONTEXT = multiprocessing.get_context("forkserver")

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item]], list[Result]]


def map_on_processes(
    jobs: int,
    work: Work[Item, Result],
    batches: Sequence[Sequence[Item]],
    on_crash: Callable[[Item], Result],
    on_sign: Callable[[int], None],
) -> Iterator[list[Result]]:
    """Yield `work(batch)` of all `batches` from `jobs` processes, in order of completion.

    Meanwhile `on_sign` is called with the number of frames that the processes have read of cines.

    A process that dies breaks the whole pool. Each item in progress is then tried alone: if its
    process dies again, the item gives `on_crash(item)`.
    """
    frames = _CONTEXT.Value("q", 0)
    waiting = deque(batches)
    suspects: list[Item] = []
    while waiting:
        running: dict[Future[list[Result]], Sequence[Item]] = {}
        try:
            with _pool(jobs, work, frames) as pool:
                while waiting or running:
                    while waiting and len(running) <= jobs:  # one is ready when another is done
                        future = _submit(pool, work, waiting[0])
                        running[future] = waiting.popleft()
                    ready = wait(running, SIGN_SECONDS, FIRST_COMPLETED).done
                    on_sign(frames.value)
                    for future in ready:
                        result = future.result()
                        del running[future]
                        yield result
        except BrokenProcessPool:
            suspects += [item for batch in running.values() for item in batch]
    while suspects:
        yield from _alone(work, suspects, on_crash, frames)


def _alone(
    work: Work[Item, Result],
    suspects: list[Item],
    on_crash: Callable[[Item], Result],
    frames: "Synchronized[int]",
) -> Iterator[list[Result]]:
    """Run the suspects one at a time on one process, up to the first that kills it."""
    try:
        with _pool(1, work, frames) as pool:
            while suspects:
                result = _submit(pool, work, [suspects[0]]).result()
                del suspects[0]
                yield result
    except BrokenProcessPool:
        yield [on_crash(suspects.pop(0))]


@contextmanager
def _pool(
    jobs: int, work: Work[Item, Result], frames: "Synchronized[int]"
) -> Iterator[ProcessPoolExecutor]:
    """New processes that end with the block, forked from a server that has loaded `work`."""
    context = _CONTEXT
    context.set_forkserver_preload([_module_of(work)])
    others = set(multiprocessing.active_children())
    begun = context.Event()
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(begun, frames))
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


def _begin(begun: Event, frames: "Synchronized[int]") -> None:
    """Set up a worker: it ends with its parent, uses one core and counts its `frames`."""
    import cv2

    def count(more: int) -> None:
        if more:
            with frames.get_lock():
                frames.value += more

    begun.set()
    add_listener(count)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
