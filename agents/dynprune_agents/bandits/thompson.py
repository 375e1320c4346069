"""Thompson sampling over strategies.

Thompson (1933), with Gaussian rewards and the prior N(0, sigma²), after Agrawal & Goyal (2013):
draw each mean from its posterior N(sum / (1 + pulls), sigma² / (1 + pulls)), pull the highest.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.bandits._arms import StrategyBandit
from dynprune_env.selection.actions import STRATEGY_COLUMNS


@dataclass
class Thompson(StrategyBandit):
    """Picks a strategy each epoch by a draw from its posterior (Thompson 1933).

    Attributes:
        sigma: standard deviation of a reward, positive; rewards are in [-1, 1].
    """

    source: ClassVar[str] = "Thompson 1933; Agrawal & Goyal 2013, on strategies of ours"
    columns = STRATEGY_COLUMNS

    sigma: float = 0.5

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if not self.sigma > 0:
            raise ValueError(f"sigma is positive, got {self.sigma}")

    def pick(self) -> np.ndarray:
        """The highest draw."""
        size = len(self.rng.seeds)
        noise = np.stack([self.rng.row(row).normal(size=self.num_arms) for row in range(size)])
        draws = self.sums / (1 + self.pulls) + self.sigma * noise / np.sqrt(1 + self.pulls)
        arms: np.ndarray = draws.argmax(1)
        return arms
