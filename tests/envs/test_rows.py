"""Vector environments offer what Gymnasium's own do: modes, calls of each row, wrappers."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import (
    DictInfoToList,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
)
from helpers.episodes import SMALL, assert_same, make, make_vector, random_masks

from dynprune_env import Evaluation
from dynprune_env.selection.observations import OBSERVATIONS

ID = "DynPrune-Digits-v0"


def test_the_default_mode_is_that_of_gymnasiums_own_vector_environments() -> None:
    ours = gym.make_vec(ID, 2, **SMALL)
    theirs = gym.make_vec(ID, 2, vectorization_mode="sync", **SMALL)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert ours.unwrapped.autoreset_mode is AutoresetMode.NEXT_STEP
    assert_same(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for mask in random_masks(ours, 9):
        one, other = ours.step(mask), theirs.step(mask)
        assert_same(one[:4], other[:4], tolerance=1e-4)


def test_gymnasiums_wrappers_of_vector_environments_see_every_epoch() -> None:
    envs = gym.make_vec(ID, 2, **{**SMALL, "observation": "run"})
    wrapped = DictInfoToList(RecordEpisodeStatistics(NormalizeReward(NormalizeObservation(envs))))
    wrapped.reset(seed=0)
    lengths = []
    for mask in random_masks(wrapped, 10):
        *_, infos = wrapped.step(mask)
        lengths += [info["episode"]["l"] for info in infos if "episode" in info]
    assert lengths == [4, 4, 4, 4]


def test_the_mode_can_be_changed_and_the_state_does_not_know_it() -> None:
    envs = make_vector(2, "Disabled")
    envs.autoreset_mode = "SameStep"
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.like_this().autoreset_mode is AutoresetMode.SAME_STEP
    with pytest.raises(ValueError, match="AutoresetMode"):
        envs.autoreset_mode = "never"


def test_calls_give_each_row_its_part_as_gymnasiums_do() -> None:
    ours = make_vector(2)
    theirs = SyncVectorEnv([make, make])
    ours.reset(seed=0), theirs.reset(seed=0)
    one, other = ours.call("evaluate", "val"), theirs.call("evaluate", "val")
    assert all(isinstance(each, Evaluation) for each in one)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert [each.epochs for each in ours.get_attr("settings")] == [4, 4]
    assert ours.get_attr("ended") == (False, False)
    with pytest.raises(AttributeError, match="nothing"):
        ours.call("nothing")
    ours.set_attr("render_mode", ["rgb_array", "rgb_array"])
    ours.set_attr("note", "a word")
    assert (ours.render_mode, ours.get_attr("note")) == ("rgb_array", ("a word", "a word"))
    for wrong in ([1, 2], [1], (1, 1, 1)):
        with pytest.raises(ValueError, match="rows share the attribute 'note'"):
            ours.set_attr("note", wrong)


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("name", ["frameskip", "num_env", "epoch"])
def test_an_unknown_keyword_is_refused_in_pythons_words(name: str, vector: bool) -> None:
    arguments: dict[str, Any] = {name: 4}
    with pytest.raises(TypeError, match=f"got an unexpected keyword argument '{name}'; there are"):
        gym.make_vec(ID, 2, **arguments) if vector else gym.make(ID, **arguments)


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_no_info_has_the_name_of_an_observation(kind: str) -> None:
    env, envs = make(observation=kind), make_vector(2, "SameStep", observation=kind)
    names: set[str] = set()
    for each in (env, envs):
        names |= set(each.reset(seed=0)[1])
        for mask in random_masks(each, 4):
            names |= set(each.step(mask)[4])
    space = env.observation_space
    observed = set(space.spaces) if isinstance(space, gym.spaces.Dict) else set()
    assert not observed & names
    assert {"run_visits", "run_progress", "final_info"} <= names


def test_the_task_size_is_observed() -> None:
    env = make(task="Planted", epochs=3)
    assert env.reset(seed=0)[0]["task_size"].tolist() == [3, 10]
    assert env.observation_space["task_size"].contains(np.float32([3, 10]))
