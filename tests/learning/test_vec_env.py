"""Stable-Baselines3 sees the same runs as the environments themselves."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import (
    ClipReward,
    NormalizeObservation,
    RecordEpisodeStatistics,
    TransformObservation,
)
from helpers.episodes import assert_same, make, make_vector
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize

from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_agents.policies._features import TASK_SIZE
from dynprune_env import RelativeRewards
from dynprune_env.selection.observations import progress_entries, row_of


def group(size: int = 2, **settings: Any) -> Any:
    return make_vector(size, "SameStep", **settings)


def val_loss(observation: Any) -> np.ndarray:
    """(R,) nats."""
    return progress_entries(observation["progress"])["val_loss"]


def masks(env: Any, steps: int, seed: int = 0) -> np.ndarray:
    """As Stable-Baselines3 sends them."""
    shape = (steps, env.num_envs, *env.action_space.shape)
    return (np.random.default_rng(seed).random(shape) < 0.5).astype(np.float32)


def test_each_row_is_the_single_environment_with_its_seed_and_its_end_is_the_last_it_saw() -> None:
    settings: list[dict[str, Any]] = [{"budget": 0.4}, {"budget": 0.7, "label_noise": 0.5}]
    env = DynPruneVecEnv([group(2, **setting) for setting in settings])
    assert env.seed(5) == [5, 6, 7, 8]
    actions = masks(env, 4)
    observation, steps = env.reset(), []
    first = observation
    for action in actions:
        steps.append(env.step(action))
    for row in range(4):
        single = make(**settings[row // 2])
        expected, info = single.reset(seed=5 + row)
        assert_same(row_of(first, row), expected)
        assert env.reset_infos[row] == info
        for action, (observation, rewards, dones, infos) in zip(actions, steps, strict=True):
            expected, reward, ended, _, info = single.step(action[row])
            assert rewards[row] == pytest.approx(reward, abs=1e-4)
            assert dones[row] == ended
            messages = dict(infos[row])
            assert messages.pop("TimeLimit.truncated") is False
            if ended:
                seen = messages.pop("terminal_observation")
                assert seen[TASK_SIZE].tolist() == [4, 10]
            else:
                seen = row_of(observation, row)
            assert_same(seen, expected, tolerance=1e-4)
            assert_same(messages, info, tolerance=1e-4)
            assert {type(value) for value in messages.values()} <= {int, float, bool}
            if ended:
                break
        else:
            pytest.fail("the episode did not end")


def test_a_new_run_begins_where_one_ended() -> None:
    env = DynPruneVecEnv(group(2, observation="run", action="tilts"))
    env.seed(0)
    first = env.reset()
    for _ in range(4):
        observation, _, dones, infos = env.step(np.zeros((2, 8)))
    assert dones.all()
    assert observation[:, 1] == pytest.approx(0)
    assert not np.array_equal(observation, first)
    assert all(info["terminal_observation"][1] == 1 for info in infos)


def test_observations_lie_in_the_space_whatever_the_epochs_and_classes() -> None:
    groups = [group(1, epochs=3), group(2, epochs=5), group(1, task="Planted")]
    env = VecCheckNan(DynPruneVecEnv(groups), raise_exception=True)
    observation = env.reset()
    assert isinstance(env.observation_space, spaces.Dict)
    assert observation[TASK_SIZE].tolist() == [[3, 10], [5, 10], [5, 10], [4, 10]]
    for action in masks(env, 4):
        observation, *_ = env.step(action)
        for row in range(4):
            one = {name: value[row] for name, value in observation.items()}
            assert env.observation_space.contains(one)


def test_monitored_and_normalised_returns_are_those_of_the_groups() -> None:
    inner = DynPruneVecEnv([group(2), group(1, budget=0.3)])
    env = VecNormalize(VecMonitor(inner), norm_obs=False, norm_reward=True, gamma=1.0)
    env.seed(1)
    before = env.reset()
    monitored, raw, visits = [], [], 0
    for action in masks(env, 8):
        observation, rewards, _, infos = env.step(action)
        assert np.isfinite(rewards).all()
        raw.append(env.get_original_reward())
        monitored += [info["episode"]["r"] for info in infos if "episode" in info]
        visits += sum(info["kept"] for info in infos)
    assert len(monitored) >= 6
    assert inner.returns == pytest.approx(monitored, abs=1e-5)
    assert np.std(raw) > 0
    assert before.keys() == observation.keys()
    assert (inner.steps, inner.visits) == (24, visits)
    assert inner.seconds > 0


def test_scoring_counts_as_a_third_of_a_visit() -> None:
    inner = DynPruneVecEnv(group(1, observe="all"))
    inner.reset()
    _, _, _, (info,) = inner.step(np.arange(48)[None] < 18)
    assert (info["run_visits"], info["scored"]) == (18, 30)
    assert inner.visits == 28


def test_groups_are_swapped_under_the_wrappers() -> None:
    inner = DynPruneVecEnv([group(2), group(1)])
    env = VecNormalize(VecMonitor(inner), norm_obs=False, gamma=1.0)
    env.reset()
    for action in masks(env, 4):
        env.step(action)
    counted, variance = inner.steps, float(env.ret_rms.var)
    assert inner.returns
    others = [group(1, data_seed=7, epochs=6), group(2, data_seed=8, budget=0.2)]
    inner.replace_groups(others)
    assert inner.returns == []
    assert (inner.steps, float(env.ret_rms.var)) == (counted, variance)
    inner.seed(3)
    observation = env.reset()
    assert observation[TASK_SIZE][:, 0].tolist() == [6, 4, 4]
    alone = make(data_seed=8, budget=0.2)
    assert_same(row_of(observation, 1), alone.reset(seed=4)[0])
    env.step(masks(env, 1)[0])
    assert inner.steps == counted + 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{}, {"train_size": 50}], "got 48 and 50; give all of them the same train_size"),
        ([{}, {"action": "weights"}], "same action kind, got 'mask' and 'weights'"),
        ([{}, {"observation": "summary"}], "same observation kind, got 'samples' and 'summary'"),
        ([], "at least one group"),
    ],
)
def test_groups_that_do_not_fit_together_are_refused(settings: list[Any], expected: str) -> None:
    groups = [group(1, **setting) for setting in settings]
    with pytest.raises(ValueError, match=expected):
        DynPruneVecEnv(groups)
    if groups:
        env = DynPruneVecEnv(groups[0])
        with pytest.raises(ValueError, match=expected):
            env.replace_groups(groups[1])
        env.reset()


@pytest.mark.parametrize("mode", ["Disabled", "NextStep", "SameStep"])
def test_groups_of_any_mode_are_switched_under_their_wrappers(mode: str) -> None:
    def rewards(mode: str, wrapped: bool) -> list[Any]:
        envs = make_vector(2, mode)
        inner = RecordEpisodeStatistics(ClipReward(envs, -9, 9)) if wrapped else envs
        env = DynPruneVecEnv(inner)
        assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        env.seed(0)
        found = [env.reset()]
        for action in masks(env, 9):
            *step, infos = env.step(action)
            ended = [info.pop("episode", None) for info in infos]
            assert [each is not None for each in ended] == (step[2] & wrapped).tolist()
            assert all(each["l"] == 4 for each in ended if each)
            found.append((*step, infos))
        return found

    assert_same(rewards(mode, wrapped=True), rewards("SameStep", wrapped=False))


def test_what_cannot_be_a_group_is_told_what_can() -> None:
    envs = gym.make_vec("DynPrune-Digits-v0", 2, observation="run", action="tilts")
    with pytest.raises(ValueError, match="NormalizeObservation cannot take"):
        DynPruneVecEnv(NormalizeObservation(envs))
    with pytest.raises(ValueError, match=r"TransformObservation cannot take.*VecEnvWrapper"):
        DynPruneVecEnv(ClipReward(TransformObservation(envs, lambda seen: 2 * seen), -9, 9))
    with pytest.raises(ValueError, match="same environment stands there twice"):
        DynPruneVecEnv([envs, ClipReward(envs, -9, 9)])
    with pytest.raises(ValueError, match="vectorization_mode"):
        DynPruneVecEnv(gym.make_vec("DynPrune-Digits-v0", 2, vectorization_mode="sync"))


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 replicas altogether, got 3"):
        DynPruneVecEnv(group(2)).replace_groups([group(2), group(1)])


def test_groups_of_different_size_fit_together_where_the_spaces_are_short() -> None:
    short = {"observation": "run", "action": "tilts"}
    env = DynPruneVecEnv([group(1, **short), group(1, train_size=30, **short)])
    assert env.reset().shape == (2, 12)


def twins(size: int, kind: str = "mean", **settings: Any) -> Any:
    return RelativeRewards(group(size, twins=size, **settings), kind)


def test_groups_of_twins_share_seeds_and_their_relative_rewards_come_at_the_end() -> None:
    env = DynPruneVecEnv([twins(3), twins(2, budget=0.3), group(2)])
    assert env.seed(9) == [9, 9, 9, 10, 10, 11, 12]
    observation = env.reset()
    assert len(set(val_loss(observation)[:3])) == 1
    assert len(set(val_loss(observation))) == 4
    paid = []
    for action in masks(env, 4):
        _, rewards, dones, infos = env.step(action)
        assert (rewards[:5] != 0).tolist() == dones[:5].tolist()
        for rows in (slice(0, 3), slice(3, 5)):
            if dones[rows].any():
                told = [0.75 * i["val_accuracy"] - 0.25 * i["val_loss"] for i in infos[rows]]
                assert dones[rows].all()
                assert rewards[rows] == pytest.approx(np.array(told) - np.mean(told), abs=1e-6)
                paid.append(rows)
    assert len(paid) == 2


def test_returns_are_the_groups_own_also_inside_relative_rewards() -> None:
    returns = []
    for made in (group(2, twins=2), twins(2)):
        env = DynPruneVecEnv(made)
        env.seed(2)
        first = val_loss(env.reset())
        for action in masks(env, 4):
            _, _, dones, infos = env.step(action)
        assert dones.all()
        last = [info["val_loss"] for info in infos]
        assert env.returns == pytest.approx(first - last, abs=1e-5)
        returns.append(env.returns)
    assert returns[0] == returns[1]
    assert min(returns[0]) > 0.01


def test_attributes_and_methods_are_reached_through_wrappers() -> None:
    wrapped = RecordEpisodeStatistics(twins(2, budget=0.3))
    env = DynPruneVecEnv([wrapped, group(1)])
    env.seed(0)
    env.reset()
    assert env.get_attr("kind", 0) == ["mean"]
    assert [settings.budget for settings in env.get_attr("settings")] == [0.3, 0.3, 0.5]
    env.set_attr("kind", "rank", [0, 1])
    assert wrapped.env.kind == "rank"
    losses = env.env_method("evaluate", "val", indices=[1])[0].loss
    assert losses == wrapped.unwrapped.evaluate("val").loss[1]


def test_environments_of_another_package_are_refused() -> None:
    with pytest.raises(ValueError, match="a group is a DynPruneVectorEnv, wrapped or not"):
        DynPruneVecEnv(gym.make_vec("CartPole-v1", 2))


def test_who_passes_paired_is_told_what_took_its_place() -> None:
    with pytest.raises(ValueError, match=r"twins.*RelativeRewards"):
        DynPruneVecEnv(group(2), paired=True)


@pytest.mark.parametrize("repeated", [False, True])
def test_only_repeated_runs_start_again_at_every_reset(repeated: bool) -> None:
    env = DynPruneVecEnv(group(2), repeated=repeated)
    env.seed(4)
    first, second = (val_loss(env.reset()).tolist() for _ in range(2))
    assert (first == second) is repeated


def test_attributes_and_methods_are_those_of_a_replicas_group() -> None:
    env = DynPruneVecEnv([group(2, budget=0.3), group(1)])
    assert [settings.budget for settings in env.get_attr("settings")] == [0.3, 0.3, 0.5]
    assert [settings.budget for settings in env.get_attr("settings", 2)] == [0.5]
    env.set_attr("note", 1, indices=[0, 1])
    assert env.get_attr("note", [1]) == [1]
    assert not env.has_attr("note")
    with pytest.raises(ValueError, match="share its attributes"):
        env.set_attr("note", 2, indices=0)
    env.reset()
    evaluations = env.env_method("evaluate", "test", indices=[2, 0])
    expected = env.groups[1].evaluate("test").loss[0], env.groups[0].evaluate("test").loss[0]
    assert tuple(float(each.loss) for each in evaluations) == expected
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    assert env.render_mode is None
    assert env.get_images() == [None] * 3
    env.close()


def test_panels_of_all_replicas_can_be_drawn() -> None:
    env = DynPruneVecEnv([group(1, render_mode="rgb_array"), group(1, render_mode="rgb_array")])
    env.reset()
    images = env.get_images()
    assert len(images) == 2
    tiled = env.render()
    assert tiled is not None
    assert tiled.dtype == np.uint8
