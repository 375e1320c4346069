"""PODS: how much is kept oscillates, what is kept is another rule's.

Yang et al. (2026), "Beyond What to Select: A Plug-and-play Oscillatory Data-Volume Scheduling",
arXiv:2605.14773; second-hand, and the schedule is our reading: cycles of epochs, first with a low
and then with a high keep rate, whose mean is that of the budget. Where a rule spends more or less
than it was told (a warm-up, a bound of its own), what is left is shared out among the epochs to
come, in proportion to their rates.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, check_shares
from dynprune_agents._wrapper import WrappingAgent
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import progress_entries


@dataclass
class PODS(WrappingAgent):
    """A rule whose epochs are small, then large, at the same total (after Yang et al. 2026).

    Only a rule that asks at every selection how many to keep (`Agent.paced`) can be told. Others
    are refused and not merely warned of: one that never asks would play as without this wrapper,
    and one that chooses once would keep the low rate for the whole run.

    Attributes:
        rule: spec of the rule; it has to keep as many as it is told (`keep_count`). The first
            cycle begins after its warm-up.
        swing: how far the low rate is below the mean and the high one above it, as a share of the
            mean, in (0, 1).
        cycle: epochs of a cycle, at least 2; None means 10 % of the run. Rounded to whole
            selections where the rule keeps each for several epochs, at least two of them.
    """

    source: ClassVar[str] = "second-hand: Yang et al. 2026, arXiv:2605.14773"
    columns = ()
    paced: ClassVar[bool] = False

    rule: str = "dynamic_random"
    swing: float = 0.4
    cycle: int | None = None

    def __post_init__(self) -> None:
        """Checks the rule and the parameters.

        Raises:
            ValueError: there is no such rule, it does not ask how many to keep, or a parameter is
                out of its range.
        """
        super().__post_init__()
        if not self._made().paced:
            raise ValueError(
                "pods takes a rule that asks at every selection how many samples to keep; "
                f"{self.rule} chooses once, or settles that itself"
            )
        check_shares(swing=self.swing)
        if not 0 < self.swing < 1 or (self.cycle is not None and self.cycle < 2):
            raise ValueError(
                f"swing is in (0, 1), cycle at least 2, got {self.swing} and {self.cycle}"
            )

    def reset(self, episode: Episode) -> None:
        """Begins a new episode.

        Raises:
            ValueError: all selections of the run are of the low rate.
        """
        super().reset(episode)
        first, every = self._rule.cadence()
        *_, lows, _ = self._cycle()
        chosen = every > 1 or self.cycle is not None  # not so in runs of an epoch or two
        if chosen and first < episode.epochs <= first + lows * every:
            raise ValueError(
                f"{self!r}: the low half of a cycle is {lows * every} epochs, and of the "
                f"{episode.epochs} of the run {episode.epochs - first} come after the warm-up: "
                "nothing would oscillate"
            )

    def rate(self, epoch: int | np.ndarray) -> np.ndarray:
        """The keep rate of an epoch, or of each of several: low, then high, in (0, 1]."""
        low, high, lows, length = self._cycle()
        first, every = self._rule.cadence()
        return np.where(np.maximum(0, epoch - first) // every % length < lows, low, high)

    def _cycle(self) -> tuple[float, float, int, int]:
        """Both rates, how many selections have the low one, and how many there are in a cycle."""
        epochs, every = self.episode.epochs, self._rule.cadence()[1]
        mean = self.episode.total_visits / (epochs * self.episode.num_samples)
        low, high = mean * (1 - self.swing), min(1.0, mean * (1 + self.swing))
        length = max(2, round((self.cycle or max(2, round(0.1 * epochs))) / every))
        # The share of low epochs that keeps the mean, rounded to whole epochs; the high rate makes
        # up for the rounding, and where it cannot (no rate is above 1) the low one does.
        lows = min(length - 1, max(1, round(length * (high - mean) / (high - low))))
        high = min(1.0, (length * mean - lows * low) / (length - lows))
        low = (length * mean - (length - lows) * high) / lows
        return low, high, lows, length

    def select(self, observation: Observation) -> np.ndarray:
        """What the rule selects, told another size."""
        count, epoch = self.keep_count(observation), self.epoch(observation)
        n, total = self.episode.num_samples, self.episode.total_visits
        if epoch + self._rule.cadence()[1] < self.episode.epochs:  # the last spends what is left
            rates = self.rate(np.arange(self.episode.epochs))
            planned = np.rint(rates * n)
            spent = total * progress_entries(observation["progress"])["spent"].astype(np.float64)
            as_planned = np.abs(planned[:epoch].sum() - spent) <= 1e-7 * total  # float32's digits
            if self.cycle is not None:  # where it ends amid its low half, the last may not hold all
                as_planned &= total - planned[:-1].sum() <= n
            shared = np.rint((total - spent) * rates[epoch] / rates[epoch:].sum())
            count = np.where(as_planned, planned[epoch], shared).astype(np.int64)
        self._rule.plan(count)
        return self._rule.select(observation)
