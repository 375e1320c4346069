"""What runs may spend and have spent, and the order and the batches of an epoch."""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from dynprune_env.common.randomness import Purpose, stream_seed

WEIGHTS = ("mean_one", "raw")
"""What becomes of gradient weights: scaled to a mean of one over an epoch, or taken as they are."""

SCORING_COST = 1 / 3
"""Visits charged for scoring a sample without training on it: a forward pass of three."""


class Standing(NamedTuple):
    """What follows from the counters of a `VisitBudget`; see there."""

    remaining: np.ndarray
    spent: np.ndarray
    progress: np.ndarray
    saved: np.ndarray


class VisitBudget:
    """The sample visits of R runs.

    Args:
        num_replicas: R.
        num_samples: n.
        epochs: T, the most epochs of a run.
        share: of T n visits that a run may spend, in (0, 1].

    Attributes:
        num_samples, epochs, share: as given.
        total_visits: visits that the budget pays for, at least 1.
        epoch, visits, scored: (R,) int64, epochs done, samples trained, samples only scored.
    """

    def __init__(self, num_replicas: int, num_samples: int, epochs: int, share: float):
        self.num_samples = num_samples
        self.epochs = epochs
        self.share = share
        self.total_visits = max(1, round(share * epochs * num_samples))
        self.epoch = np.zeros(num_replicas, dtype=np.int64)
        self.visits = np.zeros(num_replicas, dtype=np.int64)
        self.scored = np.zeros(num_replicas, dtype=np.int64)
        self._known: tuple[tuple[bytes, ...], Standing] | None = None

    def reset(self, rows: np.ndarray) -> None:
        """Gives these runs all of it again."""
        for counter in (self.epoch, self.visits, self.scored):
            counter[rows] = 0

    def state(self) -> dict[str, np.ndarray]:
        """What was spent: copies of the counters, (R,) int64 each."""
        return {name: getattr(self, name).copy() for name in ("epoch", "visits", "scored")}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Takes what `state` gave."""
        for name in self.state():
            getattr(self, name)[...] = state[name]

    @property
    def charged(self) -> np.ndarray:
        """Visits charged so far, scoring at a third each, (R,) float64."""
        return self.visits + self.scored * SCORING_COST

    @property
    def saved(self) -> np.ndarray:
        """Share of a full run's T n visits that was not charged, (R,) float64."""
        return self._known_now().saved.copy()

    @property
    def remaining(self) -> np.ndarray:
        """Whole visits that the budget still pays for, (R,) int64."""
        return self._known_now().remaining.copy()

    @property
    def spent(self) -> np.ndarray:
        """Share of the budget spent, (R,) float64 in [0, 1]."""
        return self._known_now().spent.copy()

    @property
    def progress(self) -> np.ndarray:
        """max(epoch / T, spent), (R,) float64 in [0, 1]; the learning-rate schedule runs on it."""
        return self._known_now().progress.copy()

    def standing(self) -> Standing:
        """All of these, copies."""
        return Standing(*(known.copy() for known in self._known_now()))

    def _known_now(self) -> Standing:
        """The same, computed anew when a counter has moved; not to be written into."""
        counters = self.epoch.tobytes(), self.visits.tobytes(), self.scored.tobytes()
        if self._known is None or self._known[0] != counters:
            runs = zip(self.epoch.tolist(), self.visits.tolist(), self.scored.tolist(), strict=True)
            remaining, *shares = zip(*(self._stands(*run) for run in runs), strict=True)
            found = Standing(np.array(remaining, dtype=np.int64), *map(np.array, shares))
            self._known = counters, found
        return self._known[1]

    def _stands(self, epoch: int, visits: int, scored: int) -> tuple[int, float, float, float]:
        """The `Standing` of one run, in Python's numbers: faster than arrays of a few."""
        charged = visits + scored * SCORING_COST
        remaining = math.floor(self.total_visits - charged + 1e-6)
        spent = charged / self.total_visits if remaining >= 1 else 1.0
        saved = 1 - charged / (self.epochs * self.num_samples)
        return remaining, spent, max(epoch / self.epochs, spent), saved

    @property
    def visits_per_epoch(self) -> np.ndarray:
        """Visits an epoch that would spend what is left evenly, (R,) float64."""
        return self.remaining / np.maximum(1, self.epochs - self.epoch)


class _Own(threading.local):
    """A generator of each thread, seeded at every use: making one takes longer than seeding it."""

    def __init__(self) -> None:
        self.generator = torch.Generator("cpu")


_OWN = _Own()


def visiting_order(seed: int, epoch: int, kept: np.ndarray, most: int) -> np.ndarray:
    """The first `most` kept samples in the order of one permutation of all n, (k,) int64.

    Two masks under one seed differ in nothing but the mask.

    Args:
        seed: of the run.
        epoch: epochs done before this one.
        kept: (n,) bool.
        most: where the budget cuts the pass off.
    """
    generator = _OWN.generator.manual_seed(stream_seed(seed, epoch, Purpose.ORDER))
    order = torch.randperm(len(kept), generator=generator, device="cpu").numpy()
    return order.compress(kept.take(order))[:most]


def of_mean_one(weights: np.ndarray) -> np.ndarray:
    """Gradient weights (k,) scaled to a mean of one, float32; none stay none."""
    if not len(weights):
        return weights
    return (weights / (weights.sum(dtype=np.float64) / len(weights))).astype(np.float32)


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Sizes of the batches of a pass over `count` samples: full ones, and a last one near it.

    A rest of under half a batch joins the last one. A gradient step on two samples, with a batch
    norm of their own, would undo an epoch: how many samples an action keeps, modulo the batch
    size, would decide the run.

    Args:
        count: at least 0.
        batch_size: at least 1.

    Returns:
        Sizes that sum to `count`: the last from half to under one and a half `batch_size`, or
        `count` where that is less than a half. Empty for 0.
    """
    if not count:
        return []
    full = batch_count(count, batch_size) - 1
    return [batch_size] * full + [count - full * batch_size]


def batch_count(count: int, batch_size: int) -> int:
    """How many batches `batch_sizes` makes."""
    return max(1, (2 * count + batch_size) // (2 * batch_size)) if count else 0


@lru_cache(maxsize=8)  # a run's passes are mostly of one length
def batch_middles(batches: tuple[int, ...]) -> np.ndarray:
    """How far each batch's middle is in its pass, in (0, 1); for reading only.

    Args:
        batches: how many each pass has.

    Returns:
        (B,) float64, of the passes one after the other.
    """
    counts = np.array(batches)
    places = np.arange(counts.sum()) - (counts.cumsum() - counts).repeat(counts)
    middles: np.ndarray = (places + 0.5) / counts.repeat(counts)
    middles.flags.writeable = False
    return middles
