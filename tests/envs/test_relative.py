"""Relative rewards: what a run did among its twins, once, at the end."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import (
    ClipReward,
    DictInfoToList,
    NormalizeReward,
    RecordEpisodeStatistics,
    RescaleAction,
)
from helpers.episodes import assert_same, make_vector, random_masks
from hypothesis import given
from hypothesis import strategies as st

import dynprune_agents
from dynprune_env import RelativeRewards
from dynprune_env.envs.relative import KINDS, centred_ranks
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.rewards import REWARDS

SHARE = np.array([1.0, 0.2, 0.5, 0.3, 0.7, 0.5])[:, None]
MODES = ["Disabled", "SameStep", "NextStep"]


def relative(
    kind: Any = "rank", mode: str = "Disabled", loss_share: float = 0.25, **kw: Any
) -> Any:
    """Two groups of three."""
    return RelativeRewards(make_vector(6, mode, twins=3, **kw), kind, loss_share)


def by_hand(kind: str, accuracy: np.ndarray, loss: np.ndarray, share: float) -> list[float]:
    """One group's rewards, in loops."""
    size = len(accuracy)

    def ranks(values: np.ndarray) -> list[float]:
        order = sorted(values)
        places = [
            np.mean([place for place, each in enumerate(order) if each == value])
            for value in values
        ]
        return [float(place / (size - 1) - 0.5) for place in places]

    if kind == "rank":
        pairs = zip(ranks(accuracy), ranks(-loss), strict=True)
        return [(1 - share) * one + share * other for one, other in pairs]
    did = [(1 - share) * a - share * b for a, b in zip(accuracy, loss, strict=True)]
    level = float(np.mean(did)) if kind == "mean" else did[0]
    return [each - level for each in did]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 2], [0.5, -0.5, 0]),
        ([1, 1], [0, 0]),
        ([2, 1, 2, 0, 2], [0.25, -0.25, 0.25, -0.5, 0.25]),
        ([[0, 9], [9, 0]], [[-0.5, 0.5], [0.5, -0.5]]),
    ],
)
def test_centred_ranks_are_those_counted_by_hand(values: Any, expected: Any) -> None:
    assert centred_ranks(np.array(values, dtype=float)).tolist() == expected


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_centred_ranks_are_those_of_mean_places_and_sum_to_zero(values: list[int]) -> None:
    found = centred_ranks(np.array(values, dtype=float))
    expected = by_hand("rank", np.array(values), np.zeros(len(values)), 0)
    assert found == pytest.approx(np.array(expected))
    assert found.sum() == pytest.approx(0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_group_is_paid_once_when_it_ends_whatever_the_inner_reward(
    kind: str, reward: str, mode: str
) -> None:
    env = relative(kind, mode, reward=reward)
    inner = make_vector(6, mode, twins=3, reward=reward)
    env.reset(seed=0)
    inner.reset(seed=0)
    paid, over = 0, np.zeros(6, dtype=bool)
    for mask in random_masks(env, 7, SHARE):
        if kind == "random":
            mask[::3] = env.random_actions()[::3]
        _, rewards, terminations, truncations, infos = env.step(mask)
        *_, own, ends, _, told = inner.step(mask)
        assert_same(infos, told)
        assert_same(env.own_rewards, own)
        assert_same(terminations, ends)
        assert not truncations.any()
        assert rewards.dtype == np.float64
        told = infos.get("final_info", infos)
        for group in (slice(0, 3), slice(3, 6)):
            if terminations[group].all() and not (over[group].all() and mode == "Disabled"):
                accuracy, loss = told["val_accuracy"][group], told["val_loss"][group]
                expected = by_hand(kind, accuracy, loss, 0.25)
                assert rewards[group].tolist() == pytest.approx(expected)
                assert np.ptp(rewards[group]) > 0
                paid += 1
            else:
                assert not rewards[group].any()
        over = terminations
    assert paid >= 2


@pytest.mark.parametrize("loss_share", [0, 0.5, 1])
def test_the_loss_counts_for_its_share(loss_share: float) -> None:
    env = relative("mean", loss_share=loss_share)
    env.reset(seed=0)
    for mask in random_masks(env, 4, SHARE):
        _, rewards, _, _, infos = env.step(mask)
    did = (1 - loss_share) * infos["val_accuracy"] - loss_share * infos["val_loss"]
    groups = did.reshape(2, 3)
    assert rewards == pytest.approx((groups - groups.mean(1, keepdims=True)).ravel())


def test_twins_of_the_same_actions_tie() -> None:
    for kind in KINDS:
        env = relative(kind, action="tilts")
        env.reset(seed=0)
        for _ in range(4):
            _, rewards, terminations, *_ = env.step(np.zeros((6, 8)))
        assert terminations.all()
        assert not rewards.any()


@pytest.mark.parametrize("action", ACTIONS)
def test_under_random_the_first_twin_plays_dynamic_random_whatever_it_is_told(action: str) -> None:
    env, other = relative("random", action=action), relative("random", action=action)
    env.reset(seed=0)
    other.reset(seed=0)
    for step in range(4):
        env.action_space.seed(step)
        one = env.action_space.sample()
        two = one.copy()
        two[::3] = two[1::3]
        found, expected = env.step(one), other.step(two.astype(float))
        assert_same(found, expected)
        if action != "quantiles":
            assert found[-1]["kept"][::3].tolist() == [24, 24]
        assert found[1][::3].tolist() == [0, 0]


def test_the_random_twin_is_as_good_as_the_agent_dynamic_random() -> None:
    settings = {"train_size": 300, "epochs": 8, "budget": 0.2}
    env = RelativeRewards(make_vector(40, twins=2, action="weights", **settings), "random")
    env.reset(seed=0)
    for _ in range(8):
        *_, infos = env.step(np.ones((40, 300)))
    agent = dynprune_agents.make("dynamic_random")
    other = make_vector(20, **settings)
    seen, _ = other.reset(seed=0)
    agent.reset(other.episode(list(range(20))))
    for _ in range(8):
        seen, *_, told = other.step(agent.select(seen))
    assert infos["run_visits"][::2].tolist() == told["run_visits"].tolist()
    accuracies = infos["val_accuracy"][::2] - told["val_accuracy"]
    assert abs(accuracies.mean()) < 3 * accuracies.std() / np.sqrt(20) + 1e-3


@pytest.mark.parametrize("actions", [np.zeros((5, 8)), np.full((6, 8), "a"), np.full((6, 8), 2.0)])
def test_wrong_actions_are_refused_in_the_environments_words(actions: Any) -> None:
    env = relative("random", action="tilts")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected|numbers"):
        env.step(actions)
    assert env.step(np.zeros((6, 8)))[-1]["epoch"].tolist() == [1] * 6


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: RelativeRewards(make_vector(2)), "compare twins"),
        (lambda: RelativeRewards(make_vector(2, twins=1)), "twins of at least 2"),
        (lambda: RelativeRewards(SyncVectorEnv([lambda: gym.make("CartPole-v1")])), "twins"),
        (lambda: relative("ranks"), "Did you mean 'rank'"),
        (lambda: relative(None), "named by one of rank, mean, random, got None"),
        (lambda: RelativeRewards(ClipReward(relative(), -9, 9), "mean"), "compared already"),
        (lambda: RelativeRewards(scaled(), "random"), r"RescaleAction\(RelativeRewards\(envs"),
        (
            lambda: RelativeRewards(DictInfoToList(make_vector(2, twins=2))),
            "DictInfoToList goes around RelativeRewards",
        ),
        (lambda: relative(loss_share=1.5), r"loss_share is a share in \[0, 1\], got 1.5"),
    ],
)
def test_what_cannot_be_compared_is_refused(make: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()


def scaled(of: Any = None) -> Any:
    of = make_vector(4, twins=2, action="weights") if of is None else of
    return RescaleAction(of, np.float32(-1), np.float32(1))


def test_the_random_twin_is_dynamic_random_under_wrappers_of_actions() -> None:
    plain = RelativeRewards(make_vector(4, twins=2, action="weights"), "random")
    wrapped = scaled(RelativeRewards(make_vector(4, twins=2, action="weights"), "random"))
    for env in (plain, wrapped):
        env.reset(seed=0)
    nothing = np.full(wrapped.action_space.shape, -1, np.float32)
    expected = plain.step(np.zeros_like(nothing))[-1]["kept"]
    assert wrapped.step(nothing)[-1]["kept"].tolist() == expected.tolist()
    RelativeRewards(scaled(), "rank")  # which leaves actions as they are


def test_other_wrappers_may_lie_below_and_above() -> None:
    inner = NormalizeReward(make_vector(6, "NextStep", twins=3))
    env = RecordEpisodeStatistics(RelativeRewards(inner, "rank"))
    plain = relative("rank", "NextStep")
    for each in (env, plain):
        each.reset(seed=0)
    for mask in random_masks(env, 4, SHARE):
        found, expected = env.step(mask), plain.step(mask)
        assert_same(found[1], expected[1])
    assert found[-1]["episode"]["r"] == pytest.approx(found[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_goes_on_with_the_same_rewards(kind: str) -> None:
    env = relative(kind, "SameStep", loss_share=0.5)
    masks = random_masks(env, 8, SHARE)
    env.reset(seed=0)
    for mask in masks[:2]:
        env.step(mask)
    copy = env.fork()
    for mask in masks[2:]:
        assert_same(copy.step(mask), env.step(mask))
    assert copy.loss_share == 0.5


def test_what_the_environment_knows_is_reached_through_the_wrapper() -> None:
    env = relative()
    env.reset(seed=4)
    assert env.settings.epochs == 4
    assert env.twins == 3
    assert env.np_random_seed == (4, 4, 4, 5, 5, 5)
    assert_same(env.evaluate("test")._asdict(), env.unwrapped.evaluate("test")._asdict())
    with pytest.raises(AttributeError, match="nonsense"):
        _ = env.nonsense
