"""Dataset cartography.

Swayamdipta et al. (EMNLP 2020), "Dataset Cartography", arXiv:2009.10795: mean and standard
deviation over epochs of the probability of the label. The ambiguous samples, those of the highest
deviation, train best.
"""

from dataclasses import dataclass

import numpy as np

from dynprune_agents._agent import Rehearsal
from dynprune_agents.static._static import StaticAgent


@dataclass
class Cartography(StaticAgent):
    """Keeps the most ambiguous samples: the highest deviation of p (Swayamdipta et al. 2020)."""

    def score(self, rehearsal: Rehearsal) -> np.ndarray:
        """Standard deviation of the confidence over one full run."""
        return np.std([seen["confidence"] for seen in rehearsal.run(0, rehearsal.epochs)], axis=0)
