"""Twins differ in nothing but their actions, and end together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from helpers.episodes import (
    assert_same,
    differs,
    go_on,
    leaves,
    make,
    make_vector,
    play,
    random_masks,
    row_of,
    watch_passes,
)

from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.rewards import REWARDS, TELESCOPING, TERMINAL

# Kept shares that end the runs of a group of two at different times: after 2 and 4, 3 and 4 epochs.
UNEQUAL = np.array([1.0, 0.2, 0.7, 0.5])[:, None]
MODES = ["Disabled", "SameStep", "NextStep"]


def two_pairs(mode: str = "Disabled", **settings: Any) -> Any:
    return make_vector(4, mode, twins=2, **settings)


def rows(tree: Any, first: int, second: int) -> tuple[Any, Any]:
    """Two rows of batched arrays in dicts."""
    return tuple({path: value[row] for path, value in leaves(tree)} for row in (first, second))  # type: ignore[return-value]


def middle(env: Any, steps: int) -> np.ndarray:
    """(steps, R, ...) actions that draw where their kind does."""
    action = env.action_space.sample() * 0
    return np.stack([action + (env.settings.action == "weights") * 0.5] * steps)


def test_make_vec_makes_groups_of_twins() -> None:
    envs = gym.make_vec("DynPrune-Digits-v0", num_envs=32, twins=8, train_size=48, action="tilts")
    _, infos = envs.reset(seed=3)
    seeds = infos["run_seed"].reshape(4, 8)
    assert (seeds == seeds[:, :1]).all()
    assert len(set(seeds[:, 0])) == 4


@pytest.mark.parametrize("action", ACTIONS)
def test_twins_of_the_same_actions_are_the_same_also_where_an_action_draws(action: str) -> None:
    env = two_pairs(action=action)
    for observations, *others, infos in play(env, middle(env, 4), seed=5):
        for first in (0, 2):
            assert_same(*rows((observations, *others, infos), first, first + 1))
    assert differs(*rows(observations, 0, 2))


def test_a_group_is_the_single_environment_of_its_seed_up_to_its_end(
    back_end: dict[str, Any],
) -> None:
    env = two_pairs(**back_end)
    masks = random_masks(env, 4, UNEQUAL)
    steps = play(env, masks, seed=7)
    lengths = []
    for row in range(4):
        alone = play(make(**back_end), masks[:, row], seed=7 + row // 2)
        lengths.append(len(alone) - 1)
        picked = row_of(steps, row)
        assert len(picked) == 5  # the group ends with the slower of the two
        for (observation, *_, info), (expected, *_, told) in zip(picked, alone, strict=False):
            assert_same(observation, expected, 1e-4)
            assert_same(info, told, 1e-4)
    assert lengths == [2, 4, 3, 4]


def test_twins_differ_in_the_mask_alone_not_in_model_or_order() -> None:
    env = make_vector(2, twins=2)
    _, infos = env.reset(seed=1)
    assert infos["val_loss"][0] == infos["val_loss"][1]
    passes = watch_passes(env)
    env.step(np.array([np.ones(48), np.arange(48) < 24]))
    whole, half = (each.order.tolist() for each in passes[0])
    assert [i for i in whole if i < 24] == half


@pytest.mark.parametrize("reward", REWARDS)
def test_a_row_whose_run_is_over_idles_until_its_twins_are_over_too(reward: str) -> None:
    env = two_pairs(reward=reward)
    steps = play(env, random_masks(env, 4, UNEQUAL), seed=0)
    assert [step[2].tolist() for step in steps[1:]] == [[False] * 4] * 3 + [[True] * 4]
    terminal = reward in {each.__name__ for each in TERMINAL}
    for before, after in pairwise(steps[2:]):  # row 0 is over after two epochs
        assert_same(*({path: v[0] for path, v in leaves(s[0])} for s in (before, after)))
        assert after[-1]["kept"][0] == 0
        assert after[-1]["run_visits"][0] == before[-1]["run_visits"][0]
        assert after[-1]["_epoch"].all()
    assert [step[1][0] != 0 for step in steps[3:]] == [False, terminal]
    assert (steps[-1][1] != 0).all() or not terminal


@pytest.mark.parametrize("reward", [each.__name__ for each in TELESCOPING])
def test_telescoping_rewards_of_twins_are_paid_when_they_are_earned(reward: str) -> None:
    env, alone = two_pairs(reward=reward), make(reward=reward)
    masks = random_masks(env, 4, UNEQUAL)
    paid = np.array([step[1] for step in play(env, masks, seed=0)[1:]])
    for row in range(4):
        own = [step[1] for step in play(alone, masks[:, row], seed=row // 2)[1:]]
        assert paid[:, row] == pytest.approx([*own, 0, 0][:4], abs=1e-5)


def test_terminal_rewards_of_twins_are_what_each_has_reached() -> None:
    env = two_pairs(reward="final_accuracy")
    steps = play(env, random_masks(env, 4, UNEQUAL), seed=0)
    assert not np.any([step[1] for step in steps[1:-1]])
    assert steps[-1][1].tolist() == steps[-1][-1]["val_accuracy"].tolist()
    again = env.step(np.ones((4, 48)))
    assert again[2].all()
    assert again[1].tolist() == [0] * 4


def test_the_action_of_an_idle_row_is_checked_and_does_nothing() -> None:
    env, other = two_pairs(action="weights"), two_pairs(action="weights")
    weights = random_masks(env, 4, UNEQUAL).astype(float)
    for each in (env, other):
        play(each, weights[:2], seed=0)
    broken, changed = weights[2].copy(), weights[2].copy()
    broken[0, 0], changed[0] = np.nan, 1 - changed[0]
    with pytest.raises(ValueError, match="NaN"):
        env.step(broken)
    assert_same(env.step(changed), other.step(weights[2]))


@pytest.mark.parametrize("mode", MODES)
def test_whole_groups_begin_anew(mode: str) -> None:
    # The pairs end after 2 and 4 steps.
    env = two_pairs(mode)
    masks = random_masks(env, 5, np.array([1.0, 1.0, 0.7, 0.2])[:, None])
    steps = play(env, [], seed=0)
    steps += [env.step(mask) for mask in masks]
    epochs = np.array([step[-1]["epoch"] for step in steps]).T
    ends = [step[2].tolist() for step in steps[1:]]
    expected = {
        "Disabled": [0, 1, 2, 2, 2, 2],
        "SameStep": [0, 1, 0, 1, 0, 1],
        "NextStep": [0, 1, 2, 0, 1, 2],
    }[mode]
    assert epochs[0].tolist() == epochs[1].tolist() == expected
    assert all(end[0] == end[1] and end[2] == end[3] for end in ends)
    assert [end[0] for end in ends] == {
        "Disabled": [False, True, True, True, True],
        "SameStep": [False, True, False, True, False],
        "NextStep": [False, True, False, False, True],
    }[mode]
    assert [end[2] for end in ends][:4] == [False, False, False, True]
    if mode == "SameStep":
        told = steps[4][-1]["final_info"]
        assert steps[4][-1]["_final_info"].tolist() == [True] * 4
        assert told["epoch"].tolist() == [2, 2, 3, 4]
        seeds = steps[4][-1]["run_seed"]
        assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
        assert steps[0][-1].keys() == steps[1][-1].keys()


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(3, [3, 3, 4, 4]), ([8, 2], [8, 8, 2, 2]), ([8, 8, 2, 2], [8, 8, 2, 2])],
    ids=["one number", "one per group", "one per row"],
)
def test_seeds_are_of_groups(seed: Any, expected: list[int]) -> None:
    env = two_pairs()
    observations, infos = env.reset(seed=seed)
    assert list(env.np_random_seed) == expected
    alone = make()
    for row, each in enumerate(expected):
        wanted, told = alone.reset(seed=each)
        assert_same({name: value[row] for name, value in observations.items()}, wanted)
        assert infos["run_seed"][row] == told["run_seed"]


def test_twins_draw_alike_without_a_seed_too() -> None:
    env = two_pairs()
    for _ in range(2):
        seeds = env.reset()[1]["run_seed"]
        assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"seed": [1, 2, 3]}, "expected 4 seeds, one per row, or 2, one per group of 2 twins"),
        ({"seed": [1, 2, 3, 3]}, r"twins share a seed, got \[1, 2\]"),
        ({"seed": [1, None, 3, 3]}, "twins share a seed"),
        (
            {"options": {"reset_mask": np.array([True, False, True, True])}},
            "reset_mask names all 2 rows of a group or none",
        ),
    ],
)
def test_halves_of_groups_are_refused(arguments: dict[str, Any], expected: str) -> None:
    env = two_pairs()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=expected):
        env.reset(**arguments)
    assert_same(env.get_state(), before)


@pytest.mark.parametrize("twins", [0, -1, 3, 8, 2.0, True, "2", None])
def test_a_number_of_twins_that_does_not_divide_the_rows_is_refused(twins: Any) -> None:
    with pytest.raises(ValueError, match="twins"):
        make_vector(4, twins=twins)


def test_a_single_environment_has_no_twins() -> None:
    with pytest.raises(ValueError, match="num_envs=1 and twins=2"):
        make(twins=2)


def test_some_groups_can_be_reset() -> None:
    env = two_pairs()
    masks = random_masks(env, 4, UNEQUAL)
    play(env, masks, seed=0)
    mask = np.array([True, True, False, False])
    _, infos = env.reset(seed=[5, 6], options={"reset_mask": mask})
    assert env.ended.tolist() == (~mask).tolist()
    assert infos["epoch"].tolist() == [0, 0, 3, 4]
    assert infos["run_seed"][:2].tolist() == [make().reset(seed=5)[1]["run_seed"]] * 2
    _, rewards, terminations, *_ = env.step(masks[0])
    assert (rewards != 0).tolist() == mask.tolist()
    assert terminations.tolist() == (~mask).tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reward", ["val_loss", "final_loss"])
@pytest.mark.parametrize("way", ["fork", "state", "file"])
@pytest.mark.parametrize("done", [1, 3, 4])
def test_a_copy_goes_on_bit_for_bit_also_while_rows_idle(
    way: str, mode: str, reward: str, done: int, tmp_path: Path
) -> None:
    env = two_pairs(mode, reward=reward)
    masks = random_masks(env, 10, UNEQUAL)
    env.reset(seed=0)
    for mask in masks[:done]:
        env.step(mask)
    copy = env.fork() if way == "fork" else two_pairs(mode, reward=reward)
    if way == "state":
        copy.set_state(env.get_state())
    elif way == "file":
        env.save(tmp_path / "run.pt")
        copy.load(tmp_path / "run.pt")
    assert copy.twins == 2
    for mask in masks[done:]:
        assert_same(copy.step(mask), env.step(mask))


def test_the_state_of_other_groups_is_refused() -> None:
    env, other = two_pairs(), make_vector(4, twins=4)
    env.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(ValueError, match="twins"):
        env.set_state(other.get_state())


def test_every_twin_has_a_panel_that_stands_still_while_it_idles() -> None:
    env = two_pairs(render_mode="rgb_array")
    masks = random_masks(env, 4, UNEQUAL)
    play(env, masks[:2], seed=0)
    before = env.render()
    go_on(env, masks[2:3])
    after = env.render()
    assert before is not None and after is not None
    assert [np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("mode", MODES)
def test_runs_that_have_diverged_before_they_began_end_in_their_first_step(mode: str) -> None:
    env = two_pairs(mode, reward="final_loss")
    env.reset(seed=0)
    env.trainer.diverged[:2] = True  # as a model whose first losses are not finite
    env._metrics.val_loss[:2] = 20
    _, rewards, terminations, *_ = env.step(np.ones((4, 48)))
    assert rewards.tolist() == [-20, -20, 0, 0]
    assert terminations.tolist() == [True, True, False, False]
    _, rewards, terminations, *_ = env.step(np.ones((4, 48)))
    assert rewards[:2].tolist() == [0, 0]
    assert terminations[:2].tolist() == [mode == "Disabled"] * 2


@pytest.mark.parametrize("action", ACTIONS)
def test_the_random_actions_play_dynamic_random_at_an_even_pace(action: str) -> None:
    env = make_vector(4, AutoresetMode.DISABLED, twins=2, action=action, train_size=200)
    env.reset(seed=0)
    kept = np.zeros(4)
    for _ in range(4):
        actions = env.random_actions()
        assert actions.shape == env.action_space.shape
        assert env.single_action_space.contains(actions[0].astype(env.single_action_space.dtype))
        assert_same(env.random_actions(), actions)
        assert_same(actions[0], actions[1])
        *_, infos = env.step(actions)
        kept += infos["kept"]
        if action != "quantiles":  # where the pace is even on average
            assert infos["kept"].tolist() == [100] * 4
    assert kept == pytest.approx(400, abs=60)
