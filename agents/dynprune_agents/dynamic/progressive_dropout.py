"""Progressive data dropout: a sample that is predicted well enough is left out.

Progressive Data Dropout (NeurIPS 2025), arXiv:2505.22342; read in the authors' code
(bazyagami/LearningWithRevision): of every batch only the samples with p(label) < tau are trained,
under the model as it is now, and the last epoch is full. Here an epoch is decided at once, from the
last forward pass over each sample: dropped ones are scored at the end of every epoch
(`observe="all"`, a third of a visit each; the authors' forward pass over all is not counted in
their epochs). The first epoch is full, since nothing is known before it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.observations import progress_entries


@dataclass
class ProgressiveDropout(Agent):
    """Keeps p(label) < tau, and everything in the last epoch (2505.22342, 2025).

    It has no pace: where a budget ends the run early, the last epoch that it pays for is full. What
    is left after it, less than another one, is spent on some of the samples.

    Attributes:
        tau: probability of the label from which a sample is dropped, in (0, 1].
    """

    source: ClassVar[str] = "Progressive Data Dropout, NeurIPS 2025, arXiv:2505.22342"
    env_kwargs: ClassVar[dict[str, Any]] = {"observe": "all"}
    columns = ("confidence",)
    paced: ClassVar[bool] = False

    tau: float = 0.3

    def __post_init__(self) -> None:
        """Checks the parameter."""
        check_shares("(0, 1]", tau=self.tau)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.warn_of_full_epochs(2, "its first and its last epoch are full, raise the budget")

    def select(self, observation: Observation) -> np.ndarray:
        """The samples that are not yet predicted."""
        kept = observation["confidence"] < self.tau
        if self.epoch(observation) == 0:
            return np.ones_like(kept)
        n = self.episode.num_samples
        spent = progress_entries(observation["progress"])["spent"].astype(np.float64)
        left = (1 - spent) * self.episode.total_visits
        count = kept.sum(-1)
        price = count + SCORING_COST * (n - count)
        last = (left < n + price) | (self.epoch(observation) == self.episode.epochs - 1)
        return self.drawn(kept) | last[..., None]

    def drawn(self, kept: np.ndarray) -> np.ndarray:
        """What is trained of the samples that are below tau, (R, n) or (n,) bool."""
        return kept
