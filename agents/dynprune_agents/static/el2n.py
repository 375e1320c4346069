"""EL2N: the early error.

Paul, Ganguli, Dziugaite (NeurIPS 2021), "Deep Learning on a Data Diet", arXiv:2107.07075: the
distance between softmax and one-hot label of every sample under one early checkpoint, averaged
over several nets. Each checkpoint costs its epochs, and a forward pass over all samples.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import check_shares
from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


@dataclass
class EL2N(StaticAgent):
    """Keeps the highest early EL2N scores, averaged over nets (Paul et al. 2021).

    Attributes:
        nets: how many nets are averaged (the paper's 10).
        early: share of a full run after which the score is taken, in (0, 1] (20 of 200 epochs).
    """

    source: ClassVar[str] = "Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075"
    columns = ()

    nets: int = 10
    early: float = 0.1

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("(0, 1]", early=self.early)
        if self.nets < 1:
            raise ValueError(f"nets is at least 1, got {self.nets}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The mean score."""
        epochs = max(1, round(self.early * runs.epochs))
        scores = []
        for net in range(self.nets):
            list(runs.run(net, epochs))
            scores.append(runs.values().el2n)
        score: np.ndarray = np.mean(scores, axis=0)
        return score
