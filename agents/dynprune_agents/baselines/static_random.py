"""Static random: one random subset for the whole run."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top


@dataclass
class StaticRandom(Agent):
    """One uniform random subset for the whole run: the baseline of static pruning."""

    source: ClassVar[str] = "the usual baseline of static pruning"
    columns = ()
    paced: ClassVar[bool] = False

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._kept: np.ndarray | None = None

    def select(self, observation: Observation) -> np.ndarray:
        """The subset, drawn at the first epoch."""
        if self._kept is None:
            scores = self.rng.random(self.episode.num_samples)
            self._kept = keep_top(scores, self.keep_count(observation), self.rng)
        return self._kept
