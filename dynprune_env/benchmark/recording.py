"""A run's history and selections, recorded epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.benchmark.masks import pack
from dynprune_env.benchmark.results import HISTORY

if TYPE_CHECKING:
    from dynprune_env.envs.vector_env import DynPruneVectorEnv


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis from 1, (R, n) float64; equal values share their mean rank.

    The numbers of `scipy.stats.rankdata`, which takes twice as long.
    """
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1)
    first = np.ones(values.shape, dtype=bool)
    np.not_equal(ranked[:, 1:], ranked[:, :-1], out=first[:, 1:])
    starts = np.append(np.flatnonzero(first), values.size)
    shared = (starts[:-1] + starts[1:] + 1) / 2  # of places counted through all rows
    places = shared[np.cumsum(first).reshape(values.shape) - 1]
    places -= values.shape[1] * np.arange(len(values))[:, None]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, places, axis=-1)
    return ranks


class RunLog:
    """Collects the history of the running replicas of a vector environment, epoch by epoch."""

    READS = ("loss", "visits")
    """The columns that the environment has to keep for it."""

    def __init__(self, env: DynPruneVectorEnv):
        self._statistics = env.trainer.statistics
        self._corrupted = env.trainer.dataset.corrupted
        self._repeated = env.trainer.dataset.duplicate_of >= 0
        self._visits, self._ranks = self._statistics.visits.copy(), self._rank()
        self._epochs: list[dict[str, np.ndarray]] = []

    def _rank(self) -> np.ndarray:
        """Ranks of the losses, centred and scaled to unit length, (R, n)."""
        ranks = mean_ranks(self._statistics.loss)
        ranks -= ranks.mean(-1, keepdims=True)
        length = np.linalg.norm(ranks, axis=-1, keepdims=True)
        return ranks / np.where(length > 0, length, 1)

    def add(self, info: dict[str, np.ndarray], reward: np.ndarray, seconds: float) -> None:
        """Takes in one step: its infos, rewards (R,) and duration."""
        kept = self._statistics.visits > self._visits
        ranks, count = self._rank(), np.maximum(kept.sum(1), 1)
        self._epochs.append(
            {
                **info,
                "visits": info["run_visits"],
                "reward": reward,
                "seconds": np.full(len(reward), seconds),
                # None where all losses were equal, as before the first epoch.
                "drift": np.where(self._ranks.any(-1), 1 - (ranks * self._ranks).sum(-1), 0),
                "corrupted": (kept & self._corrupted).sum(1) / count,
                "duplicates": (kept & self._repeated).sum(1) / count,
                "mask": kept,
            }
        )
        self._visits, self._ranks = self._statistics.visits.copy(), ranks

    def state(self) -> dict[str, Any]:
        """What was collected so far."""
        return {"visits": self._visits, "ranks": self._ranks, "epochs": self._epochs}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._visits, self._ranks = state["visits"], state["ranks"]
        self._epochs = state["epochs"]

    def row(self, row: int) -> tuple[dict[str, list[float]], str]:
        """One replica's history, a list per name of HISTORY, and its packed selections."""
        # A run that had diverged before it began ends in its first step without an epoch.
        lived = [each for each in self._epochs if each["_epoch"][row] and each["epoch"][row] > 0]
        history = {name: [epoch[name][row].item() for epoch in lived] for name in HISTORY}
        masks = [epoch["mask"][row] for epoch in lived]
        return history, pack(np.array(masks, dtype=bool))
