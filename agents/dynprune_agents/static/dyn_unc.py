"""Dyn-Unc: dynamic uncertainty.

He et al. (CVPR 2024 workshops), "Large-scale Dataset Pruning with Dynamic Uncertainty",
arXiv:2306.05175: the standard deviation of the label's probability in a sliding window of 10
epochs, averaged over the windows. As in the authors' code (BAAI-DCAI/Dataset-Pruning) the last
window, which ends with the last epoch, is left out. They take p in evaluation mode; here it is that
of the training pass.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


@dataclass
class DynUnc(StaticAgent):
    """Keeps the highest windowed deviation of the label's probability (He et al. 2024).

    Attributes:
        window: epochs in a window, at least 2; shorter runs use all of theirs.
        last: whether the last window counts.
    """

    source: ClassVar[str] = "He et al., CVPR 2024 workshops, arXiv:2306.05175"
    columns = ("confidence",)

    window: int = 10
    last: bool = False

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.window < 2:
            raise ValueError(f"window is at least 2 epochs, got {self.window}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The mean over windows."""
        p = np.array([seen["confidence"] for seen in runs.run(0, runs.epochs)])
        size = min(self.window, len(p))
        windows = [p[i : i + size].std(0) for i in range(len(p) - size + 1)]
        used = windows[:-1] if len(windows) > 1 and not self.last else windows
        score: np.ndarray = np.mean(used, axis=0)
        return score
