"""The environments keep the contracts of Gymnasium and of Stable-Baselines3."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker as sb3
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import env_checker
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from helpers.episodes import assert_same, leaves, make, make_vector, play, run_script

from dynprune_env import TASK_NAMES, DynPruneVectorEnv
from dynprune_env.selection.actions import ACTIONS
from dynprune_env.selection.observations import OBSERVATIONS
from dynprune_env.tasks import variants
from dynprune_env.tasks.datasets import DataNotFoundError

RESERVED = {"episode", "terminal_observation", "final_obs", "final_info", "TimeLimit.truncated"}

every_task = pytest.mark.parametrize("task", TASK_NAMES)
every_observation = pytest.mark.parametrize("observation", OBSERVATIONS)
every_action = pytest.mark.parametrize("action", ACTIONS)


def tiny(task: str, **settings: Any) -> dict[str, Any]:
    """Keyword arguments for `gym.make` that make a task cheap, and its id."""
    model = {"model": "small_cnn(width=3)"} if "CIFAR" in task else {}
    small = {"train_size": 40, "epochs": 2, "batch_size": 16, "device": "cpu", "download": False}
    return {"id": f"DynPrune-{task}-v0", **small, **model, **settings}


REGISTERED = """
import gymnasium as gym, dynprune_env
from dynprune_env.tasks.registry import TASKS
ids = {name for name, spec in gym.registry.items() if "dynprune" in str(spec.entry_point)}
assert ids == {f"DynPrune-{task}-v0" for task in dynprune_env.TASK_NAMES}, ids
assert set(dynprune_env.TASK_NAMES) == set(TASKS)
"""


def test_every_task_is_registered_and_every_id_is_a_task() -> None:
    run_script(REGISTERED)  # in a new process: other tests register tasks of their own


def checked() -> list[tuple[str, str, str]]:
    """Tasks, observations and actions: on Digits each with each, elsewhere each at least once.

    Task by task, so that a process reads each data set once.
    """
    whole = [("Digits", seen, chosen) for chosen in ACTIONS for seen in OBSERVATIONS]
    kinds = list(zip(itertools.cycle(OBSERVATIONS), ACTIONS, strict=False))
    return whole + [(task, *pair) for task in TASK_NAMES if task != "Digits" for pair in kinds]


@pytest.mark.usefixtures("small_val")
@pytest.mark.parametrize("library", ["gymnasium", "stable-baselines3"])
@pytest.mark.parametrize(("task", "observation", "action"), checked())
def test_the_environment_checkers_find_nothing(
    library: str, task: str, observation: str, action: str, need_data: Callable[[str], None]
) -> None:
    need_data(task)
    env = gym.make(**tiny(task, observation=observation, action=action))
    if library == "gymnasium":
        skip_slow = (observation, action) != ("samples", "mask")
        env_checker.check_env(env.unwrapped, skip_render_check=skip_slow)
        return
    if action == "weights":
        env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    sb3.check_env(env)


@pytest.mark.usefixtures("small_val")
def test_gymnasium_finds_nothing_with_the_real_resnet18(need_data: Callable[[str], None]) -> None:
    need_data("CIFAR10")
    env = gym.make(**tiny("CIFAR10", train_size=16, model=None))
    env_checker.check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    "copy",
    [lambda spec: EnvSpec.from_json(spec.to_json()), lambda spec: pickle.loads(pickle.dumps(spec))],
    ids=["json", "pickle"],
)
def test_a_copied_spec_makes_the_same_environment(copy: Callable[[EnvSpec], EnvSpec]) -> None:
    env = gym.make(**tiny("Digits", label_noise=0.3, action="weights"))
    other = copy(env.spec).make()
    assert other.spec == env.spec
    weights = [np.full(40, 0.5)] * 2
    assert_same(play(other, weights, seed=4), play(env, weights, seed=4))


def test_an_environment_can_be_pickled_before_it_is_reset() -> None:
    env = make(observation="summary")
    other = pickle.loads(pickle.dumps(env))
    masks = [np.ones(48)] * 2
    assert_same(play(other, masks, seed=4), play(env, masks, seed=4))


def test_make_finds_the_package_by_the_name_in_the_id() -> None:
    script = """
import gymnasium, json
env = gymnasium.make("dynprune_env:DynPrune-Digits-v0", train_size=40)
_, info = env.reset(seed=0)
print(json.dumps(info))
"""
    assert json.loads(run_script(script))["run_visits"] == 0


def test_importing_the_package_imports_no_torch() -> None:
    script = "import sys, dynprune_env; print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    assert run_script(script) == "[]"


@every_task
def test_constructing_an_environment_touches_neither_data_nor_cuda(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: Any, **__: Any) -> None:
        raise AssertionError("touched")

    monkeypatch.setattr(variants, "read_raw", touched)
    for name in ("is_available", "_lazy_init", "is_bf16_supported"):
        monkeypatch.setattr(torch.cuda, name, touched)
    env = gym.make(f"DynPrune-{task}-v0", train_size=40)
    assert env.action_space.shape == (40,)
    assert gym.make_vec(f"DynPrune-{task}-v0", 2).action_space.shape[0] == 2


@pytest.mark.parametrize("device", ["gpu", "cuda:x", f"cuda:{torch.cuda.device_count()}", "meta"])
def test_a_device_that_is_not_there_is_refused_as_the_environment_is_made(device: str) -> None:
    for make_one in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used: "):
            make_one("DynPrune-Digits-v0", device=device)


def test_cuda_that_is_there_is_not_started_as_the_environment_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gym.make("DynPrune-Digits-v0", device="cuda")
    gym.make("DynPrune-Digits-v0", device="cuda:1")
    assert not torch.cuda.is_initialized()


@pytest.mark.parametrize(
    ("task", "files"),
    [
        ("FashionMNIST", "train-images-idx3-ubyte"),
        ("CIFAR10", "cifar-10-batches-py"),
        ("CIFAR100", "cifar-100-python"),
    ],
)
def test_reset_says_which_files_are_missing_and_where(
    task: str, files: str, tmp_path: Path
) -> None:
    folder = tmp_path / "nothing here"
    env = make(task=task, data_dir=str(folder), download=False)
    with pytest.raises(DataNotFoundError) as problem:
        env.reset(seed=0)
    assert str(folder) in str(problem.value)
    assert files in str(problem.value)
    assert not folder.exists()


def test_make_vec_makes_the_vector_environment_with_its_arguments() -> None:
    env = gym.make_vec(**tiny("Digits"), num_envs=3, autoreset_mode="NextStep")
    assert isinstance(env, DynPruneVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observations, infos = env.reset(seed=0)
    assert observations in env.observation_space
    observations, rewards, terminations, truncations, infos = env.step(env.action_space.sample())
    assert observations in env.observation_space
    assert (rewards.dtype, terminations.dtype, truncations.dtype) == (np.float64, bool, bool)
    assert {each.shape for each in (rewards, terminations, truncations)} == {(3,)}
    assert all(infos[f"_{name}"].all() for name in infos if not name.startswith("_"))


def test_the_vector_environment_tells_its_seeds_as_gymnasiums_does() -> None:
    ours, theirs = make_vector(2), SyncVectorEnv([make] * 2)
    for env in (ours, theirs):
        env.reset(seed=7)
    assert ours.np_random_seed == theirs.np_random_seed == (7, 8)
    states = [[rng.bit_generator.state for rng in env.np_random] for env in (ours, theirs)]
    assert states[0] == states[1]


@every_observation
@every_action
def test_gymnasiums_vector_environments_can_hold_it(observation: str, action: str) -> None:
    arguments = tiny("Digits", observation=observation, action=action)
    env = SyncVectorEnv([lambda: gym.make(**arguments)] * 2)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(3)]
    for observations, *_ in play(env, actions, seed=3):
        assert observations in env.observation_space


def test_a_spawned_process_plays_the_same_game() -> None:
    arguments = tiny("Digits")
    arguments["id"] = f"dynprune_env:{arguments['id']}"
    makers = [lambda: gym.make(**arguments)] * 2
    masks = np.random.default_rng(0).integers(0, 2, (3, 2, 40))
    processes = AsyncVectorEnv(makers, context="spawn")
    try:
        steps = play(processes, masks, seed=3)
    finally:
        processes.close()
    assert_same(steps, play(SyncVectorEnv(makers), masks, seed=3))


@every_observation
@every_action
def test_all_that_comes_back_is_what_was_declared(
    observation: str, action: str, back_end: dict[str, Any]
) -> None:
    env = make(observation=observation, action=action, **back_end)
    env.action_space.seed(1)
    for seed in range(2):
        observed, info = env.reset(seed=seed)
        keys, terminated = info.keys(), False
        while not terminated:
            assert observed in env.observation_space
            assert_plain(info)
            observed, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert (type(reward), type(terminated), truncated) == (float, bool, False)
            assert info.keys() == keys
        assert observed in env.observation_space
        assert_plain(info)


def test_no_info_has_the_name_of_an_observation() -> None:
    for env in (make(), make_vector(2)):
        observed, info = env.reset(seed=0)
        after, *_, info_after = env.step(np.ones(env.action_space.shape, dtype=bool))
        assert not observed.keys() & info.keys()  # TorchRL puts both into one table
        assert not after.keys() & info_after.keys()


def assert_plain(info: dict[str, Any]) -> None:
    """Only finite Python numbers, under names that nobody else uses."""
    assert not RESERVED & info.keys()
    for name, value in leaves(info):
        assert type(value) in (int, float, bool), name
        assert np.isfinite(value), name
