"""Dynamic random: a fresh random subset each period.

Raju, Daruwalla, Lipasti (2021), arXiv:2111.12621; RS2 of Okanovic et al. (2023), arXiv:2305.18424.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import keep_top


@dataclass
class DynamicRandom(PeriodicAgent):
    """A fresh uniform random subset each period (Raju et al. 2021; RS2, Okanovic et al. 2023).

    Attributes:
        period: epochs between selections.
        warmup: full epochs before the first selection.
        replacement: True draws each subset from all samples; False deals out disjoint blocks of
            one permutation, and a new permutation when it is used up (RS2 without replacement).
    """

    source: ClassVar[str] = (
        "Raju et al. 2021, arXiv:2111.12621; RS2: Okanovic et al. 2023, arXiv:2305.18424"
    )

    period: int | None = 1
    warmup: int = 0
    replacement: bool = True

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """Without replacement it reads who was visited least."""
        return () if self.replacement else ("visits",)

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """Uniform, or uniform among the samples visited least often."""
        if self.replacement:
            return keep_random(self.episode.num_samples, count, self.rng)
        return keep_top(-observation["visits"], count, self.rng)
