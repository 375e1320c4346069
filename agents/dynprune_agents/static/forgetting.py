"""Forgetting events.

Toneva et al. (ICLR 2019), "An Empirical Study of Example Forgetting during Deep Neural Network
Learning", arXiv:1812.05159: how often a sample goes from correct to wrong between consecutive
presentations. A sample that was never learned counts as the most forgotten of all, not the least.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


@dataclass
class Forgetting(StaticAgent):
    """Keeps the most forgotten samples, never-learned ones first (Toneva et al. 2019)."""

    source: ClassVar[str] = "Toneva et al., ICLR 2019, arXiv:1812.05159"
    columns = ("correct", "forgetting")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """Forgetting events over one full run; T + 1 for never learned."""
        learned: np.ndarray | bool = False
        for observation in runs.run(0, runs.epochs):
            learned = learned | (observation["correct"] > 0)
        return np.where(learned, observation["forgetting"], runs.epochs + 1)
