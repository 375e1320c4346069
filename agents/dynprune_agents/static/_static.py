"""What static scores share: score first, in real training runs, then keep one subset."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.selection.agent import Episode, ScoringRuns
from dynprune_env.selection.ranking import keep_top


@dataclass
class StaticAgent(Agent):
    """Keeps the samples with the highest scores for the whole run; scoring is charged to it."""

    paced: ClassVar[bool] = False

    def prepare(self, runs: ScoringRuns) -> None:
        """Computes the scores."""
        # A net that diverged while it scored says nothing: its samples are all alike.
        self._scores = np.nan_to_num(self.score(runs))

    @abstractmethod
    def score(self, runs: ScoringRuns) -> np.ndarray:
        """One score per sample, (R, n) or (n,), higher = keep."""

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._kept: np.ndarray | None = None

    def select(self, observation: Observation) -> np.ndarray:
        """The subset, chosen at the first epoch."""
        if self._kept is None:
            self._kept = self.choose(self._scores, self.keep_count(observation))
        return self._kept

    def choose(self, scores: np.ndarray, count: np.ndarray) -> np.ndarray:
        """The top `count` scores."""
        return keep_top(scores, count, self.rng)
