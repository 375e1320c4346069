"""Learned: a small network scores every sample from what training revealed about it.

Trained on many short training runs, by cloning an oracle or by evolution strategies (`dynprune
train --algo cloning` or `es`); the cards beside the shipped policies, in `policies/`, say with what
and how they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_agents.policies._features import SAMPLE_COLUMNS, sample_features
from dynprune_agents.policies._files import find_policy, load_scorer
from dynprune_agents.policies._networks import Scorer, gumbel
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import with_replica_axis
from dynprune_env.selection.ranking import keep_top


@dataclass
class Learned(Agent):
    """The highest scores of a learned network, and chance as far as it learned to leave room.

    Attributes:
        policy: a shipped policy's name, or the path of a file that `dynprune train` wrote.
    """

    source: ClassVar[str] = "trained by us with this package, by cloning an oracle"
    columns = SAMPLE_COLUMNS

    policy: str = "cautious"

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._scorer, self._parameters = self.network()

    @property
    def env_kwargs(self) -> dict[str, Any]:  # type: ignore[override]
        """Masks, or gradient weights if the policy gives any.

        Raises:
            ValueError: there is no such policy, or the file is something else.
        """
        return {"action": "weights"} if self.network()[0].max_weight else {}

    def files(self) -> list[Path]:
        """The policy's."""
        return [find_policy(self.policy)]

    def network(self) -> tuple[Scorer, np.ndarray]:
        """The scorer and its parameters, (P,) or one row per replica, (R, P)."""
        return load_scorer(self.policy)

    def select(self, observation: Observation) -> np.ndarray:
        """The top of scores with Gumbel noise."""
        seen = with_replica_axis(observation)
        samples, run = sample_features(seen, self.episode.epochs, self.episode.num_classes)
        output = self._scorer.forward(self._parameters, samples, run)
        count = np.maximum(1, np.rint(self.keep_count(seen) * output.spend)).astype(np.int64)
        noise = np.atleast_2d(gumbel(self.episode.num_samples, self.rng))
        noisy = output.scores + output.temperature[:, None] * noise
        action = keep_top(noisy, count, self.rng)
        if output.weights is not None:
            action = np.where(action, output.weights, 0).astype(np.float32)
        return action.reshape(observation["loss"].shape)
