"""The last losses that each sample's visits revealed, for rules that look at trajectories."""

from __future__ import annotations

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_env.common.restorable import restorable


@restorable
class LossHistory:
    """The last `length` losses of each sample, one per visit, and when they were.

    Attributes:
        losses: (length, R, n) or (length, n) float64, the newest last; NaN where there was none.
        epochs: the same shape, the epoch (from 1) of each; NaN likewise.
    """

    def __init__(self, length: int):
        self.length = length
        self._visits: np.ndarray | None = None

    def watch(self, observation: Observation, epoch: int) -> None:
        """Takes in what the epoch before this observation revealed; `epoch` are done."""
        visits, loss = observation["visits"], observation["loss"]
        if self._visits is None:
            self._visits = np.zeros_like(visits)
            self.losses = np.full((self.length, *visits.shape), np.nan)
            self.epochs = self.losses.copy()
        new = visits > self._visits
        for table, value in ((self.losses, loss), (self.epochs, epoch)):
            table[:] = np.where(new, np.concatenate([table[1:], table[:1]]), table)
            table[-1] = np.where(new, value, table[-1])
        self._visits = visits.copy()

    @property
    def counts(self) -> np.ndarray:
        """How many losses are known of each sample, (R, n) or (n,) int64."""
        return (~np.isnan(self.losses)).sum(0)
