"""AUM: the area under the margin.

Pleiss et al. (NeurIPS 2020), "Identifying Mislabeled Data using the Area Under the Margin Ranking",
arXiv:2001.10528: the mean over training of (logit of the label - largest other logit). A low area
marks hard or mislabelled samples.
"""

from dataclasses import dataclass

import numpy as np

from dynprune_agents._agent import Rehearsal
from dynprune_agents.static._static import StaticAgent


def area_under_margin(rehearsal: Rehearsal) -> np.ndarray:
    """The mean margin over one full run, in logits, (R, n) or (n,)."""
    return np.mean([seen["margin"] for seen in rehearsal.run(0, rehearsal.epochs)], axis=0)


@dataclass
class AUM(StaticAgent):
    """Keeps the highest areas under the margin: leaves out the mislabelled (Pleiss et al. 2020).

    Attributes:
        hard: True keeps the lowest areas instead, the hard samples of clean data.
    """

    hard: bool = False

    def score(self, rehearsal: Rehearsal) -> np.ndarray:
        """The area, with the sign that keeps what is wanted."""
        area = area_under_margin(rehearsal)
        return -area if self.hard else area
