"""What bandits over a few arms share: an arm is a way to fill the next epoch."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top


@dataclass
class ArmBandit(Agent):
    """Each epoch pulls one arm per replica, and credits it with the reward.

    Rewards shrink as training goes on, so they are divided by a running mean of their size (weight
    0.5 for the newest) and clipped to [-1, 1].
    """

    num_arms: ClassVar[int]

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        replicas = len(self.rng.seeds)
        self.pulls = np.zeros((replicas, self.num_arms), dtype=np.int64)
        self._scale = np.zeros(replicas)

    def select(self, observation: Observation) -> np.ndarray:
        """The samples of the arm that each replica pulls."""
        self._arms = np.atleast_1d(self.pick())
        counts = np.atleast_1d(self.keep_count(observation))
        columns = {name: np.atleast_2d(column) for name, column in observation.items()}
        keep = [
            self.arm_mask(
                arm,
                {name: column[row] for name, column in columns.items()},
                int(counts[row]),
                self.rng.only(row),
            )
            for row, arm in enumerate(self._arms.tolist())
        ]
        return np.reshape(keep, observation["loss"].shape)

    def update(
        self,
        observation: Observation,
        action: np.ndarray,
        reward: Any,
        next_observation: Observation,
    ) -> None:
        """Credits the pulled arms."""
        reward = np.atleast_1d(np.asarray(reward, dtype=np.float64))
        first = self._scale == 0
        self._scale = np.where(first, np.abs(reward), 0.5 * self._scale + 0.5 * np.abs(reward))
        scaled = np.clip(reward / np.where(self._scale > 0, self._scale, 1), -1, 1)
        self.pulls[np.arange(len(reward)), self._arms] += 1
        self.credit(self._arms, scaled)

    @abstractmethod
    def pick(self) -> np.ndarray:
        """The arm of each replica, (R,) int."""

    @abstractmethod
    def credit(self, arms: np.ndarray, rewards: np.ndarray) -> None:
        """Learns that these arms, (R,), brought these rewards, (R,) in [-1, 1]."""

    @abstractmethod
    def arm_mask(
        self, arm: int, observation: Observation, count: int, rng: ReplicaRandom
    ) -> np.ndarray:
        """What an arm keeps of one replica's samples, (n,) bool with `count` True."""


class StrategyBandit(ArmBandit):
    """Arms that are strategies: hardest, easiest, least certain, least recently visited, random."""

    num_arms: ClassVar[int] = 5

    def arm_mask(
        self, arm: int, observation: Observation, count: int, rng: ReplicaRandom
    ) -> np.ndarray:
        """The top of the strategy's score."""
        loss = observation["loss"]
        scores = (loss, -loss, -np.abs(observation["margin"]), observation["age"])
        return keep_top(scores[arm] if arm < 4 else rng.random(len(loss)), count, rng)
