"""What an action is applied to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dynprune_env.common.randomness import Purpose, ReplicaRandom, stream_seed
from dynprune_env.selection.budget import VisitBudget
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.statistics import SampleStatistics


@dataclass(frozen=True)
class ActionContext:
    """R runs before an epoch; what is derived from them is made only for the actions that look.

    Attributes:
        statistics: before the epoch.
        budget: likewise.
        seeds: (R,) int64, the run seeds.
    """

    statistics: SampleStatistics
    budget: VisitBudget
    seeds: np.ndarray

    @cached_property
    def columns(self) -> Mapping[str, np.ndarray]:
        """(R, n) float32 each, for reading only."""
        return self.statistics.lend(self.budget.epoch)

    @cached_property
    def visits_per_epoch(self) -> np.ndarray:
        """How many samples to keep now to spend what is left evenly, (R,) float64."""
        return self.budget.visits_per_epoch

    @cached_property
    def rng(self) -> ReplicaRandom:
        """Draws that belong to this epoch of each run."""
        runs = zip(self.seeds.tolist(), self.budget.epoch.tolist(), strict=True)
        return ReplicaRandom([stream_seed(seed, epoch, Purpose.ACTION) for seed, epoch in runs])

    def random_mask(self) -> np.ndarray:
        """A uniformly random subset at an even pace, (R, n) bool: what dynamic random keeps."""
        n = self.statistics.shape[1]
        counts = np.rint(self.visits_per_epoch).astype(np.int64)
        return keep_random(n, counts, self.rng)


def check_symmetric(action: np.ndarray) -> None:
    """Checks the numbers of a short action.

    Raises:
        ValueError: one is not in [-1, 1].
    """
    if np.abs(action).max(initial=0) > 1 + 1e-6:
        raise ValueError("this action holds numbers in [-1, 1]")
