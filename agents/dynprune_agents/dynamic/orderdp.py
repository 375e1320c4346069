"""OrderDP: the hardest of a random draw.

ICLR 2026. Each epoch draws int(ratio_s n) samples uniformly and keeps the int(ratio_q s) with the
highest last loss (3 before the first visit): exact sizes, no weights, no annealing.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_agents._losses import START
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import keep_top, where


@dataclass
class OrderDP(Agent):
    """The highest losses of a fresh random subset (OrderDP, 2026).

    Attributes:
        ratio_s: share of all samples that is drawn, in (0, 1].
        ratio_q: share of the drawn ones that is kept, in (0, 1].
    """

    source: ClassVar[str] = "OrderDP, ICLR 2026"
    columns = ("loss", "visits")
    paced: ClassVar[bool] = False

    ratio_s: float = 0.75
    ratio_q: float = 0.85

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("(0, 1]", ratio_s=self.ratio_s, ratio_q=self.ratio_q)

    def select(self, observation: Observation) -> np.ndarray:
        """A draw, then the top of it."""
        n = self.episode.num_samples
        size = int(self.ratio_s * n)
        drawn = keep_random(n, size, self.rng)
        scores = where(observation["visits"] > 0, observation["loss"], START)
        return keep_top(where(drawn, scores, -np.inf), int(self.ratio_q * size), self.rng)
