"""The setting `columns`: fewer are observed and kept, and nothing else changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from helpers.episodes import assert_same, go_on, make, make_vector, play, random_masks

from dynprune_env import Settings
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.observations import OBSERVATIONS


def actions_for(env: Any, steps: int) -> list[np.ndarray]:
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(steps)]


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_kind_plays_the_same_game_where_no_column_was_asked_for(
    action: str, observation: str
) -> None:
    kinds = {"action": action, "observation": observation, "twins": 2}
    everything, none = make_vector(4, **kinds), make_vector(4, columns=(), **kinds)
    actions = actions_for(everything, 3)
    expected, found = (play(env, actions, seed=3) for env in (everything, none))
    for (seen, *rest), (whole, *others) in zip(found, expected, strict=True):
        if observation == "samples":
            assert seen.keys() == {"progress", "task_size"}
            whole = {name: whole[name] for name in seen}
        assert_same([seen, rest], [whole, others])
        assert none.observation_space.contains(seen)
    assert_same(none.random_actions(), everything.random_actions())


@pytest.mark.parametrize("observe", ["visited", "all"])
def test_only_what_was_asked_for_is_observed_with_the_same_numbers(observe: str) -> None:
    columns = ("age", "loss_var", "forgetting")
    whole, some = make(observe=observe), make(observe=observe, columns=columns)
    assert some.settings.columns == ("loss_var", "forgetting", "age")  # in the order of the table
    assert some.observation_space.spaces.keys() == {*columns, "progress", "task_size"}
    masks = random_masks(whole, 4)
    for (expected, *_), (found, *_) in zip(
        play(whole, masks, seed=1), play(some, masks, seed=1), strict=True
    ):
        assert_same(found, {name: expected[name] for name in some.observation_space.spaces})


def test_what_is_not_kept_is_not_there_and_says_so() -> None:
    env = make(columns=["loss"], action="strategy")
    env.reset(seed=0)
    statistics = env.trainer.statistics
    assert statistics.state().keys() == {"loss", "margin", "last_visit"}  # the action's too
    with pytest.raises(KeyError, match="'visits' is not kept, only loss, margin, age, label"):
        _ = statistics.visits


def test_the_panel_is_drawn_without_the_losses_being_observed() -> None:
    whole, none = (make(render_mode="rgb_array", **kept) for kept in ({}, {"columns": ()}))
    panels = []
    for env in (whole, none):
        play(env, random_masks(env, 2), seed=0)
        panels.append(env.render())
    np.testing.assert_array_equal(*panels)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("loss", "margins"), "no column is called 'margins'; there are loss, loss_mean"),
        (("Loss Mean",), "Did you mean 'loss_mean'?"),
        ((3,), "no column is called '3'"),
        ("loss", "columns is tuple or None, got 'loss'"),
        (3, "columns is tuple or None, got 3"),
    ],
)
def test_a_wrong_column_is_met_by_one_sentence(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Settings(columns=given)


def test_lists_doubles_and_any_order_are_the_same_setting() -> None:
    assert Settings(columns=["visits", "loss", "visits"]) == Settings(columns=("loss", "visits"))  # type: ignore[arg-type]
    assert Settings().observed != Settings(columns=()).observed == ()


def test_an_environment_with_columns_is_made_again_from_its_spec() -> None:
    env = gym.make("dynprune_env:DynPrune-Digits-v0", columns=("loss", "visits"))
    again = EnvSpec.from_json(env.spec.to_json()).make()
    assert again.unwrapped.settings == env.unwrapped.settings
    assert again.observation_space == env.observation_space


def test_a_state_of_more_columns_goes_on_in_fewer_and_not_the_other_way(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    whole, few = make(), make(columns=("loss",))
    masks = random_masks(whole, 4)
    play(whole, masks[:2], seed=2)
    whole.save(path)
    assert set(few.load(path)) == {"loss", "progress", "task_size"}
    copy = few.fork()
    expected = go_on(whole, masks[2:])
    for env in (few, copy):
        for (seen, *rest), (all_seen, *others) in zip(go_on(env, masks[2:]), expected, strict=True):
            assert_same([seen, rest], [{name: all_seen[name] for name in seen}, others])
    few.save(path)
    fresh = make()
    with pytest.raises(ValueError, match=r"did not keep loss_mean, .* scored: load it"):
        fresh.load(path)
    with pytest.raises(ResetNeeded):
        _ = fresh.trainer
