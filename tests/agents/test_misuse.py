"""An agent that is played wrongly says in a sentence how it is played."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from helpers.episodes import make

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.dynamic.ucb import UCB
from dynprune_env import run_episodes

SMALL = {"train_size": 60, "epochs": 4}
WEIGHS = ("infobatch", "importance_sampling", "repb", "learned(policy='weighted')")


def observed(**kwargs: Any) -> tuple[Any, Any]:
    """An environment that was reset, and its first observation."""
    env = make(**{**SMALL, **kwargs})
    return env, env.reset(seed=0)[0]


@pytest.mark.parametrize("name", [n for n in dynprune_agents.names() if n != "full_data"])
def test_select_before_reset_names_reset(name: str) -> None:
    agent = dynprune_agents.make(name)
    _, observation = observed(**agent.env_kwargs)
    with pytest.raises(ResetNeeded, match=r"agent\.reset\(env\.unwrapped\.episode\(seed=0\)\)"):
        agent.select(observation)


@pytest.mark.parametrize(
    "spec",
    ["aum", "grand", "dual", "rho_loss", "random_control(rule='el2n')", "pods(rule='rho_loss')"],
)
def test_select_without_prepare_names_prepare(spec: str) -> None:
    agent = dynprune_agents.make(spec)
    env, observation = observed(budget=1.0)
    agent.reset(env.unwrapped.episode(seed=0))
    with pytest.raises(ResetNeeded, match=r"agent\.prepare\(env\.unwrapped\.scoring_runs\(seed"):
        for _ in range(3):  # the first epochs may be on all data
            observation, *_ = env.step(agent.select(observation))


def test_what_an_agent_lacks_is_an_attribute_error_still() -> None:
    agent = dynprune_agents.make("ucb")
    assert not hasattr(agent, "nonsense")
    assert getattr(agent, "nonsense", 3) == 3
    env, _ = observed()
    agent.reset(env.unwrapped.episode(seed=0))
    with pytest.raises(AttributeError, match=r"'UCB' object has no attribute 'nonsense'$"):
        _ = agent.nonsense
    for copied in (copy.copy(agent), copy.deepcopy(dynprune_agents.make("ucb"))):
        assert repr(copied) == "ucb"
    assert repr(pickle.loads(pickle.dumps(dynprune_agents.make("ucb")))) == "ucb"


@pytest.mark.parametrize("spec", [*WEIGHS, "kakurenbo", "random_control(rule='infobatch')"])
def test_an_agent_that_weighs_is_refused_where_masks_are_taken(spec: str) -> None:
    agent = dynprune_agents.make(spec)
    env, _ = observed()
    with pytest.raises(ValueError, match=r"plays with action='weights'.*\*\*agent\.env_kwargs\)$"):
        agent.reset(env.unwrapped.episode(seed=0))
    fitting, _ = observed(**agent.env_kwargs)
    agent.reset(fitting.unwrapped.episode(seed=0))


@pytest.mark.parametrize(
    "kinds", [{"observation": "summary"}, {"observation": "run"}, {"action": "strategy"}]
)
def test_an_agent_is_refused_where_it_does_not_fit(kinds: dict[str, str]) -> None:
    env, _ = observed(**kinds)
    (name,) = kinds
    with pytest.raises(ValueError, match=f"ucb plays with {name}=.* has {name}={kinds[name]!r}"):
        dynprune_agents.make("ucb").reset(env.unwrapped.episode(seed=0))


def test_masks_are_weights_too() -> None:
    env, observation = observed(action="weights")
    agent = dynprune_agents.make("ucb")
    agent.reset(env.unwrapped.episode(seed=0))
    env.step(agent.select(observation))


@dataclass
class Own(Agent):
    """Says nothing about what it plays on, and plays on anything."""

    def select(self, observation: Any) -> np.ndarray:
        """Strategy 1."""
        return np.int64(1)  # type: ignore[return-value]


def test_a_rule_of_ones_own_is_held_to_what_it_says_only() -> None:
    env, observation = observed(observation="run", action="strategy")
    agent = Own()
    agent.reset(env.unwrapped.episode(seed=0))
    env.step(agent.select(observation))


def test_reset_takes_an_episode() -> None:
    env, _ = observed()
    with pytest.raises(ValueError, match=r"reset takes an episode, agent\.reset\(env\.unwrapped"):
        dynprune_agents.make("ucb").reset(env)  # type: ignore[arg-type]


@pytest.mark.parametrize("agent", [UCB, "ucb", None, 3])
def test_runs_take_an_agent_not_its_class_or_name(agent: Any) -> None:
    with pytest.raises(ValueError, match=r'pass an agent, such as dynprune_agents\.make\("ucb"\)'):
        run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=SMALL)


@pytest.mark.parametrize("spec", [UCB, UCB(), None])
def test_an_agent_is_made_from_a_spec(spec: Any) -> None:
    with pytest.raises(ValueError, match="an agent is named by its spec"):
        dynprune_agents.make(spec)


def test_runs_take_an_id_not_an_environment() -> None:
    env: Any = gym.make("DynPrune-Digits-v0")
    with pytest.raises(ValueError, match="an environment is named by its id"):
        run_episodes(env, UCB(), [0])
