"""Orderings of the agents that theory predicts, each measured with twenty seeds side by side."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from helpers.by_hand import standard_error

import dynprune_agents
from dynprune_env import run_episodes

SEEDS = range(20)
PLANTED, DIGITS = "DynPrune-Planted-v0", "DynPrune-Digits-v0"


@cache
def accuracies(env: str, spec: str, rate: float | None = None) -> np.ndarray:
    """Final test accuracies at budget .3, in percent, one per seed; at the recipe's rate or one."""
    kwargs = {"budget": 0.3} if rate is None else {"budget": 0.3, "learning_rate": rate}
    agent = dynprune_agents.make(spec)
    results = run_episodes(env, agent, SEEDS, env_kwargs=kwargs, device="cpu")
    assert not any(result.diverged for result in results)
    return np.array([100 * result.test_accuracy for result in results])


def lead(env: str, better: str, worse: str, rate: float | None = None) -> float:
    """How many standard errors one agent's mean accuracy is above the other's; printed."""
    one, other = accuracies(env, better, rate), accuracies(env, worse, rate)
    error = math.hypot(standard_error(one), standard_error(other))
    difference = one.mean() - other.mean()
    print(
        f"{env}: {better} {one.mean():.1f} - {worse} {other.mean():.1f} = "
        f"{difference:.1f} +- {error:.1f} %"
    )
    return difference / error


@pytest.mark.parametrize("spec", ["aum", "kakurenbo", "learned"])
def test_what_recognises_wrong_labels_beats_chance_where_most_labels_are_wrong(spec: str) -> None:
    assert lead(PLANTED, spec, "dynamic_random") > 2


@pytest.mark.parametrize("spec", ["small_loss(end=0.3)", "rho_loss", "aum", "learned"])
def test_it_does_at_a_rate_at_which_nets_learn_wrong_labels_by_heart(spec: str) -> None:
    assert lead(PLANTED, spec, "dynamic_random", 0.1) > 2


@pytest.mark.parametrize("spec", ["epsilon_greedy", "ucb", "selective_backprop"])
def test_what_chases_losses_is_beaten_by_chance_where_most_labels_are_wrong(spec: str) -> None:
    assert lead(PLANTED, "dynamic_random", spec) > 2


@pytest.mark.parametrize("spec", ["epsilon_greedy", "ucb"])
def test_the_papers_agents_are_no_worse_than_chance_on_clean_digits(spec: str) -> None:
    assert lead(DIGITS, spec, "dynamic_random") > -2
