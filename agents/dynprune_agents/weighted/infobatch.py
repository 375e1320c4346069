"""InfoBatch: drops part of the easy samples and weighs the rest of them up.

Qin et al. (ICLR 2024), "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
arXiv:2303.04947. Scores are the last losses, 3 before the first. Of the samples below the mean
score, a random share r is dropped, the others get the gradient weight 1 / (1 - r): the expected
sum of gradients over an epoch is that of all data. After floor(delta T) epochs, all data with
weight 1. The authors take the weights as they are: `weights="raw"` in the environment.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_agents._losses import START, below_mean
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import count_true, where


@dataclass
class InfoBatch(Agent):
    """Drops a random share r of the losses below the mean, weighs the rest up (Qin et al. 2024).

    Attributes:
        r: share of the easy samples that is dropped, in [0, 1).
        delta: share of the run after which everything is kept, in [0, 1].
        rescale: whether kept easy samples get the weight 1 / (1 - r).
        anneal: whether everything is kept after delta.
    """

    source: ClassVar[str] = "Qin et al., ICLR 2024, arXiv:2303.04947"
    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}
    columns: ClassVar[tuple[str, ...] | None] = ("loss", "visits")
    paced: ClassVar[bool] = False
    starts_full: ClassVar[bool] = True
    """Whether the first epoch drops nothing: no score is below the mean of equal ones."""

    r: float = 0.5
    delta: float = 0.875
    rescale: bool = True
    anneal: bool = True

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", r=self.r)
        check_shares(delta=self.delta)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.warn_of_full_epochs(self._full_epochs(), "raise delta or the budget")

    def _full_epochs(self) -> int:
        """Epochs on all data to begin with: all, where the annealing follows at once."""
        n, total, full = self.episode.num_samples, self.episode.total_visits, int(self.starts_full)
        progress = max(full / self.episode.epochs, full * n / total)
        anneals = self.anneal and progress >= self.annealing_begins(self.delta) - 1e-6
        return math.ceil(total / n) if anneals else full

    def scores(self, observation: Observation) -> np.ndarray:
        """The last losses, (R, n) or (n,)."""
        return where(observation["visits"] > 0, observation["loss"], START)

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        scores = self.scores(observation)
        easy = below_mean(scores)
        if self.anneal:
            easy &= ~self.annealing(observation, self.delta)[..., None]
        count = (self.r * count_true(easy)).astype(np.int64)
        dropped = keep_random(easy.shape[-1], count, self.rng, easy)
        kept = np.float32(1 / (1 - self.r) if self.rescale else 1)
        if not HAS_NUMBA:
            return (easy ^ dropped) * kept + ~easy  # of the easy ones, those that are not dropped
        from dynprune_agents._losses_kernels import fill_weights  # slow to import

        weights = np.empty(easy.shape, np.float32)
        fill_weights(easy.reshape(-1), dropped.reshape(-1), kept, weights.reshape(-1))
        return weights
