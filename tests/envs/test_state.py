"""A saved, copied or forked run goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from helpers.episodes import (
    assert_same,
    differs,
    go_on,
    leaves,
    make,
    make_vector,
    play,
    random_masks,
    run_script,
)

Make = Callable[..., Any]


def _by_state(env: Any, fresh: Any, path: Path) -> Any:
    fresh.set_state(env.get_state())
    return fresh


def _by_file(env: Any, fresh: Any, path: Path) -> Any:
    env.save(path)
    fresh.load(path)
    return fresh


def _by_used_environment(env: Any, fresh: Any, path: Path) -> Any:
    play(fresh, random_masks(fresh, 3, seed=9), seed=9)
    fresh.set_state(env.get_state())
    return fresh


def _by_fork(env: Any, fresh: Any, path: Path) -> Any:
    return env.fork()


def make_three(**settings: Any) -> Any:
    return make_vector(3, "SameStep", **settings)


WAYS = {
    "get_state and set_state": _by_state,
    "save and load": _by_file,
    "set_state over another run": _by_used_environment,
    "fork": _by_fork,
}
single_and_vector = pytest.mark.parametrize("new", [make, make_three], ids=["single", "vector"])
# Kept shares that end the replicas' runs at different times.
SHARE = np.array([0.9, 0.5, 0.2])[:, None]


def masks_for(env: Any, steps: int) -> np.ndarray:
    return random_masks(env, steps, SHARE if len(env.action_space.shape) == 2 else 0.5)


@single_and_vector
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_copy_goes_on_bit_for_bit(
    way: Callable[..., Any], new: Make, back_end: dict[str, Any], tmp_path: Path
) -> None:
    env = new(**back_end)
    masks = masks_for(env, 8)
    play(env, masks[:2], seed=5)
    copy = way(env, new(**back_end), tmp_path / "run.pt")
    expected = go_on(env, masks[2:4])
    assert_same(go_on(copy, masks[2:4]), expected)
    assert_same(copy.evaluate("test")._asdict(), env.evaluate("test")._asdict())
    # The runs after this one are drawn alike too.
    assert_same(play(copy, masks[4:]), play(env, masks[4:]))


@single_and_vector
def test_parent_and_fork_do_not_touch_each_other(new: Make, back_end: dict[str, Any]) -> None:
    env = new(**back_end)
    masks = masks_for(env, 6)
    play(env, masks[:1], seed=5)
    saved = env.get_state()
    before = dict(leaves(env.get_state()))
    one, other = env.fork(), env.fork()
    go_on(env, masks[1:4])
    expected = go_on(one, masks[3:6])
    play(one, masks)
    assert_same(go_on(other, masks[3:6]), expected)
    assert_same(dict(leaves(saved)), before)
    assert differs(saved, env.get_state())


@pytest.mark.parametrize("made", [gym.make, gym.make_vec], ids=["single", "vector"])
def test_a_fork_knows_its_spec(made: Callable[..., Any]) -> None:
    env = made("DynPrune-Digits-v0", train_size=48).unwrapped
    env.reset(seed=5)
    assert env.spec is not None
    assert env.fork().spec == env.spec


@single_and_vector
def test_a_state_can_be_used_many_times(new: Make, back_end: dict[str, Any]) -> None:
    env = new(**back_end)
    masks = masks_for(env, 4)
    play(env, masks[:1], seed=5)
    state = env.get_state()
    first = go_on(env, masks[1:3])
    env.set_state(state)
    assert_same(go_on(env, masks[1:3]), first)


def digest(observation: dict[str, np.ndarray]) -> str:
    """One hash of all that is observed."""
    parts = (observation[name].tobytes() for name in sorted(observation))
    return hashlib.sha256(b"".join(parts)).hexdigest()


IN_A_NEW_PROCESS = """
import sys
sys.path[:0] = [sys.argv[2] + "/envs", sys.argv[2]]
import numpy as np, torch
torch.set_num_threads(1)
from helpers.episodes import make, make_vector
from test_state import digest
learner = sys.argv[4]
env = make_vector(3, "SameStep", learner=learner) if "vector" in sys.argv else make(learner=learner)
env.load(sys.argv[1])
for share in (1, 0, 1):
    print(digest(env.step(np.full(env.action_space.shape, share))[0]))
"""


@pytest.mark.parametrize(("kind", "learner"), [("single", "modules"), ("vector", "stacked")])
def test_a_new_process_goes_on_bit_for_bit(kind: str, learner: str, tmp_path: Path) -> None:
    env = make_three(learner=learner) if kind == "vector" else make(learner=learner)
    play(env, masks_for(env, 1), seed=5)
    env.save(tmp_path / "run.pt")
    here = [digest(env.step(np.full(env.action_space.shape, share))[0]) for share in (1, 0, 1)]
    folder = str(Path(__file__).parents[1])
    there = run_script(IN_A_NEW_PROCESS, str(tmp_path / "run.pt"), folder, kind, learner)
    assert there.split() == here
    assert len(set(here)) == 3


@single_and_vector
def test_the_file_holds_no_code(new: Make, back_end: dict[str, Any], tmp_path: Path) -> None:
    env = new(**back_end)
    play(env, masks_for(env, 2), seed=5)
    env.save(tmp_path / "runs" / "run.pt")
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["run.pt"]
    loaded = torch.load(tmp_path / "runs" / "run.pt", weights_only=True)
    assert loaded.pop("hash")
    assert_same(loaded, env.get_state())


OTHERS = {
    "epochs": {"epochs": 5},
    "budget": {"budget": 0.6},
    "model": {"model": "mlp(width=8)"},
    "data seed": {"data_seed": 1},
    "label noise": {"label_noise": 0.1},
    "reward": {"reward": "val_accuracy"},
    "action": {"action": "weights"},
    "task": {"task": "Planted"},
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_the_state_of_another_game_is_refused(settings: dict[str, Any]) -> None:
    stranger, env = make(**settings), make()
    stranger.reset(seed=5)
    env.reset(seed=5)
    before = env.get_state()
    with pytest.raises(ValueError, match="settings"):
        env.set_state(stranger.get_state())
    assert_same(env.get_state(), before)


def test_the_state_of_another_number_of_replicas_is_refused() -> None:
    env = make_vector(2)
    env.reset(seed=5)
    with pytest.raises(ValueError, match="num_envs"):
        make_vector(3).set_state(env.get_state())


def test_where_the_data_lie_is_no_part_of_the_state(tmp_path: Path) -> None:
    env, moved = make(), make(data_dir=str(tmp_path), download=False)
    play(env, masks_for(env, 1), seed=5)
    moved.set_state(env.get_state())
    assert_same(moved.step(np.ones(48)), env.step(np.ones(48)))


@single_and_vector
def test_there_is_no_state_before_the_first_reset(new: Make, tmp_path: Path) -> None:
    for way in (new().get_state, new().fork, lambda: new().save(tmp_path / "run.pt")):
        with pytest.raises(ResetNeeded, match="reset"):
            way()
    assert not list(tmp_path.iterdir())


@single_and_vector
def test_the_state_at_the_end_of_a_run_still_is_the_end(new: Make) -> None:
    env = new()
    play(env, [np.ones(env.action_space.shape)] * 2, seed=5)
    copy, mask = env.fork(), np.ones(env.action_space.shape)
    if new is make:
        with pytest.raises(ResetNeeded, match="ended"):
            copy.step(mask)
    else:
        assert_same(copy.step(mask), env.step(mask))
    assert_same(copy.reset(), env.reset())
