"""RePB: drops easy samples batch by batch, brings unused ones back.

ICLR 2026 ("Inconsistency Biases in Dynamic Data Pruning"), second-hand. Of the samples that an
epoch used, those below the mean loss of their batch are dropped with probability rho; those it did
not use come back with probability 1 - rho; a kept sample weighs (epochs so far) / (times it was
trained), both with the coming epoch, and not normalised: `weights="raw"` in the environment. Which
samples shared a batch is not known here: the used ones are dealt out to batches anew, at random,
and their losses are those of the pass, not of one moment.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_agents._draws import rising
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.selection.actions import MAX_WEIGHT
from dynprune_env.selection.agent import Episode


@dataclass
class RePB(Agent):
    """Drops below-mean losses with probability rho, re-adds the unused with 1 - rho (RePB, 2026).

    Attributes:
        rho: drop probability, in [0, 1).
        batch: samples whose losses are compared, at least 1.
        rescale: whether kept samples weigh in proportion to epochs / times trained.
    """

    source: ClassVar[str] = "second-hand: Inconsistency Biases in Dynamic Data Pruning, ICLR 2026"
    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}
    columns = ("loss", "visits", "age")
    paced: ClassVar[bool] = False

    rho: float = 0.5
    batch: int = 128
    rescale: bool = True

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", rho=self.rho)
        if self.batch < 1:
            raise ValueError(f"batch is at least 1, got {self.batch}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.warn_of_full_epochs(1, "its first epoch is full, raise the budget")

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        loss, visits = observation["loss"], observation["visits"]
        draws = self.rng.random(loss.shape[-1])
        first = self.epoch(observation) == 0
        used = np.ones(loss.shape, dtype=bool) if first else observation["age"] == 0
        dealt = self.rng.random(loss.shape[-1])
        rows = zip(*map(np.atleast_2d, (loss, used, dealt)), strict=True)
        easy = np.reshape([self._easy(*each) for each in rows], loss.shape)
        epochs = self.epoch(observation) + 1 if self.rescale else 0
        if HAS_NUMBA:
            from dynprune_agents._draws_kernels import bring_back  # slow to import

            weights = np.empty(loss.shape, np.float32)
            columns = (np.reshape(each, -1) for each in (used, easy, draws, visits, weights))
            bring_back(self.rho, epochs, MAX_WEIGHT, *columns)
            return weights
        kept = np.where(used, ~easy | (draws >= self.rho), draws < 1 - self.rho)
        rescaled = kept * (epochs / (visits + 1) if epochs else 1.0)
        return np.minimum(rescaled, MAX_WEIGHT).astype(np.float32)

    def _easy(self, loss: np.ndarray, used: np.ndarray, dealt: np.ndarray) -> np.ndarray:
        """Which used samples are below the mean of their batch, (n,) bool; `dealt` draws these."""
        easy = np.zeros(len(loss), dtype=bool)
        if HAS_NUMBA:
            from dynprune_agents._draws_kernels import mark_easy, take_used  # slow to import

            ids, draws = np.empty(len(used), np.int64), np.empty(len(used))
            count = take_used(used, dealt, ids, draws)
            order = rising(draws[:count])
            mark_easy(np.ascontiguousarray(loss), ids, order, self.batch, easy)
            return easy
        ids = np.flatnonzero(used)
        ids = ids[rising(dealt[ids])]
        batches = np.arange(len(ids)) // self.batch
        sums = np.bincount(batches, loss[ids])
        mean = sums / np.maximum(1, np.bincount(batches))
        easy[ids] = loss[ids] < (mean - 1e-6 * np.abs(mean))[batches]
        return easy
