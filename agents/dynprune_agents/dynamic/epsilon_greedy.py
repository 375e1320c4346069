"""Epsilon-greedy over loss averages.

Raju, Daruwalla, Lipasti (2021), arXiv:2111.12621. Of the K kept samples, int(epsilon K) are drawn
uniformly, without replacement, from those that the greedy rule leaves out.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_agents._losses import LossMoments
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import keep_top


@dataclass
class EpsilonGreedy(PeriodicAgent):
    """The highest running mean losses, and a random share of the rest (Raju et al. 2021).

    Attributes:
        period: epochs between selections; None means 5 % of the run.
        warmup: full epochs before the first selection.
        epsilon: share of the kept samples that is drawn at random, in [0, 1].
        a: weight of the newest loss in the running mean, in (0, 1].
    """

    source: ClassVar[str] = "Raju, Daruwalla, Lipasti 2021, arXiv:2111.12621"
    columns = ("loss", "visits")

    epsilon: float = 0.1
    a: float = 0.8

    def __post_init__(self) -> None:
        """Checks the parameters.

        Raises:
            ValueError: one is out of its range.
        """
        super().__post_init__()
        if not 0 <= self.epsilon <= 1 or not 0 < self.a <= 1:
            raise ValueError(
                f"epsilon is in [0, 1] and a in (0, 1], got {self.epsilon} and {self.a}"
            )

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.moments = LossMoments(self.a)

    def watch(self, observation: Observation) -> None:
        """Follows every loss."""
        self.moments.watch(observation)

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """K - int(epsilon K) by score, int(epsilon K) from the rest."""
        explored = (self.epsilon * count).astype(np.int64)
        greedy = keep_top(self.moments.mean, count - explored, self.rng)
        drawn = keep_random(greedy.shape[-1], explored, self.rng, ~greedy)
        kept: np.ndarray = greedy | drawn
        return kept
