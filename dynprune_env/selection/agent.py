"""What an agent is, what it is told, and what it may ask for beyond observations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from dynprune_env.envs.scoring import Probe, Rehearsal


@dataclass(frozen=True)
class Episode:
    """What an agent may know at the start of an episode.

    Attributes:
        num_samples: n.
        num_classes: C.
        epochs: T, the most steps.
        budget: share of T n visits that may be spent.
        seeds: one seed per replica, from which an agent draws; a single number for an
            environment without the replica axis.
        probe: charged access to the models, for the few rules that need it.
    """

    num_samples: int
    num_classes: int
    epochs: int
    budget: float
    seeds: int | tuple[int, ...]
    probe: Probe = field(compare=False, repr=False)

    @property
    def total_visits(self) -> int:
        """Sample visits that the budget pays for, at least 1."""
        return max(1, round(self.budget * self.epochs * self.num_samples))


class SelectionAgent(Protocol):
    """What is needed of an agent; `dynprune_agents.Agent` is one."""

    env_kwargs: ClassVar[dict[str, Any]]

    def prepare(self, rehearsal: Rehearsal) -> None:
        """Scores samples beforehand, at its own cost."""

    def reset(self, episode: Episode) -> None:
        """Begins an episode."""

    def select(self, observation: Any) -> np.ndarray:
        """Batched actions for R replicas."""

    def update(self, observation: Any, action: Any, reward: Any, next_observation: Any) -> None:
        """Learns from one step."""
