"""Linear models of the loss that a visit will reveal, for contextual bandits over samples."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top, standardise

FEATURES = ("loss", "loss_mean", "confidence", "margin", "el2n", "age", "visits")


def features(observation: Observation) -> np.ndarray:
    """A constant and the standardised columns, (R, n, 8) or (n, 8) float64."""
    columns = [standardise(observation[name]) for name in FEATURES]
    return np.stack([np.ones_like(columns[0]), *columns], axis=-1)


def _rows(observation: Observation) -> list[tuple[np.ndarray, ...]]:
    """Of each replica: its columns, (n,) each, as tuples."""
    columns = [np.ascontiguousarray(np.atleast_2d(observation[name])) for name in FEATURES]
    return list(zip(*columns, strict=True))


def _moments(columns: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Means of the columns of one replica and one over their deviations, (F,) each."""
    from dynprune_agents.bandits._linear_kernels import fill_moments  # slow to import

    means, scales = np.empty((2, len(columns)))
    fill_moments(columns, means, scales)
    return means, scales


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
        visited = next_observation["visits"] > observation["visits"]
        if HAS_NUMBA and visited.shape[-1] >= LARGE:
            squares, paid = self._sums(observation, visited, next_observation["loss"])
        else:
            x = features(observation)
            used = x * visited[..., None]
            squares = np.swapaxes(used, -1, -2) @ x
            paid = (used * next_observation["loss"][..., None]).sum(-2)
        prior = (1 - self.discount) * self.ridge * np.eye(squares.shape[-1])
        self.precision = self.discount * self.precision + prior + squares
        self.moment = self.discount * self.moment + paid

    def _sums(
        self, observation: Observation, visited: np.ndarray, loss: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the visited samples of x x' and of x times their losses, compiled."""
        from dynprune_agents.bandits._linear_kernels import fill_sums  # slow to import

        squares, paid = np.empty_like(self.precision), np.empty_like(self.moment)
        tables = squares.reshape(-1, *squares.shape[-2:]), paid.reshape(-1, paid.shape[-1])
        rows = map(np.ascontiguousarray, map(np.atleast_2d, (visited, loss)))
        for columns, *row in zip(_rows(observation), *rows, *tables, strict=True):
            fill_sums(columns, *_moments(columns), *row)
        return squares, paid

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The highest scores."""
        covariance = np.linalg.inv(self.precision)
        weights = (covariance @ self.moment[..., None])[..., 0]
        loss = observation["loss"]
        if HAS_NUMBA and loss.shape[-1] >= LARGE:
            scores = self._scores(observation, weights, covariance)
        else:
            scores = self.score(features(observation), weights, covariance)
        return keep_top(scores, count, self.rng)

    def score(self, x: np.ndarray, weights: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Scores (..., n) from features (..., n, d), their weights (..., d) and (..., d, d)."""
        believed, alpha = self.believe(weights, covariance)
        scores: np.ndarray = (x @ believed[..., None])[..., 0]
        return scores + alpha * np.sqrt(((x @ covariance) * x).sum(-1)) if alpha else scores

    def _scores(
        self, observation: Observation, weights: np.ndarray, covariance: np.ndarray
    ) -> np.ndarray:
        """The same of an observation, compiled."""
        from dynprune_agents.bandits._linear_kernels import fill_bounds, fill_predictions  # slow

        believed, alpha = self.believe(weights, covariance)
        scores = np.empty(observation["loss"].shape)
        tables = np.atleast_2d(believed), covariance.reshape(-1, *covariance.shape[-2:])
        rows = zip(_rows(observation), *tables, np.atleast_2d(scores), strict=True)
        for columns, weights, squares, filled in rows:
            moments = _moments(columns)
            if alpha:
                fill_bounds(columns, *moments, weights, squares, float(alpha), filled)
            else:
                fill_predictions(columns, *moments, weights, filled)
        return scores

    @abstractmethod
    def believe(self, weights: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, float]:
        """The weights (..., d) to predict by, and how much an uncertainty adds to a prediction.

        Args:
            weights: (..., d), their mean.
            covariance: (..., d, d).
        """
