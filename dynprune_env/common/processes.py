"""Calls in other processes that may die; those of a cluster are in `ray_cluster`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from importlib import import_module
from typing import Any, Protocol, TypeVar

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class WorkerDied(Exception):
    """The process of a call died, and that of its second try."""


class Worker(Protocol):
    """Takes one call at a time."""

    def submit(self, call: Callable[[T], R], item: T) -> Future[R]:
        """Begins a call."""

    def close(self) -> None:
        """Ends its process, if it has one; the next call gets a fresh one."""

    def refusal(self, error: BaseException) -> BaseException | None:
        """The reason why a call was refused, in vain to be tried again; None for a death."""


class LokyWorker:
    """One process of this machine: a pool of one, so that its death hits no other call."""

    def __init__(self) -> None:
        self._pool: Any = None

    def start(self, module: str) -> None:
        """Begins the process, which loads a module while this one goes on."""
        self.submit(_load, module)

    def submit(self, call: Callable[[T], R], item: T) -> Future[R]:
        """Begins a call; one whose process died idle gets a fresh one."""
        try:
            future: Future[R] = self._running().submit(call, item)
        except BrokenExecutor:
            self.close()
            future = self._running().submit(call, item)
        return future

    def _running(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, env=ONE_THREAD, initializer=_serve, initargs=(os.getpid(),)
            )
        return self._pool

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)
            self._pool = None

    def refusal(self, error: BaseException) -> BaseException | None:
        """None: only deaths reach the parent, since calls return their errors."""
        return None


def _load(module: str) -> None:
    """Imports a module. Were it returned, a thread of the parent would import it there as well."""
    import_module(module)


def _serve(parent: int) -> None:
    """Leaves Ctrl-C to the parent, and ends with it: an orphan would play runs a second time."""
    from joblib.externals.loky import process_executor

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A run's data sets stay for the next: 300 MB more than after the first call are no leak, for
    # which loky would replace the process, with a warning.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def local_workers(jobs: int) -> list[LokyWorker]:
    """`jobs` processes of this machine."""
    return [LokyWorker() for _ in range(jobs)]


def call_each(
    call: Callable[[S], R],
    items: Sequence[T],
    workers: Sequence[Worker],
    *,
    assign: Callable[[T], S],
    on_start: Callable[[T], None],
    stopping: Callable[[], bool],
    meanwhile: Callable[[], None] = lambda: None,
    got_on: Callable[[T], bool] = lambda item: False,
) -> Iterator[tuple[T, R | BaseException]]:
    """Calls `call(assign(item))` for each item, in the workers.

    A call whose process dies is made once more, in a fresh one; the others notice nothing. One
    that got on before its process died has its second try still before it.

    Args:
        call: what to do; what it and the assignments hold has to be picklable.
        items: what to do it with.
        workers: who does it; they are closed at the end.
        assign: what a worker is told of an item, made anew for each try.
        on_start: told of each call that begins.
        stopping: once true, no further calls begin.
        meanwhile: done at least twice a second, and after a call has ended before it is yielded.
        got_on: whether more of an item is done than when it was assigned.

    Yields:
        Each item with what came back, or with the error if its process died twice or refused it.
    """
    waiting = deque((item, 0) for item in items)
    idle = list(workers)
    busy: dict[Future[R], tuple[Worker, T, int]] = {}
    try:
        while busy or (waiting and not stopping()):
            while waiting and idle and not stopping():
                worker, (item, deaths) = idle.pop(), waiting.popleft()
                on_start(item)
                busy[worker.submit(call, assign(item))] = worker, item, deaths
            ended = wait(busy, timeout=0.5, return_when=FIRST_COMPLETED).done
            meanwhile()
            for future in ended:
                worker, item, deaths = busy.pop(future)
                idle.append(worker)
                error = future.exception()
                if error is None:
                    yield item, future.result()
                    continue
                worker.close()
                if refusal := worker.refusal(error):
                    yield item, refusal
                elif deaths == 0 or got_on(item):
                    waiting.appendleft((item, 1))
                else:
                    yield item, WorkerDied(f"twice. {error}")
    finally:
        for worker in workers:
            worker.close()
