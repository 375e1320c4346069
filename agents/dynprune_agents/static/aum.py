"""AUM: the area under the margin.

Pleiss et al. (NeurIPS 2020), "Identifying Mislabeled Data using the Area Under the Margin Ranking",
arXiv:2001.10528: the mean over training of (logit of the label - largest other logit). A low area
marks hard or mislabelled samples.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


def area_under_margin(runs: ScoringRuns) -> np.ndarray:
    """The mean margin over one full run, in logits, (R, n) or (n,)."""
    area: np.ndarray = np.mean([seen["margin"] for seen in runs.run(0, runs.epochs)], axis=0)
    return area


@dataclass
class AUM(StaticAgent):
    """Keeps the highest areas under the margin: leaves out the mislabelled (Pleiss et al. 2020).

    Attributes:
        hard: True keeps the lowest areas instead, the hard samples of clean data.
    """

    source: ClassVar[str] = "Pleiss et al., NeurIPS 2020, arXiv:2001.10528"
    columns = ("margin",)

    hard: bool = False

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The area, with the sign that keeps what is wanted."""
        area = area_under_margin(runs)
        return -area if self.hard else area
