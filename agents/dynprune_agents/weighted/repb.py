"""RePB: drops easy samples, brings unused ones back.

ICLR 2026, as reported second-hand: samples below the mean loss are dropped with probability rho;
dropped ones that were not used in the last epoch are added back with probability 1 - rho; a kept
sample weighs (epochs so far) / (times it was trained).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_agents._losses import below_mean
from dynprune_env.selection.actions import MAX_WEIGHT


@dataclass
class RePB(Agent):
    """Drops below-mean losses with probability rho, re-adds the unused with 1 - rho (RePB, 2026).

    Attributes:
        rho: drop probability, in [0, 1).
        rescale: whether kept samples weigh in proportion to epochs / times trained.
    """

    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}

    rho: float = 0.5
    rescale: bool = True

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", rho=self.rho)

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        loss, visits = observation["loss"], observation["visits"]
        draws = self.rng.random(loss.shape[-1])
        used = (observation["age"] == 0) | (self.epoch(observation) == 0)
        easy = below_mean(loss)
        kept = np.where(used, ~easy | (draws >= self.rho), draws < 1 - self.rho)
        seen = (self.epoch(observation) + 1) / (visits + 1)
        weights = np.where(kept, seen if self.rescale else 1.0, 0.0)
        # A mean of 1 over the kept: the weights shift emphasis, not the learning rate.
        mean = weights.sum(-1, keepdims=True) / np.maximum(1, kept.sum(-1, keepdims=True))
        return np.minimum(weights / np.where(mean > 0, mean, 1), MAX_WEIGHT).astype(np.float32)
