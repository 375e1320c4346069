"""The oracle keeps no wrong label, spends the budget and no more, and says what it was told."""

from __future__ import annotations

from typing import Any

import pytest

import dynprune_agents
from benchmarks.learned.oracle import Oracle, oracle
from benchmarks.learned.tables import ORACLE, Setting
from dynprune_env import run_episodes
from dynprune_env.benchmark.replay import validate

DIGITS = "DynPrune-Digits-v0"
SMALL: dict[str, Any] = {"train_size": 300, "epochs": 6, "data_seed": 7}


@pytest.mark.parametrize(
    "corruption",
    [
        {"label_noise": 0.2},
        {"label_noise": 0.4},
        {"label_noise": 0.4, "imbalance": 0.5},
        {"label_noise": 0.4, "duplicates": 0.5},
    ],
)
@pytest.mark.parametrize("budget", [0.3, 0.5])
def test_the_oracle_keeps_no_wrong_label_and_spends_the_budget(
    corruption: dict[str, Any], budget: float
) -> None:
    kwargs = {**SMALL, **corruption, "budget": budget}
    agent = dynprune_agents.make(oracle(DIGITS, kwargs))
    for result in run_episodes(DIGITS, agent, [0, 1], env_kwargs=kwargs, device="cpu"):
        assert result.history["corrupted"] == [0.0] * 6
        assert result.visits == round(budget * 6 * result.num_samples)
    other = run_episodes(DIGITS, dynprune_agents.make("dynamic_random"), [0], env_kwargs=kwargs)
    assert min(other[0].history["corrupted"]) > 0.1


def test_it_leaves_unspent_what_right_labels_cannot_take() -> None:
    kwargs = {**SMALL, "label_noise": 0.8, "budget": 0.9}
    agent = dynprune_agents.make(oracle(DIGITS, kwargs))
    result = run_episodes(DIGITS, agent, [0], env_kwargs=kwargs, device="cpu")[0]
    assert result.history["corrupted"] == [0.0] * 6
    assert len(set(result.history["kept"])) == 1
    assert result.visits < 0.4 * 6 * 300


def test_where_no_label_is_wrong_it_is_dynamic_random() -> None:
    for kwargs in ({**SMALL}, {**SMALL, "label_noise": 0.0}, {**SMALL, "imbalance": 0.5}):
        assert oracle(DIGITS, kwargs) == "dynamic_random"


def test_a_tasks_own_noise_counts() -> None:
    planted = "DynPrune-Planted-v0"
    kwargs = {"train_size": 200, "epochs": 2, "budget": 0.2}
    agent = dynprune_agents.make(oracle(planted, kwargs))
    result = run_episodes(planted, agent, [0], env_kwargs=kwargs, device="cpu")[0]
    assert repr(agent) != "dynamic_random"
    assert result.history["corrupted"] == [0.0, 0.0]


def test_its_runs_replay_from_what_they_say() -> None:
    setting = Setting(DIGITS, 0.5, {**SMALL, "label_noise": 0.4}, (3,), (0,))
    (group,) = setting.groups(ORACLE)
    agent = dynprune_agents.make(group.agent)
    result = run_episodes(group.env, agent, group.seeds, env_kwargs=group.env_kwargs)[0]
    assert result.config.agent == group.agent == repr(agent)
    assert [each.identical for each in validate([result], dynprune_agents.make)] == [True]


def test_an_oracle_of_other_data_refuses_to_play() -> None:
    with pytest.raises(ValueError, match="told of 200 samples, the episode has 300"):
        run_episodes(DIGITS, Oracle("Digits", train_size=200), [0], env_kwargs={**SMALL})


def test_it_is_no_registered_agent() -> None:
    assert not any("oracle" in name for name in dynprune_agents.names())
