"""Linear models of the loss that a visit will reveal, for contextual bandits over samples."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top, standardise

FEATURES = ("loss", "loss_mean", "confidence", "margin", "el2n", "age", "visits")


def features(observation: Observation) -> np.ndarray:
    """A constant and the standardised columns, (R, n, 8) or (n, 8) float64."""
    columns = [standardise(observation[name].astype(np.float64)) for name in FEATURES]
    return np.stack([np.ones_like(columns[0]), *columns], axis=-1)


@dataclass
class LinearBandit(PeriodicAgent):
    """Ridge regression of the revealed loss on what was known before; older epochs fade.

    As in the paper that the environment is built on, a sample pays what its visit reveals: its
    loss.

    Attributes:
        period: epochs between selections.
        warmup: full epochs before the first selection.
        discount: weight of the past in each epoch, in (0, 1] (Russac et al. 2019): losses drift.
        ridge: the prior's precision, positive.
    """

    period: int | None = 1
    discount: float = 0.7
    ridge: float = 1.0

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if not 0 < self.discount <= 1 or not self.ridge > 0:
            raise ValueError(
                f"discount is in (0, 1], ridge positive, got {self.discount}, {self.ridge}"
            )

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        size = len(FEATURES) + 1
        replicas = (len(self.rng.seeds),) if self.rng.batched else ()
        self.precision = np.broadcast_to(self.ridge * np.eye(size), (*replicas, size, size)).copy()
        self.moment = np.zeros((*replicas, size))

    def update(
        self,
        observation: Observation,
        action: np.ndarray,
        reward: Any,
        next_observation: Observation,
    ) -> None:
        """Takes in the losses that the epoch's visits revealed."""
        x = features(observation)
        visited = next_observation["visits"] > observation["visits"]
        used = x * visited[..., None]
        prior = (1 - self.discount) * self.ridge * np.eye(x.shape[-1])
        self.precision = self.discount * self.precision + prior + np.swapaxes(used, -1, -2) @ x
        paid = (used * next_observation["loss"][..., None]).sum(-2)
        self.moment = self.discount * self.moment + paid

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The highest scores."""
        covariance = np.linalg.inv(self.precision)
        weights = (covariance @ self.moment[..., None])[..., 0]
        return keep_top(self.score(features(observation), weights, covariance), count, self.rng)

    @abstractmethod
    def score(self, x: np.ndarray, weights: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Scores (..., n) from features (..., n, d), their weights (..., d) and (..., d, d)."""
