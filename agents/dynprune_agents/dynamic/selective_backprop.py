"""Selective backprop, once per epoch.

Jiang et al. (2019), "Accelerating Deep Learning by Focusing on the Biggest Losers",
arXiv:1910.00762. Keeps each sample with probability percentile(loss)^beta, whose mean is
1 / (1 + beta). The percentile is the share of losses below it, so the lowest is never kept. The
first epoch trains everything. The original decides batch by batch after a forward pass, among the
last 1,024 losses; here the percentile is that of the last known loss among all.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_agents._percentiles import drawn_by_rank
from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import rank


@dataclass
class SelectiveBackprop(Agent):
    """Keeps a sample with probability (percentile of its loss)^beta (Jiang et al. 2019).

    Attributes:
        beta: selectivity, at least 0: 1 keeps half, 3 a quarter (the paper's); None spends the
            rest of the budget evenly.
    """

    source: ClassVar[str] = "Jiang et al. 2019, arXiv:1910.00762"
    columns = ("loss",)

    beta: float | None = None

    @property
    def paced(self) -> bool:  # type: ignore[override]
        """Not with a beta, which says how many are kept."""
        return self.beta is None

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.beta is not None and self.beta < 0:
            raise ValueError(f"beta is at least 0, got {self.beta}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.warn_of_full_epochs(1, "its first epoch is full, raise the budget")

    def select(self, observation: Observation) -> np.ndarray:
        """Independent draws."""
        n = self.episode.num_samples
        if self.epoch(observation) == 0:
            return np.ones(observation["loss"].shape, dtype=bool)
        loss, beta = observation["loss"], self.beta
        if beta is None:
            beta = (n / np.maximum(1, self.keep_count(observation)) - 1)[..., None]
        if HAS_NUMBA and n >= LARGE:
            rows = np.atleast_2d(loss)
            betas = np.broadcast_to(np.ravel(beta), len(rows))
            kept = [drawn_by_rank(rows[r], betas[r], self.rng.only(r)) for r in range(len(rows))]
            return np.reshape(kept, loss.shape)
        percentile = rank(loss, self.rng) / n
        return self.rng.random(n) < percentile**beta
