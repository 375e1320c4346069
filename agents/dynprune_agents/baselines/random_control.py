"""What a rule's numbers are worth without its choice: as many samples, as large steps, at random.

A control, not a published rule: in every epoch it asks the rule, keeps as many samples at random,
and gives each the mean of the rule's gradient weights. What the rule gains over it is selection and
emphasis, not the number of visits nor the size of the steps.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_agents._wrapper import WrappingAgent
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import count_true


@dataclass
class RandomControl(WrappingAgent):
    """A random choice with the number of samples and the mean weight that a rule would have.

    Attributes:
        rule: spec of the rule.
    """

    source: ClassVar[str] = "a control of ours"
    columns = ()

    rule: str = "infobatch"

    @property
    def paced(self) -> bool:  # type: ignore[override]
        """If the rule is."""
        return self._rule.paced

    def cadence(self) -> tuple[int, int]:
        """That of the rule."""
        return self._rule.cadence()

    def plan(self, count: np.ndarray) -> None:
        """Tells the rule, which is asked how many to keep."""
        self._rule.plan(count)

    def select(self, observation: Observation) -> np.ndarray:
        """A random mask, or weights that are all the same."""
        asked = self._rule.select(observation)
        count = count_true(asked != 0)
        mask = keep_random(self.episode.num_samples, count, self.rng)
        if asked.dtype == bool:
            return mask
        mean = asked.sum(-1, dtype=np.float64) / np.maximum(1, count)
        return mask * mean[..., None].astype(np.float32)
