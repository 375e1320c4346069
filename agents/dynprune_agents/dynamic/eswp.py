"""Evolved sampling that prunes between epochs: by the score, without a look at what is left out.

Cheng, Li, Bian (2025), "Data-Efficient Training by Evolved Sampling", arXiv:2509.23461;
second-hand. ESWP keeps a share of the samples for an epoch, drawn in proportion to the scores, and
forwards no others. Its second draw, inside each batch, is left out here: see `es`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents.dynamic.es import ES


@dataclass
class ESWP(ES):
    """Draws in proportion to the slow scores, dropped samples unseen (after Cheng et al. 2025).

    Attributes:
        b1: of `es`; nothing here reads it.
        b2: weight of the old score in the new one, in [0, 1).
        full: share of the run that is full at each end, in [0, 1): at least one epoch if not 0.
        least: share of the samples that an epoch keeps at least, in (0, 1].
    """

    source: ClassVar[str] = "second-hand: Cheng, Li, Bian 2025, arXiv:2509.23461"
    env_kwargs: ClassVar[dict[str, Any]] = {}
    columns = ("loss", "age")

    b2: float = 0.8
    least: float = 0.01

    def drawn_by(self, weight: np.ndarray, score: np.ndarray) -> np.ndarray:
        """The scores."""
        return score
