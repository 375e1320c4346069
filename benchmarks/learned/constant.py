"""Controls: one tilt, the same in every epoch, whatever happens; and larger steps alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np

from dynprune_agents import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_env.selection.tilts import Tilts

PLANS = list(product(Tilts.FEATURES, (-0.5, -0.2, 0.2, 0.5)))
"""The plans that are played: one tilt each, towards either side, a little or much."""


@dataclass
class Constant(Agent):
    """A plan that looks at nothing.

    Attributes:
        feature: the name of a tilt.
        value: its value, in [-1, 1]; the others stay 0.
    """

    source: ClassVar[str] = "a control of ours"
    env_kwargs: ClassVar[dict[str, Any]] = {"observation": "run", "action": "tilts"}

    feature: str = "loss"
    value: float = 0.0

    def select(self, observation: np.ndarray) -> np.ndarray:
        """(R, 8) tilts or (8,)."""
        action = np.zeros((*observation.shape[:-1], len(Tilts.NAMES)), dtype=np.float32)
        action[..., Tilts.NAMES.index(self.feature)] = self.value
        return action


@dataclass
class LargerSteps(DynamicRandom):
    """Dynamic random whose kept samples all weigh the same: with raw weights, a step size.

    Attributes:
        factor: the weight, above 0.
    """

    source: ClassVar[str] = "a control of ours"
    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}

    factor: float = 2.0

    def select(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """(R, n) float32 or (n,)."""
        return super().select(observation) * np.float32(self.factor)
