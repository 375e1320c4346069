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
def accuracies(env: str, spec: str) -> np.ndarray:
    """Final test accuracies at budget .3, in percent, one per seed."""
    results = run_episodes(
        env, dynprune_agents.make(spec), SEEDS, env_kwargs={"budget": 0.3}, device="cpu"
    )
    assert not any(result.diverged for result in results)
    return np.array([100 * result.test_accuracy for result in results])


def lead(env: str, better: str, worse: str) -> float:
    """How many standard errors one agent's mean accuracy is above the other's; printed."""
    one, other = accuracies(env, better), accuracies(env, worse)
    error = math.hypot(standard_error(one), standard_error(other))
    difference = one.mean() - other.mean()
    print(
        f"{env}: {better} {one.mean():.1f} - {worse} {other.mean():.1f} = "
        f"{difference:.1f} +- {error:.1f} %"
    )
    return difference / error


@pytest.mark.parametrize("spec", ["small_loss(end=0.3)", "rho_loss", "aum"])
def test_what_recognises_wrong_labels_beats_chance_where_most_labels_are_wrong(spec: str) -> None:
    assert lead(PLANTED, spec, "dynamic_random") > 2


@pytest.mark.parametrize("spec", ["epsilon_greedy", "ucb", "selective_backprop"])
def test_what_chases_losses_is_beaten_by_chance_where_most_labels_are_wrong(spec: str) -> None:
    assert lead(PLANTED, "dynamic_random", spec) > 2


@pytest.mark.parametrize("spec", ["epsilon_greedy", "ucb"])
def test_the_papers_agents_are_no_worse_than_chance_on_clean_digits(spec: str) -> None:
    assert lead(DIGITS, spec, "dynamic_random") > -2
