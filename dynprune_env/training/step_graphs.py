"""Gradient steps replayed from CUDA graphs: the host says "once more" instead of every kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor

LANES = 4
"""Replicas that train at the same time on one CUDA device."""

WARM_UP = 2
"""Steps taken as they are before one is recorded: what is made at the first step must be there."""


class Batch(NamedTuple):
    """What one gradient step takes, on the device.

    Attributes:
        ids: (B,) int64, where the inputs are looked up; on the host where they are streamed.
        labels: (B,) int64, or (B, ...) float32 where they are no classes.
        weights: (B,) float32.
        rate: the learning rate; a number on a CPU, () float32 elsewhere.
        noise: (B, 3) int64 or None.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    rate: float | Tensor
    noise: Tensor | None


class StepGraph:
    """A step on batches of one shape: recorded once, then replayed; the numbers stay the same.

    A replay reads and writes where the recorded step did: what it trains must stay at its place.

    Args:
        others: recorded steps that are never under way together with this one: they share memory.
            It adds itself.
    """

    def __init__(self, others: WeakSet[StepGraph]):
        self._others = others
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, step: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Takes one step and gives its logits, which the next one overwrites.

        Args:
            step: trains on a batch: the same at every call, depending on tensors only.
            batch: of the same size at every call.
        """
        if self._taken < WARM_UP:
            self._taken += 1
            return step(batch)
        if self._graph is None:
            self._graph = self._recorded(step, batch)
        for place, value in zip(self._batch, batch, strict=True):
            if isinstance(place, Tensor) and isinstance(value, Tensor):
                place.copy_(value)
        self._graph.replay()
        return self._logits

    def _recorded(self, step: Callable[[Batch], Tensor], batch: Batch) -> torch.cuda.CUDAGraph:
        self._batch = [x.clone() if isinstance(x, Tensor) else x for x in batch]
        graph = torch.cuda.CUDAGraph()
        pool = next((each._graph.pool() for each in self._others if each._graph), None)
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            self._logits = step(Batch._make(self._batch))
        finally:
            graph.capture_end()
        self._others.add(self)
        return graph


class Lanes:
    """Streams of a CUDA device, so that small replicas train at the same time; elsewhere nothing.

    Args:
        device: where.
        num_replicas: that share them.
    """

    def __init__(self, device: torch.device, num_replicas: int):
        count = min(LANES, num_replicas) if device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(device) for _ in range(count)]
        self._recorded = [WeakSet[StepGraph]() for _ in self._streams]

    def __bool__(self) -> bool:
        return bool(self._streams)

    def recorded(self, row: int) -> WeakSet[StepGraph]:
        """The recorded steps of the replicas in the same lane as this one."""
        return self._recorded[row % len(self._recorded)]

    @contextmanager
    def joined(self) -> Iterator[None]:
        """What is queued behind this waits for all that was queued inside; the host does not."""
        try:
            yield
        finally:
            for stream in self._streams:
                torch.cuda.current_stream(stream.device).wait_stream(stream)

    @contextmanager
    def of(self, row: int) -> Iterator[None]:
        """What is queued inside, within `joined`, waits for what was queued before.

        Memory that is taken inside and given back outside, or the other way round, must be used
        until all is joined.
        """
        if not self._streams:
            yield
            return
        stream = self._streams[row % len(self._streams)]
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            yield
