"""Explicit randomness: draws depend on seed, epoch and purpose; global generators are kept."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from dynprune_env.common.checks import agent_seeds

if TYPE_CHECKING:  # loaded at the first use: a report needs none of it
    import torch

_MASK = (1 << 64) - 1

LOCK = threading.RLock()
"""Held while a global generator is set for somebody: by one thread of ours at a time."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOCK._at_fork_reinit)  # type: ignore[attr-defined]


class Purpose(IntEnum):
    """What a stream is for; streams of different purposes are independent."""

    ORDER = 0
    AUGMENTATION = 1
    MODEL = 2
    ACTION = 3
    SCORING = 4


def stream_seed(run_seed: int, epoch: int, purpose: Purpose) -> int:
    """Mixes (run seed, epoch, purpose) into 63 bits (splitmix64, Steele et al. 2014)."""
    state = 0
    for part in (run_seed, epoch, int(purpose)):
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def stream(run_seed: int, epoch: int, purpose: Purpose) -> torch.Generator:
    """A generator for one epoch of one run: nothing to save, nothing shared, nothing global."""
    import torch

    # torch's CPU generator reads only the low 32 bits of its seed: they are well mixed here.
    return torch.Generator("cpu").manual_seed(stream_seed(run_seed, epoch, purpose))


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds torch's default generators (the CPU's, and a device's); puts them back afterwards.

    One thread of ours at a time; whoever else draws meanwhile draws from them too, see `drawing`.
    """
    import torch

    generators = [torch.default_generator, *_default_generators(device)]
    with LOCK:
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:  # torch.manual_seed would seed those of every device
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)


def _default_generators(device: torch.device | None) -> list[torch.Generator]:
    """That of an accelerator; none of the CPU, or of one that has none."""
    import torch

    if device is None or device.type == "cpu":
        return []
    if device.type == "mps":
        return [torch.mps._get_default_mps_generator()]
    module = torch.get_device_module(device)
    generators = getattr(module, "default_generators", None)
    if not generators:
        return []
    return [generators[module.current_device() if device.index is None else device.index]]


@contextmanager
def kept_generators(gpus: Iterable[int] = ()) -> Iterator[None]:
    """Puts the global generators of Python, numpy and torch back, whatever is drawn meanwhile.

    Args:
        gpus: whose generators of torch are put back besides the CPU's.
    """
    import torch

    with LOCK, torch.random.fork_rng(list(gpus)):
        python, arrays = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


class ReplicaRandom:
    """One numpy generator per replica.

    Row r of every draw depends on `seeds[r]` alone, so a run is the same alone and in company.

    Args:
        seeds: one per replica; a single number gives draws without the replica axis.
    """

    def __init__(self, seeds: int | Sequence[int]):
        checked = agent_seeds(seeds)
        self.batched = isinstance(checked, tuple)
        self.seeds = list(checked) if isinstance(checked, tuple) else [checked]
        self._generators: dict[int, np.random.Generator] = {}

    def row(self, row: int) -> np.random.Generator:
        """The generator of one replica (made at its first use)."""
        if row not in self._generators:
            self._generators[row] = np.random.default_rng(self.seeds[row])
        return self._generators[row]

    def only(self, row: int) -> ReplicaRandom:
        """One replica's generator (shared, not copied), for draws without the replica axis."""
        single = ReplicaRandom(self.seeds[row])
        single._generators[0] = self.row(row)
        return single

    def random(self, count: int) -> np.ndarray:
        """Uniform draws from [0, 1), (R, count) float64; (count,) if made from one number."""
        draws = np.empty((len(self.seeds), count))
        for row, drawn in enumerate(draws):
            self.row(row).random(out=drawn)
        return draws if self.batched else draws[0]
