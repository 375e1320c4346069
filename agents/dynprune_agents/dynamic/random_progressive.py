"""The random twin of progressive data dropout: as many samples, whichever.

Progressive Data Dropout (NeurIPS 2025), arXiv:2505.22342, calls it schedule-matched random dropout;
read in the authors' code. It counts the samples below tau under its own model, and trains as many
at random.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents.dynamic.progressive_dropout import ProgressiveDropout
from dynprune_env.selection.drawing import keep_random


@dataclass
class RandomProgressive(ProgressiveDropout):
    """As many random samples as have p(label) < tau, all in the last epoch (2505.22342, 2025).

    Attributes:
        tau: probability of the label below which a sample counts, in (0, 1].
    """

    source: ClassVar[str] = (
        "Progressive Data Dropout, NeurIPS 2025, arXiv:2505.22342: its random twin"
    )
    columns = ("confidence",)

    def drawn(self, kept: np.ndarray) -> np.ndarray:
        """A random draw of as many."""
        return keep_random(kept.shape[-1], kept.sum(-1), self.rng)
