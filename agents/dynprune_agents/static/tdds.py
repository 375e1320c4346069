"""TDDS: how much the steps of a prediction vary.

Zhang et al. (CVPR 2024), "Spanning Training Progress: Temporal Dual-Depth Scoring for Enhanced
Dataset Pruning", arXiv:2311.13613; read in the authors' code (zhangxin-xd/Dataset-Pruning-TDDS).
With P_t the predicted probabilities after epoch t, a step is g_t = sum over the classes of
|P_{t+1} (log P_{t+1} - log P_t)|. In each window of J epochs: the Euclidean norm of the steps about
their mean; the windows are averaged with exponential weights, the last one .9. Highest scores are
kept. The authors take the predictions of training, free of charge; here they are those of a forward
pass after each epoch, charged. Their weighting of the kept samples' batches by the score is left
out.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import check_shares
from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns

DECAY = 0.9
"""Weight of the last window; the one before has a tenth of it, and so on."""


@dataclass
class TDDS(StaticAgent):
    """Keeps the most varied steps of the predicted probabilities (Zhang et al. 2024).

    Attributes:
        early: share of a full run that is watched, in (0, 1] (from .05 to .45, by the rate).
        window: epochs in a window, at least 3; shorter runs use all of theirs.
    """

    source: ClassVar[str] = "Zhang et al., CVPR 2024, arXiv:2311.13613"
    columns = ()

    early: float = 0.35
    window: int = 10

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("(0, 1]", early=self.early)
        if self.window < 3:
            raise ValueError(f"window is at least 3 epochs, got {self.window}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The weighted sum over the windows."""
        epochs = min(runs.epochs, max(3, round(self.early * runs.epochs)))
        logs: np.ndarray | None = None
        steps: list[np.ndarray] = []
        for _ in runs.run(0, epochs):
            p = runs.probabilities().astype(np.float64)
            before, logs = logs, np.log(p + 1e-8)
            if before is not None:
                steps.append(np.abs(p * (logs - before)).sum(-1))
        if not steps:  # a single epoch has no steps
            return np.zeros(p.shape[:-1])
        g = np.array(steps)
        size = min(self.window - 1, len(g))
        score = np.zeros(g.shape[1:])
        for start in range(len(g) - size + 1):
            score = (1 - DECAY) * score + DECAY * np.linalg.norm(
                g[start : start + size] - g[start : start + size].mean(0), axis=0
            )
        return score
