"""Policies that must come out well, since it is known what is right: most labels are wrong."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from helpers.by_hand import standard_error
from helpers.cpu_seconds import cpu_seconds_below

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.learning.mixture import Mixture
from dynprune_agents.learning.sb3_trainer import SB3Trainer
from dynprune_env import run_episodes

PLANTED = "DynPrune-Planted-v0"
RATE = 0.1  # at which nets learn wrong labels by heart
MIXTURE = Mixture(
    envs=(PLANTED,), budgets=(0.3,), env_kwargs={"device": "cpu", "learning_rate": RATE}
)


def accuracies(agent: Agent) -> np.ndarray:
    """On data seed 0, which training never sees: final test accuracies, one per seed."""
    kwargs = {"budget": 0.3, "learning_rate": RATE}
    results = run_episodes(PLANTED, agent, range(20), env_kwargs=kwargs, device="cpu")
    return np.array([result.test_accuracy for result in results])


@cache
def chance() -> np.ndarray:
    return accuracies(dynprune_agents.make("dynamic_random"))


@pytest.mark.slow
@pytest.mark.parametrize(("observation", "action"), [("run", "tilts"), ("samples", "mask")])
def test_ppo_rises_clearly_above_dynamic_random_within_two_cpu_minutes(
    observation: str, action: str
) -> None:
    trainer = SB3Trainer(
        "ppo", MIXTURE, num_envs=32, seed=0, observation=observation, action=action
    )
    with cpu_seconds_below(120):
        for _ in range(16):
            trainer.advance()
    agent = trainer.agent()
    for agent.deterministic in (True, False):
        found = accuracies(agent)
        error = math.hypot(standard_error(found), standard_error(chance()))
        difference = found.mean() - chance().mean()
        print(
            f"{action}, deterministic={agent.deterministic}: {difference:.3f} +- {error:.3f} "
            f"above {chance().mean():.3f}"
        )
        assert difference > 3 * error
