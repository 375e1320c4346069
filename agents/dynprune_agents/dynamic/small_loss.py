"""Small loss: a curriculum that leaves out what does not fit.

Self-paced learning (Kumar et al., NeurIPS 2010) keeps the samples with a loss below lambda, which
grows; small-loss selection against label noise (Han et al. 2018, arXiv:1804.06872) stops it before
the wrong labels come in. Lambda is a quantile of the last losses.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent, check_shares
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import keep_top


@dataclass
class SmallLoss(PeriodicAgent):
    """A random draw from the losses below a growing quantile (Kumar et al. 2010).

    Attributes:
        period: epochs between selections.
        warmup: full epochs before the first selection.
        start: the quantile lambda at the start, in (0, 1].
        end: the quantile lambda at the end, in (0, 1]: one minus the share of wrong labels.
    """

    source: ClassVar[str] = "Kumar et al., NeurIPS 2010; Han et al. 2018, arXiv:1804.06872"
    columns = ("loss",)

    period: int | None = 1
    start: float = 0.4
    end: float = 0.8

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        check_shares("(0, 1]", start=self.start, end=self.end)

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """Uniform among the lowest losses."""
        n = self.episode.num_samples
        share = self.start + (self.end - self.start) * self.progress(observation)
        below = np.maximum(1, np.rint(share * n)).astype(np.int64)
        candidates = keep_top(-observation["loss"], below, self.rng)
        return keep_random(n, np.minimum(count, below), self.rng, candidates)
