"""Limits of CPU seconds that hold on a slow or busy core too: they are those of a quiet one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

QUIET = 0.11  # CPU seconds of `_work` on a quiet core of an AMD EPYC of 2023
TRIES = 5


def _work() -> float:
    """CPU seconds of what is always the same: parsing, sorting, numbers and strings."""
    start = time.process_time()
    text = json.dumps({str(row): [float(value) for value in range(20)] for row in range(2000)})
    for _ in range(5):
        sum(sorted(value for row in json.loads(text).values() for value in row))
        np.sort(np.random.default_rng(0).random(200_000))
    return time.process_time() - start


def slowness() -> float:
    """How many times slower than a quiet core this one is now; at least 1."""
    return max(1.0, float(np.median([_work() for _ in range(TRIES)])) / QUIET)


@contextmanager
def cpu_seconds_below(limit: float) -> Iterator[None]:
    """Fails where a block and its child processes take more CPU seconds than a quiet core's.

    A neighbour on the same core costs cache and clock: the limit grows by how much slower the core
    is just before or just after.
    """
    before, start = slowness(), sum(os.times()[:4])
    yield
    taken, slower = sum(os.times()[:4]) - start, max(before, slowness())
    print(f"{taken:.2f} CPU seconds of {limit:g}, the core {slower:.2f} times slower than quiet")
    assert taken < limit * slower
