"""Importance sampling by loss.

Katharopoulos & Fleuret (ICML 2018), "Not All Samples Are Created Equal", arXiv:1803.00942, with the
loss as importance: samples are drawn without replacement with p proportional to their last loss,
and weigh 1 / (n p), so that the expected gradient is that of all data, up to the correction that
drawing without replacement would ask for.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_env.selection.actions import MAX_WEIGHT
from dynprune_env.selection.ranking import keep_top


@dataclass
class ImportanceSampling(Agent):
    """Draws with p proportional to the loss, weighs 1 / (n p) (Katharopoulos & Fleuret 2018).

    Attributes:
        uniform: share of a uniform distribution mixed into p, in (0, 1]: bounds the weights by
            1 / uniform.
        rescale: whether kept samples weigh 1 / (n p) instead of 1.
    """

    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}

    uniform: float = 0.1
    rescale: bool = True

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("(0, 1]", uniform=self.uniform)
        if self.uniform < 1 / MAX_WEIGHT:
            raise ValueError(f"uniform is at least {1 / MAX_WEIGHT}, got {self.uniform}")

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        loss = observation["loss"]
        n = loss.shape[-1]
        total = loss.sum(-1, keepdims=True, dtype=np.float64)
        # n p, where p is proportional to the loss.
        relative = loss * np.where(total > 0, n / np.where(total > 0, total, 1), 0).astype(
            loss.dtype
        )
        relative = np.where(total > 0, relative, np.float32(1))
        relative = np.float32(1 - self.uniform) * relative + np.float32(self.uniform)
        # The largest u^(1/p) are a draw without replacement (Efraimidis & Spirakis 2006).
        draws = np.maximum(self.rng.random(n), 1e-30).astype(np.float32)
        kept = keep_top(np.log(draws) / relative, self.keep_count(observation), self.rng)
        weights = 1 / relative if self.rescale else np.ones_like(relative)
        return np.where(kept, weights, np.float32(0))
