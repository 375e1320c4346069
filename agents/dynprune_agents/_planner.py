"""A small network from the summary of a run to score weights: it plans for all samples at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynprune_agents._network import FlatNetwork
from dynprune_env.selection.actions import ScoreWeights
from dynprune_env.selection.observations import Summary


@dataclass(frozen=True)
class Planner(FlatNetwork):
    """Observation `summary` to action `score_weights`: tanh(x A + b) W + c, clipped to [-1, 1].

    The actor of a Stable-Baselines3 `MlpPolicy` with one hidden layer. With W and c zero it is
    dynamic random.

    Attributes:
        width: hidden units.
    """

    width: int = 16

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in order."""
        x, h, y = len(Summary.NAMES), self.width, len(ScoreWeights.NAMES)
        return {"A": (x, h), "b": (h,), "W": (h, y), "c": (y,)}

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Random first-layer weights, all else zero, (P,) float32."""
        flat = np.zeros(self.num_parameters, dtype=np.float32)
        first = self.split(flat)["A"]
        first[:] = rng.standard_normal(first.shape) / np.sqrt(len(first))
        return flat

    def act(self, flat: np.ndarray, observation: np.ndarray) -> np.ndarray:
        """(R, 9) float32 actions.

        Args:
            flat: (P,) or (R, P) float32.
            observation: (R, 36).
        """
        p = self.split(flat)
        hidden = np.tanh((observation[:, None] @ p["A"])[:, 0] + p["b"])
        return np.clip((hidden[:, None] @ p["W"])[:, 0] + p["c"], -1, 1)
