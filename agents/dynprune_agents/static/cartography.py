"""Dataset cartography.

Swayamdipta et al. (EMNLP 2020), "Dataset Cartography", arXiv:2009.10795: mean and standard
deviation over epochs of the probability of the label. The ambiguous samples, those of the highest
deviation, train best.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


@dataclass
class Cartography(StaticAgent):
    """Keeps the most ambiguous samples: the highest deviation of p (Swayamdipta et al. 2020)."""

    source: ClassVar[str] = "Swayamdipta et al., EMNLP 2020, arXiv:2009.10795"
    columns = ("confidence",)

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """Standard deviation of the confidence over one full run."""
        score: np.ndarray = np.std(
            [seen["confidence"] for seen in runs.run(0, runs.epochs)], axis=0
        )
        return score
