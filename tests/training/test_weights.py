"""Gradient weights shift emphasis: their size is no step size, unless a run asks for raw ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, differs, make, make_vector, play, random_masks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynprune_agents import Agent
from dynprune_env import PruningSampler
from dynprune_env.selection.budget import of_mean_one
from dynprune_env.training.learner import LEARNERS

LEARNING = [name for name in LEARNERS if name != "auto"]


def some_weights(steps: int = 4, shape: tuple[int, ...] = (2, 48)) -> np.ndarray:
    """From 0 (dropped) to 3."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.1, 3, (steps, *shape)) * (rng.random((steps, *shape)) < 0.6)
    return weights.astype(np.float32)


def run(actions: np.ndarray, **settings: Any) -> list[tuple[Any, ...]]:
    """What two replicas give, and the parameters that they end with."""
    env = make_vector(2, action="weights", **settings)
    steps = play(env, actions, seed=7)
    return [*steps, env.trainer.learner.state()]


@pytest.mark.parametrize("learner", LEARNING)
def test_twice_the_weights_are_the_same_run_bit_for_bit(learner: str) -> None:
    weights = some_weights()
    expected = run(weights, learner=learner)
    assert_same(run(2 * weights, learner=learner), expected)
    assert_same(run(weights / 8, learner=learner), expected)


def test_twice_the_weights_are_the_same_run_of_a_convolutional_net(
    pictures: dict[str, Any],
) -> None:
    weights = some_weights()
    assert_same(run(2 * weights, **pictures), run(weights, **pictures))


@pytest.mark.parametrize("learner", LEARNING)
def test_twice_the_raw_weights_are_another_run(learner: str) -> None:
    weights = some_weights()
    once, twice = (run(w, learner=learner, weights="raw") for w in (weights, 2 * weights))
    assert differs(once[-1], twice[-1])
    assert differs(once[-1], run(weights, learner=learner)[-1])


@pytest.mark.parametrize("learner", LEARNING)
def test_raw_weights_of_mean_one_are_the_scaled_ones(learner: str) -> None:
    weights = some_weights(3)
    rows = weights.reshape(-1, 48)
    scaled = np.stack([row / row[row > 0].mean(dtype=np.float64) for row in rows])
    scaled = scaled.reshape(weights.shape)  # 3 epochs of 48 at .6 are within the budget of .9
    raw = run(scaled, learner=learner, weights="raw", budget=0.9)
    assert_same(raw, run(weights, learner=learner, budget=0.9), 1e-5)


@pytest.mark.parametrize("learner", LEARNING)
def test_masks_are_weights_of_one_scaled_or_raw(learner: str) -> None:
    masks = random_masks(make_vector(2), 4)
    expected = play(make_vector(2, learner=learner), masks, seed=7)
    for weights in ("mean_one", "raw"):
        assert_same(play(make_vector(2, learner=learner, weights=weights), masks, seed=7), expected)
        ones = make_vector(2, learner=learner, weights=weights, action="weights")
        assert_same(play(ones, masks.astype(np.float32), seed=7), expected)


def test_the_mean_is_taken_over_what_the_budget_lets_an_epoch_train() -> None:
    # Of 48 kept samples the budget of 24 visits pays for the first half of the order.
    weights = np.linspace(0.1, 3, 48, dtype=np.float32)
    env = make(action="weights", budget=24 / (4 * 48))
    env.reset(seed=3)
    learner, given = env.vector.trainer.learner, []
    train = learner.train
    learner.train = lambda passes: given.extend(passes) or train(passes)
    env.step(weights)
    (job,) = given
    assert len(job.order) == 24
    trained = weights[job.order.numpy()]
    assert job.weights.numpy() == pytest.approx(trained / trained.mean())


@given(
    arrays(np.float32, st.integers(1, 40), elements=st.floats(2**-20, 100, width=32)),
    st.integers(-10, 10),
)
def test_weights_of_mean_one_keep_their_proportions_and_forget_their_scale(
    weights: np.ndarray, power: int
) -> None:
    scaled = of_mean_one(weights)
    assert scaled.dtype == np.float32
    assert scaled.mean(dtype=np.float64) == pytest.approx(1, rel=1e-5)
    assert scaled / scaled.max() == pytest.approx(weights / weights.max(), rel=1e-5)
    np.testing.assert_array_equal(of_mean_one(weights * np.float32(2.0**power)), scaled)
    np.testing.assert_array_equal(of_mean_one(np.ones_like(weights)), np.ones_like(weights))


def test_no_weights_stay_none() -> None:
    assert len(of_mean_one(np.zeros(0, dtype=np.float32))) == 0


# -- the sampler -------------------------------------------------------------------------------


class Fixed(Agent):
    """Gives `scale` times the same random weights."""

    env_kwargs = {"action": "weights"}  # noqa: RUF012

    def __init__(self, scale: float):
        self.scale = scale

    def select(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self.scale * some_weights(1, observation["loss"].shape)[0]


def handed_out(scale: float, **options: Any) -> torch.Tensor:
    sampler = PruningSampler(torch.arange(60) % 3, Fixed(scale), epochs=2, budget=1.0, **options)
    return sampler.weights(torch.tensor(list(sampler)))


def test_the_samplers_weights_have_a_mean_of_one_over_an_epoch() -> None:
    once = handed_out(1.0)
    assert once.mean().item() == pytest.approx(1)
    assert torch.equal(handed_out(2.0), once)
    raw = handed_out(1.0, weights="raw")
    assert torch.equal(handed_out(2.0, weights="raw"), 2 * raw)
    assert set(raw.tolist()) <= set(some_weights(1, (60,)).ravel().tolist())
    assert once.numpy() == pytest.approx((raw / raw.mean()).numpy())


def test_the_sampler_refuses_a_scale_of_weights_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"weights.*'loud'.*mean_one"):
        handed_out(1.0, weights="loud")
