"""What bandits over a few arms share: an arm is a way to fill the next epoch."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.actions import strategy_scores
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import row_of, with_replica_axis
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
        seen = with_replica_axis(observation)
        keep = [
            self.arm_mask(arm, row_of(seen, row), int(counts[row]), self.rng.only(row))
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

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self.sums = np.zeros(self.pulls.shape)

    def credit(self, arms: np.ndarray, rewards: np.ndarray) -> None:
        """Adds up what each arm brought."""
        self.sums[np.arange(len(arms)), arms] += rewards

    def arm_mask(
        self, arm: int, observation: Observation, count: int, rng: ReplicaRandom
    ) -> np.ndarray:
        """The top of the strategy's score."""
        scores = list(strategy_scores(observation).values())
        chosen = scores[arm] if arm < len(scores) else rng.random(len(observation["loss"]))
        return keep_top(chosen, count, rng)
