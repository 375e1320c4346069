"""The plans of `benchmarks.learned.small_margins`: what they keep, and when."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.learned.small_margins import SmallMargins

GAME = {"train_size": 100, "epochs": 5, "budget": 0.5, "device": "cpu"}


@pytest.mark.parametrize(
    ("slope", "kept"),
    # 50 visits an epoch, times 1 + slope (-1, -1/2, 0, 1/2, 1)
    [(0.0, [50, 50, 50, 50, 50]), (0.4, [30, 40, 50, 60, 70]), (-0.8, [90, 70, 50, 30, 10])],
)
def test_it_keeps_the_smallest_margins_at_its_pace(slope: float, kept: list[int]) -> None:
    env = gym.make("dynprune_env:DynPrune-Digits-v0", **GAME)
    agent = SmallMargins(noise=0.0, slope=slope)
    observation, info = env.reset(seed=0)
    agent.reset(env.unwrapped.episode(seed=0))
    found = []
    for _ in kept:
        action = agent.select(observation)
        found.append(int(action.sum()))
        if (observation["visits"] > 0).all():
            margin = observation["margin"]
            assert margin[action].max() <= margin[~action].min()
        observation, _, ended, _, info = env.step(action)
    assert ended
    assert found == kept
    assert info["run_visits"] == 250


def test_where_noise_drowns_the_margins_draws_are_even() -> None:
    env = gym.make("dynprune_env:DynPrune-Digits-v0", **GAME)
    agent = SmallMargins(noise=1e6)
    times = np.zeros(100)
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        agent.reset(env.unwrapped.episode(seed=seed))
        for _ in range(5):
            action = agent.select(observation)
            times += action
            observation, *_ = env.step(action)
    # of 100 draws at one half each; binomial: 50 and a deviation of 5
    assert abs(times - 50).max() < 25
    assert np.std(times) == pytest.approx(5, abs=1.5)
