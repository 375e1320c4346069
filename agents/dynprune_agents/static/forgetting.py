"""Forgetting events.

Toneva et al. (ICLR 2019), "An Empirical Study of Example Forgetting during Deep Neural Network
Learning", arXiv:1812.05159: how often a sample goes from correct to wrong between consecutive
presentations. A sample that was never learned counts as the most forgotten of all, not the least.
"""

from dataclasses import dataclass

import numpy as np

from dynprune_agents._agent import Rehearsal
from dynprune_agents.static._static import StaticAgent


@dataclass
class Forgetting(StaticAgent):
    """Keeps the most forgotten samples, never-learned ones first (Toneva et al. 2019)."""

    def score(self, rehearsal: Rehearsal) -> np.ndarray:
        """Forgetting events over one full run; T + 1 for never learned."""
        learned: np.ndarray | bool = False
        for observation in rehearsal.run(0, rehearsal.epochs):
            learned = learned | (observation["correct"] > 0)
        return np.where(learned, observation["forgetting"], rehearsal.epochs + 1)
