"""PODS: how much is kept oscillates, what is kept is another rule's.

Yang et al. (2026), "Beyond What to Select: A Plug-and-play Oscillatory Data-Volume Scheduling",
arXiv:2605.14773; second-hand, and the schedule is our reading: cycles of epochs, first with a low
and then with a high keep rate, whose mean is that of the budget.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, check_shares
from dynprune_agents._wrapper import WrappingAgent


@dataclass
class PODS(WrappingAgent):
    """A rule whose epochs are small, then large, at the same total (after Yang et al. 2026).

    Attributes:
        rule: spec of the rule; it has to keep as many as it is told (`keep_count`).
        swing: how far the low rate is below the mean and the high one above it, as a share of the
            mean, in (0, 1).
        cycle: epochs of a cycle, at least 2; None means 10 % of the run.
    """

    source: ClassVar[str] = "second-hand: Yang et al. 2026, arXiv:2605.14773"
    columns = ()

    rule: str = "dynamic_random"
    swing: float = 0.4
    cycle: int | None = None

    def __post_init__(self) -> None:
        """Checks the rule and the parameters.

        Raises:
            ValueError: there is no such rule, or a parameter is out of its range.
        """
        super().__post_init__()
        check_shares(swing=self.swing)
        if not 0 < self.swing < 1 or (self.cycle is not None and self.cycle < 2):
            raise ValueError(
                f"swing is in (0, 1), cycle at least 2, got {self.swing} and {self.cycle}"
            )

    def rate(self, epoch: int) -> float:
        """The keep rate of an epoch, in (0, 1]: low, then high; their mean over a cycle is r."""
        mean = self.episode.total_visits / (self.episode.epochs * self.episode.num_samples)
        low, high = mean * (1 - self.swing), min(1.0, mean * (1 + self.swing))
        length = self.cycle or max(2, round(0.1 * self.episode.epochs))
        # The share of low epochs that keeps the mean, rounded to whole epochs; the high rate makes
        # up for the rounding, and where it cannot (no rate is above 1) the low one does.
        lows = min(length - 1, max(1, round(length * (high - mean) / (high - low))))
        high = min(1.0, (length * mean - lows * low) / (length - lows))
        low = (length * mean - (length - lows) * high) / lows
        return low if epoch % length < lows else high

    def select(self, observation: Observation) -> np.ndarray:
        """What the rule selects, told another size."""
        even = self.keep_count(observation)
        count = round(self.rate(self.epoch(observation)) * self.episode.num_samples)
        last = self.epoch(observation) == self.episode.epochs - 1  # spends what is left
        self._rule.plan(even if last else np.full_like(even, count))
        return self._rule.select(observation)
