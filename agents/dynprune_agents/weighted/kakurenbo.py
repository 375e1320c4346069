"""KAKURENBO: hides what is learned.

Thao Nguyen et al. (NeurIPS 2023), "KAKURENBO: Adaptively Hiding Samples in Deep Neural Network
Training", arXiv:2310.10102. Hides the share F of lowest losses, of them only the samples predicted
correctly with a confidence of at least tau. Hidden samples get a forward pass at the end of the
epoch (`observe="all"`: a third of a visit each). F falls in steps over the run, and the learning
rate is multiplied by 1 / (1 - F), but in the first epoch: here the gradient is, which is the same
but for weight decay, and only with `weights="raw"` in the environment.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top

STEPS = ((0.0, 1.0), (0.3, 0.8), (0.6, 0.6), (0.8, 0.4))
"""From this progress on, F is multiplied by this factor."""


@dataclass
class Kakurenbo(Agent):
    """Hides the lowest losses that are predicted surely and rightly (Nguyen et al. 2023).

    Attributes:
        fraction: F at the start, in [0, 1).
        tau: least confidence of a hidden sample, in [0, 1].
        rescale: whether the gradient is multiplied by 1 / (1 - F).
    """

    source: ClassVar[str] = "Thao Nguyen et al., NeurIPS 2023, arXiv:2310.10102"
    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights", "observe": "all"}
    columns = ("loss", "confidence", "correct")
    paced: ClassVar[bool] = False

    fraction: float = 0.3
    tau: float = 0.7
    rescale: bool = True

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", fraction=self.fraction)
        check_shares(tau=self.tau)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.warn_of_full_epochs(1, "its first epoch is full, raise the budget")

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        progress, n = self.progress(observation), self.episode.num_samples
        factor = np.select([progress >= at for at, _ in STEPS[::-1]], [f for _, f in STEPS[::-1]])
        share = self.fraction * factor
        easiest = keep_top(-observation["loss"], np.rint(share * n).astype(np.int64), self.rng)
        sure = (observation["correct"] > 0) & (observation["confidence"] >= self.tau)
        weight = np.ones((*share.shape, 1))
        if self.rescale and self.epoch(observation) > 0:  # nothing is hidden in the first epoch
            weight = 1 / (1 - share[..., None])
        return np.where(easiest & sure, 0, weight).astype(np.float32)
