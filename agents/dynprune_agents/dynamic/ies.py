"""IES: a sample is stopped while its loss has settled.

Yuan et al. (ICLR 2025), "Instance-dependent Early Stopping", arXiv:2502.07547; read in the authors'
code (tmllab/2025_ICLR_IES). At the end of every epoch each sample has a loss: of its training or,
if it was left out, of a forward pass (`observe="all"`, a third of a visit each). It is left out
while the mean size of the last three second differences of its loss is below delta, and comes back
as soon as it is not.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.selection.agent import Episode


@dataclass
class IES(Agent):
    """Leaves out a sample while the second differences of its loss are small (Yuan et al. 2025).

    It has no pace: what it saves depends on delta, and the losses of short runs hardly settle.

    Attributes:
        delta: mean size of the second differences, in nats, below which a sample is left out: the
            authors' 1e-3 for CIFAR-10 and twice that for CIFAR-100, in 200 epochs.
        window: how many second differences are averaged, at least 1.
    """

    source: ClassVar[str] = "Yuan et al., ICLR 2025, arXiv:2502.07547"
    env_kwargs: ClassVar[dict[str, Any]] = {"observe": "all"}
    columns = ("loss",)
    paced: ClassVar[bool] = False

    delta: float = 1e-3
    window: int = 3

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.delta < 0 or self.window < 1:
            raise ValueError(
                f"delta is at least 0, window at least 1, got {self.delta} and {self.window}"
            )

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.warn_of_full_epochs(self.window + 3, "lower window, or raise the budget")
        self._known = 0  # losses so far
        self._seconds: deque[np.ndarray] = deque()

    def select(self, observation: Observation) -> np.ndarray:
        """Everything that has not settled."""
        if self.epoch(observation) > 0:
            self._remember(observation["loss"])
        # The authors' history has one second difference more than it averages.
        if self._known < self.window + 3:
            return np.ones(observation["loss"].shape, dtype=bool)
        total = self._spare
        total[...] = self._seconds[0]
        for second in list(self._seconds)[1:]:
            total += second
        total /= self.window
        return total >= self.delta

    def _remember(self, loss: np.ndarray) -> None:
        """Adds the size of the newest second difference; the oldest one's memory is used again."""
        self._known += 1
        if self._known == 1:
            self._loss = loss.astype(np.float64)
            self._change, self._spare = np.zeros_like(self._loss), np.empty_like(self._loss)
            return
        full = len(self._seconds) == self.window
        second = self._seconds.popleft() if full else np.empty_like(self._loss)
        np.subtract(loss, self._loss, out=self._spare)
        np.subtract(self._spare, self._change, out=second)
        np.abs(second, out=second)
        self._change, self._spare = self._spare, self._change
        self._loss[...] = loss
        if self._known > 2:
            self._seconds.append(second)
