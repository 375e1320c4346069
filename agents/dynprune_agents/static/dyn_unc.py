"""Dyn-Unc: dynamic uncertainty.

He et al. (CVPR 2024 workshops), "Large-scale Dataset Pruning with Dynamic Uncertainty",
arXiv:2306.05175: the standard deviation of the label's probability in a sliding window of 10
epochs, averaged over the windows.
"""

from dataclasses import dataclass

import numpy as np

from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


@dataclass
class DynUnc(StaticAgent):
    """Keeps the highest windowed deviation of the label's probability (He et al. 2024).

    Attributes:
        window: epochs in a window, at least 2; shorter runs use all of theirs.
    """

    window: int = 10

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.window < 2:
            raise ValueError(f"window is at least 2 epochs, got {self.window}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The mean over windows."""
        p = np.array([seen["confidence"] for seen in runs.run(0, runs.epochs)])
        size = min(self.window, len(p))
        score: np.ndarray = np.mean(
            [p[i : i + size].std(0) for i in range(len(p) - size + 1)], axis=0
        )
        return score
