"""UCB over loss averages.

Raju, Daruwalla, Lipasti (2021), arXiv:2111.12621: score = mean + c var of each sample's loss, with
the variance itself (not its root, no logarithm), keep the top K.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_agents._losses import LossMoments
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top


@dataclass
class UCB(PeriodicAgent):
    """The highest running mean plus c times running variance of the loss (Raju et al. 2021).

    Attributes:
        period: epochs between selections; None means 5 % of the run.
        warmup: full epochs before the first selection.
        c: weight of the variance, at least 0.
        a: weight of the newest loss in both averages, in (0, 1].
        from_zero: whether a sample's first loss v deviates from a mean of 0, as in the source: its
            variance is then a v², else 0.
    """

    source: ClassVar[str] = "Raju, Daruwalla, Lipasti 2021, arXiv:2111.12621"
    columns = ("loss", "visits")

    c: float = 1.0
    a: float = 0.8
    from_zero: bool = True

    def __post_init__(self) -> None:
        """Checks the parameters.

        Raises:
            ValueError: one is out of its range.
        """
        super().__post_init__()
        if self.c < 0 or not 0 < self.a <= 1:
            raise ValueError(f"c is at least 0 and a in (0, 1], got {self.c} and {self.a}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.moments = LossMoments(self.a, self.from_zero)

    def watch(self, observation: Observation) -> None:
        """Follows every loss."""
        self.moments.watch(observation)

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top scores."""
        return keep_top(self.moments.mean + self.c * self.moments.var, count, self.rng)
