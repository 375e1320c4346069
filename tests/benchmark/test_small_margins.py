"""The plans of `benchmarks.learned.small_margins`: what they keep, and when."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.learned.small_margins import SmallMargins

GAME = {"train_size": 100, "epochs": 5, "budget": 0.5, "device": "cpu", "action": "weights"}


@pytest.mark.parametrize(
    ("slope", "warmup", "kept"),
    [
        # 50 visits an epoch, times 1 + slope (-1, -1/2, 0, 1/2, 1)
        (0.0, 0, [50, 50, 50, 50, 50]),
        (0.4, 0, [30, 40, 50, 60, 70]),
        (-0.8, 0, [90, 70, 50, 30, 10]),
        # 150 visits are left for four epochs: 37.5 times 1 + slope (-1, -1/3, 1/3, 1)
        (0.4, 1, [100, 22, 32, 42, 52]),
    ],
)
def test_it_keeps_the_smallest_margins_at_its_pace(
    slope: float, warmup: int, kept: list[int]
) -> None:
    env = gym.make("dynprune_env:DynPrune-Digits-v0", **GAME)
    agent = SmallMargins(noise=0.0, slope=slope, warmup=warmup)
    observation, info = env.reset(seed=0)
    agent.reset(env.unwrapped.episode(seed=0))
    found = []
    for _ in kept:
        action = agent.select(observation) > 0  # all weigh the same
        found.append(int(action.sum()))
        if not action.all() and (observation["visits"] > 0).all():
            margin = observation["margin"]
            assert margin[action].max() <= margin[~action].min()
        observation, _, ended, _, info = env.step(action.astype(np.float32))
    assert ended
    assert found == kept
    assert info["run_visits"] == sum(kept)


def test_where_noise_drowns_the_margins_draws_are_even() -> None:
    env = gym.make("dynprune_env:DynPrune-Digits-v0", **GAME)
    agent = SmallMargins(noise=1e6)
    times = np.zeros(100)
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        agent.reset(env.unwrapped.episode(seed=seed))
        for _ in range(5):
            action = agent.select(observation)
            times += action > 0
            observation, *_ = env.step(action.astype(np.float32))
    # of 100 draws at one half each; binomial: 50 and a deviation of 5
    assert abs(times - 50).max() < 25
    assert np.std(times) == pytest.approx(5, abs=1.5)


def test_with_a_weight_smaller_margins_weigh_more() -> None:
    env = gym.make("dynprune_env:DynPrune-Digits-v0", **GAME)
    agent = SmallMargins(noise=0.0, warmup=1, weight=1.0)
    observation, _ = env.reset(seed=0)
    agent.reset(env.unwrapped.episode(seed=0))
    assert (agent.select(observation) == 1).all()
    observation, *_ = env.step(np.ones(100, dtype=np.float32))
    weights, margin = agent.select(observation), observation["margin"].astype(float)
    kept = weights > 0
    z = (margin - margin.mean()) / margin.std()
    assert weights[kept] == pytest.approx(2.0 ** np.clip(-z[kept], -1, 1), rel=1e-4)
    assert weights[kept].max() > weights[kept].min()
