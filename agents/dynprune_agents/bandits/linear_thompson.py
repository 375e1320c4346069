"""Linear Thompson sampling over sample features.

Agrawal & Goyal (ICML 2013), "Thompson Sampling for Contextual Bandits with Linear Payoffs",
arXiv:1209.3352: draw the weights from N(w, v² A^-1) at each selection, keep the highest w·x.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.bandits._linear import FEATURES, LinearBandit


@dataclass
class LinearThompson(LinearBandit):
    """The highest loss under weights drawn from their posterior (Agrawal & Goyal 2013).

    Attributes:
        v: scale of the posterior, at least 0.
    """

    source: ClassVar[str] = "Agrawal & Goyal, ICML 2013, arXiv:1209.3352, on features of ours"
    columns = FEATURES

    v: float = 1.0

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if self.v < 0:
            raise ValueError(f"v is at least 0, got {self.v}")

    def believe(self, weights: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, float]:
        """One draw, whose prediction is all."""
        size = weights.shape[-1]
        rows = [self.rng.row(row).normal(size=size) for row in range(len(self.rng.seeds))]
        noise = np.reshape(rows, weights.shape)[..., None]
        return weights + self.v * (np.linalg.cholesky(covariance) @ noise)[..., 0], 0.0
