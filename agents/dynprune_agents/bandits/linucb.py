"""LinUCB over sample features.

Li et al. (WWW 2010), "A Contextual-Bandit Approach to Personalized News Article Recommendation",
arXiv:1003.0146: score = w·x + alpha sqrt(x' A^-1 x), with A = ridge I + sum x x'.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.bandits._linear import FEATURES, LinearBandit


@dataclass
class LinUCB(LinearBandit):
    """The highest predicted loss plus alpha times its uncertainty (Li et al. 2010).

    Attributes:
        alpha: weight of the uncertainty, at least 0.
    """

    source: ClassVar[str] = "Li et al., WWW 2010, arXiv:1003.0146, on features of ours"
    columns = FEATURES

    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if self.alpha < 0:
            raise ValueError(f"alpha is at least 0, got {self.alpha}")

    def believe(self, weights: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, float]:
        """The mean, and alpha: the upper confidence bound."""
        return weights, self.alpha
