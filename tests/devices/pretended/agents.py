"""On an accelerator every agent chooses what it chooses on the CPU."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers.episodes import assert_same
from helpers.pretend_device import MISSING, pretended
from helpers.two_devices import CLOSE, here, there

from dynprune_agents import Agent, names
from dynprune_agents import make as make_rule
from dynprune_env import DynPruneVectorEnv

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def episode(agent: Agent, env: DynPruneVectorEnv) -> list[tuple[Any, ...]]:
    """What an agent does in one episode of each row, and what comes of it."""
    observation, _ = env.reset(seed=[3, 4])
    agent.prepare(env.scoring_runs([3, 4]))
    agent.reset(env.episode([3, 4]))
    steps: list[tuple[Any, ...]] = []
    while not env.ended.all():
        action = agent.select(observation)
        before = observation
        observation, reward, *_, infos = env.step(action)
        agent.update(before, action, reward, observation)
        steps.append((np.array(action), reward, infos["run_visits"], infos["val_loss"]))
    return steps


@pytest.mark.parametrize("name", [name for name in names() if name != "sb3"])
def test_every_agent_chooses_there_as_on_the_cpu(name: str) -> None:
    settings = {"epochs": 4, "budget": 0.6, **make_rule(name).env_kwargs}
    with warnings.catch_warnings():  # some are full data in a run this short
        warnings.filterwarnings("ignore", message=".* spend the whole budget")
        expected = episode(make_rule(name), here(**settings))
        with pretended():
            found = episode(make_rule(name), there(**settings))
    assert_same(found, expected, CLOSE)
