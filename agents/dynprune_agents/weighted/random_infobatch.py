"""InfoBatch's weights and annealing around a random choice: what its criterion is worth.

Reviewers of InfoBatch (Qin et al. 2024, arXiv:2303.04947) found a random criterion about as good as
the loss, once it anneals and rescales alike. Each epoch drops a random share r of all samples and
gives the others the gradient weight 1 / (1 - r); after floor(delta T) epochs, all data with
weight 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_agents.weighted.infobatch import InfoBatch
from dynprune_env.selection.drawing import keep_random


@dataclass
class RandomInfoBatch(InfoBatch):
    """Drops a random share r of all samples, weighs the rest up: the control of InfoBatch.

    Attributes:
        r: share of the samples that is dropped, in [0, 1): InfoBatch drops half of about half.
        delta: share of the run after which everything is kept, in [0, 1].
        rescale: whether kept samples get the weight 1 / (1 - r).
        anneal: whether everything is kept after delta.
    """

    source: ClassVar[str] = (
        "a control of ours, after reviewers of InfoBatch (Qin et al., ICLR 2024)"
    )
    columns = ()
    starts_full: ClassVar[bool] = False

    r: float = 0.25

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        n = self.episode.num_samples
        kept = keep_random(n, n - int(self.r * n), self.rng)
        weights = kept * np.float32(1 / (1 - self.r) if self.rescale else 1)
        weights[self.annealing(observation, self.delta) & self.anneal] = 1
        return weights
