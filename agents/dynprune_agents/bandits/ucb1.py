"""UCB1 over strategies: a true exploration bonus.

Auer, Cesa-Bianchi, Fischer (2002), "Finite-time Analysis of the Multiarmed Bandit Problem": pull
the arm with the highest mean reward + c sqrt(2 ln t / pulls), each arm once first.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.bandits._arms import StrategyBandit
from dynprune_env.selection.actions import STRATEGY_COLUMNS


@dataclass
class UCB1(StrategyBandit):
    """Picks a strategy each epoch by mean reward + c sqrt(2 ln t / pulls) (Auer et al. 2002).

    Attributes:
        c: weight of the exploration bonus, at least 0; rewards are in [-1, 1].
    """

    source: ClassVar[str] = "Auer, Cesa-Bianchi, Fischer 2002, on strategies of ours"
    columns = STRATEGY_COLUMNS

    c: float = 0.5

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.c < 0:
            raise ValueError(f"c is at least 0, got {self.c}")

    def pick(self) -> np.ndarray:
        """The highest upper confidence bound."""
        pulls = np.maximum(self.pulls, 1)
        t = np.maximum(self.pulls.sum(1, keepdims=True), 1)
        bound = self.sums / pulls + self.c * np.sqrt(2 * np.log(t) / pulls)
        arms: np.ndarray = np.where(self.pulls == 0, np.inf, bound).argmax(1)
        return arms
