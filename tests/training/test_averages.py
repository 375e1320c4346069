"""Averages of the models, moved after every gradient step: by hand, and in every learner."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, differs, go_on, make_vector, play, random_masks
from torch.nn.utils import parameters_to_vector

from dynprune_env.training.learner import LEARNERS

LEARNING = [name for name in LEARNERS if name != "auto"]
BETA = 0.7


def models(env: Any, averaged: bool = False) -> list[torch.nn.Module]:
    return env.episode([0] * env.num_envs).probe.models(averaged)


def parameters(env: Any, averaged: bool) -> torch.Tensor:
    """(R, P), of the models or of their averages."""
    vectors = [parameters_to_vector(each.parameters()) for each in models(env, averaged)]
    return torch.stack(vectors).detach()


def walked(learner: str, averaging: float | None, **settings: Any) -> Any:
    """Two replicas after epochs of one gradient step each, and the parameters after each."""
    small = {"batch_size": 48, "budget": 1.0, "epochs": 6, "learner": learner}
    env = make_vector(2, averaging=averaging, **{**small, **settings})
    masks = random_masks(env, 6, 0.5)
    env.reset(seed=7)
    steps = [parameters(env, False)]
    for mask in masks[:5]:
        env.step(mask)
        steps.append(parameters(env, False))
    return env, steps


@pytest.mark.parametrize("averaging", [0.0, BETA])
@pytest.mark.parametrize("learner", LEARNING)
def test_an_average_moves_towards_its_model_after_every_gradient_step(
    learner: str, averaging: float
) -> None:
    env, steps = walked(learner, averaging)
    average = steps[0]
    for now in steps[1:]:
        average = averaging * average + (1 - averaging) * now
    assert all((one != other).any() for one, other in pairwise(steps))
    torch.testing.assert_close(parameters(env, True), average, rtol=1e-5, atol=1e-6)


def test_an_average_moves_after_each_of_several_steps_of_an_epoch() -> None:
    env = make_vector(1, batch_size=16, averaging=BETA, learner="modules")
    env.reset(seed=7)
    average, steps = parameters(env, False), []
    env.trainer.learner.optimizers[0].register_step_post_hook(
        lambda *_: steps.append(parameters(env, False))
    )
    env.step(np.ones((1, 48)))
    assert len(steps) == 3
    for now in steps:
        average = BETA * average + (1 - BETA) * now
    torch.testing.assert_close(parameters(env, True), average, rtol=1e-5, atol=1e-6)


def test_all_learners_average_alike() -> None:
    found = []
    for learner in LEARNING:
        env = make_vector(3, averaging=BETA, learner=learner)
        play(env, random_masks(env, 3, np.array([0.2, 0.5, 0.9])[:, None]), seed=7)
        found.append(parameters(env, True))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learner", LEARNING)
def test_averaging_changes_no_other_number(learner: str) -> None:
    masks = random_masks(make_vector(2), 4)
    plain, averaged = (make_vector(2, learner=learner, averaging=a) for a in (None, 0.9))
    assert_same(play(averaged, masks, seed=7), play(plain, masks, seed=7))
    assert torch.equal(parameters(averaged, False), parameters(plain, False))


@pytest.mark.parametrize("learner", LEARNING)
def test_a_new_episode_begins_with_averages_that_are_the_models(learner: str) -> None:
    env, _ = walked(learner, BETA)
    assert differs(parameters(env, True), parameters(env, False))
    env.reset(seed=8)
    assert torch.equal(parameters(env, True), parameters(env, False))


def test_an_average_of_a_net_with_batch_norm_has_the_statistics_of_its_model(
    pictures: dict[str, Any],
) -> None:
    env = make_vector(2, averaging=BETA, **pictures)
    play(env, random_masks(env, 2), seed=7)
    for now, average in zip(models(env), models(env, averaged=True), strict=True):
        assert_same(dict(average.named_buffers()), dict(now.named_buffers()))
        assert differs(list(average.state_dict().values()), list(now.state_dict().values()))


@pytest.mark.parametrize("learner", LEARNING)
def test_a_saved_run_goes_on_with_its_averages_bit_for_bit(learner: str) -> None:
    env = make_vector(2, averaging=BETA, learner=learner)
    masks = random_masks(env, 4, 0.4)
    play(env, masks[:2], seed=7)
    state = env.get_state()
    expected = [go_on(env, masks[2:]), parameters(env, True)]
    other = make_vector(2, averaging=BETA, learner=learner)
    play(other, masks[:1], seed=1)
    other.set_state(state)
    assert_same([go_on(other, masks[2:]), parameters(other, True)], expected)


def test_without_averages_there_are_none_to_ask_for() -> None:
    env = make_vector(2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="no averaged models: set averaging"):
        models(env, averaged=True)
