"""GraNd: the norm of a sample's gradient.

Paul, Ganguli, Dziugaite (NeurIPS 2021), "Deep Learning on a Data Diet", arXiv:2107.07075: the
expected norm of the per-sample gradient of the loss, early in training, averaged over several nets.
A sample's gradient is charged as a visit.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import check_shares
from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


@dataclass
class GraNd(StaticAgent):
    """Keeps the highest early gradient norms, averaged over nets (Paul et al. 2021).

    Attributes:
        nets: how many nets are averaged (the paper's 10).
        early: share of a full run after which the score is taken, in [0, 1]; 0 is initialisation.
        chunk: samples whose gradients are held at a time; None for as many as 64 MB hold.
    """

    source: ClassVar[str] = "Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075"
    columns = ()

    nets: int = 10
    early: float = 0.1
    chunk: int | None = None

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares(early=self.early)
        if self.nets < 1 or (self.chunk is not None and self.chunk < 1):
            raise ValueError(f"nets and chunk are at least 1, got {self.nets} and {self.chunk}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The mean norm."""
        norms = []
        for net in range(self.nets):
            list(runs.run(net, round(self.early * runs.epochs)))
            norms.append(runs.gradient_norms(self.chunk))
        return np.mean(norms, axis=0)
