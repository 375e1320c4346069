"""Full data: every epoch visits every sample, until the budget is spent."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation


@dataclass
class FullData(Agent):
    """Keeps all samples: at budget 1 the reference, below it full data at equal compute."""

    source: ClassVar[str] = "the usual baseline"
    columns = ()
    paced: ClassVar[bool] = False

    def select(self, observation: Observation) -> np.ndarray:
        """Everything."""
        return self.everything(observation)
