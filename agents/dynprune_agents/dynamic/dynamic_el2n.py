"""Dynamic EL2N: the static score, recomputed on the way.

Raju et al. (2021) and later authors select periodically by EL2N (Paul et al. 2021,
arXiv:2107.07075), the distance between softmax and one-hot label, after a full warm-up;
second-hand. Here it is that of each sample's last visit.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_env.selection.ranking import keep_top


@dataclass
class DynamicEL2N(PeriodicAgent):
    """The highest EL2N of the last visit, selected anew each period (after Paul et al. 2021)."""

    source: ClassVar[str] = (
        "second-hand: Raju et al. 2021, by the EL2N of Paul et al. 2021, arXiv:2107.07075"
    )
    columns = ("el2n",)

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top scores."""
        return keep_top(observation["el2n"], count, self.rng)
