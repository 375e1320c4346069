"""EXP3 over loss quantiles.

Auer, Cesa-Bianchi, Freund, Schapire (2002), "The Nonstochastic Multiarmed Bandit Problem": arm i is
pulled with p_i = (1 - gamma) w_i / sum w + gamma / N, and its weight multiplied by
exp(gamma reward / (p_i N)). Arm i keeps the K samples in a row of rising losses that start at the
share i / (N - 1) of the way from the easiest to the hardest.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_agents.bandits._arms import ArmBandit
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top, where


@dataclass
class EXP3(ArmBandit):
    """Pulls windows of the loss distribution with adversarial weights (Auer et al. 2002).

    Attributes:
        gamma: share of uniform exploration, in (0, 1].
    """

    source: ClassVar[str] = "Auer, Cesa-Bianchi, Freund, Schapire 2002, on arms of ours"
    num_arms: ClassVar[int] = 5
    columns = ("loss",)

    gamma: float = 0.2

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is in (0, 1], got {self.gamma}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.log_weights = np.zeros(self.pulls.shape)

    def probabilities(self) -> np.ndarray:
        """(R, N), each row sums to 1."""
        weights = np.exp(self.log_weights - self.log_weights.max(1, keepdims=True))
        share = weights / weights.sum(1, keepdims=True)
        probabilities: np.ndarray = (1 - self.gamma) * share + self.gamma / self.num_arms
        return probabilities

    def pick(self) -> np.ndarray:
        """One draw per replica."""
        size = len(self.rng.seeds)
        draws = np.array([self.rng.row(row).random() for row in range(size)])[:, None]
        below = self.probabilities().cumsum(1) <= draws
        arms: np.ndarray = np.minimum(below.sum(1), self.num_arms - 1)
        return arms

    def credit(self, arms: np.ndarray, rewards: np.ndarray) -> None:
        """Importance-weighted; rewards are moved to [0, 1]."""
        rows = np.arange(len(arms))
        p = self.probabilities()[rows, arms]
        self.log_weights[rows, arms] += self.gamma * (rewards + 1) / 2 / (p * self.num_arms)

    def arm_mask(
        self, arm: int, observation: Observation, count: int, rng: ReplicaRandom
    ) -> np.ndarray:
        """The arm's window of ranks: a top without its own top."""
        loss = observation["loss"]
        start = round(arm / (self.num_arms - 1) * (len(loss) - count))
        upper = keep_top(loss, len(loss) - start, rng)
        window: np.ndarray = upper & ~keep_top(
            where(upper, loss, -np.inf), len(loss) - start - count, rng
        )
        return window
