"""Candidates of a search: networks that are in no file yet, and the runs that they play."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode

from dynprune_agents._agent import Agent
from dynprune_agents.learning.mixture import TaskDraw
from dynprune_agents.policies._networks import Planner, Scorer
from dynprune_agents.policies.learned import Learned
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.observations import with_replica_axis

Network = Scorer | Planner
PLANNING = {"observation": "run", "action": "tilts"}
"""What a planner sees and does."""


class Planning(Agent):
    """Plays planners, one or one per replica, that are not in a file yet.

    Args:
        planner: the networks' shape.
        parameters: (P,) or (R, P) float32.
    """

    env_kwargs: ClassVar[dict[str, Any]] = PLANNING

    def __init__(self, planner: Planner, parameters: np.ndarray):
        self._given = planner, parameters

    def select(self, observation: Any) -> np.ndarray:
        """Tilts, (R, 8) or (8,)."""
        planner, parameters = self._given
        actions = planner.act(parameters, with_replica_axis(observation))
        return actions.reshape(*observation.shape[:-1], -1)


class InTraining(Learned):
    """Plays a network that is not in a file yet, or one per replica.

    Args:
        scorer: the networks' shape.
        parameters: (P,) or (R, P) float32.
    """

    def __init__(self, scorer: Scorer, parameters: np.ndarray):
        super().__init__("in training")
        self._given = scorer, parameters

    def files(self) -> list[Path]:
        """None: it plays what it was given."""
        return []

    def network(self) -> tuple[Scorer, np.ndarray]:
        """What was given."""
        return self._given


@dataclass(frozen=True)
class Played:
    """What one draw gave: (m,) returns and final val losses (nats), and what it cost."""

    returns: np.ndarray
    val_loss: np.ndarray
    steps: int
    visits: int
    seconds: float


def playing(network: Network, parameters: np.ndarray) -> Agent:
    """The agent that plays such a network."""
    if isinstance(network, Planner):
        return Planning(network, parameters)
    return InTraining(network, parameters)


def play_draw(draw: TaskDraw, network: Network, parameters: np.ndarray, seed: int) -> Played:
    """One episode per network, all from the same seed.

    Args:
        draw: what is played.
        network: the networks' shape.
        parameters: (m, P) float32.
        seed: of every run.

    Returns:
        What became of each.
    """
    members = len(parameters)
    envs = draw.make(members, AutoresetMode.DISABLED)
    agent = playing(network, parameters)
    observation, _ = envs.reset(seed=[seed] * members)
    agent.reset(envs.episode([seed] * members))
    returns, ended, steps, seconds = np.zeros(members), np.zeros(members, dtype=bool), 0, 0.0
    while not ended.all():
        action = agent.select(observation)
        steps += int(np.count_nonzero(~ended))
        start = time.perf_counter()
        observation, rewards, ended, _, infos = envs.step(action)
        seconds += time.perf_counter() - start
        returns += rewards
    visits = int((infos["run_visits"] + infos["scored"] * SCORING_COST).sum())
    envs.close()
    return Played(returns, infos["val_loss"], steps, visits, seconds)
