"""Calls in other processes that may die: on this machine (loky) or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
BACKENDS = ("loky", "ray")


class Worker(Protocol):
    """Takes one call at a time."""

    def submit(self, call: Callable[[T], R], item: T) -> Future[R]:
        """Begins a call."""

    def close(self) -> None:
        """Ends its process, if it has one; the next call gets a fresh one."""


class LokyWorker:
    """One process of this machine: a pool of one, so that its death hits no other call."""

    def __init__(self) -> None:
        self._pool: Any = None

    def submit(self, call: Callable[[T], R], item: T) -> Future[R]:
        """Begins a call."""
        from joblib.externals.loky import ProcessPoolExecutor

        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, env=ONE_THREAD, initializer=_serve, initargs=(os.getpid(),)
            )
        future: Future[R] = self._pool.submit(call, item)
        return future

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)
            self._pool = None


def _serve(parent: int) -> None:
    """Leaves Ctrl-C to the parent, and ends with it: an orphan would play runs a second time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class RayWorker:
    """One call at a time on a Ray cluster, wherever there is room for it."""

    def __init__(self, gpus: float):
        self._gpus = gpus

    def submit(self, call: Callable[[T], R], item: T) -> Future[R]:
        """Begins a call."""
        import ray

        @ray.remote(num_cpus=1, num_gpus=self._gpus, max_retries=0)
        def task(item: T) -> R:  # Ray takes nothing but functions
            return call(item)

        future: Future[R] = task.remote(item).future()
        return future

    def close(self) -> None:
        """Nothing to do: Ray replaces dead processes."""


def make_workers(backend: str, jobs: int, gpus: float = 0) -> list[Worker]:
    """`jobs` workers.

    Args:
        backend: "loky", or "ray": the cluster at $RAY_ADDRESS or the one of this machine; where
            there is none it is started here, with `jobs` processors.
        jobs: how many calls at once.
        gpus: GPUs that Ray reserves for each call; 0.5 lets two share one.

    Raises:
        ValueError: there is no such backend, or it is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "loky":
        return [LokyWorker() for _ in range(jobs)]
    try:
        import ray
    except ImportError as error:
        raise ValueError('--backend ray needs Ray: pip install "dynprune[ray]"') from error
    if not ray.is_initialized():
        try:
            ray.init("auto", log_to_driver=False)
        except ConnectionError:
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            ray.init(
                num_cpus=jobs,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": paths}},  # finds one's own agents
            )
    return [RayWorker(gpus) for _ in range(jobs)]


def call_each(
    call: Callable[[T], R],
    items: Sequence[T],
    workers: Sequence[Worker],
    *,
    on_start: Callable[[T], None],
    stopping: Callable[[], bool],
) -> Iterator[tuple[T, R | BaseException]]:
    """Calls `call(item)` for each item, in the workers.

    A call whose process dies is made once more, in a fresh one; the others notice nothing.

    Args:
        call: what to do; what it and the items hold has to be picklable.
        items: what to do it with.
        workers: who does it; they are closed at the end.
        on_start: told of each call that begins.
        stopping: once true, no further calls begin.

    Yields:
        Each item with what came back, or with the error if its process died twice.
    """
    waiting = deque((item, 0) for item in items)
    idle = list(workers)
    busy: dict[Future[R], tuple[Worker, T, int]] = {}
    try:
        while busy or (waiting and not stopping()):
            while waiting and idle and not stopping():
                worker, (item, deaths) = idle.pop(), waiting.popleft()
                on_start(item)
                busy[worker.submit(call, item)] = worker, item, deaths
            for future in wait(busy, timeout=0.5, return_when=FIRST_COMPLETED).done:
                worker, item, deaths = busy.pop(future)
                idle.append(worker)
                error = future.exception()
                if error is None:
                    yield item, future.result()
                    continue
                worker.close()
                if deaths == 0:
                    waiting.appendleft((item, 1))
                else:
                    yield item, error
    finally:
        for worker in workers:
            worker.close()
