"""Makes small environments, plays them, and compares what comes out of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from dynprune_env import DynPruneEnv, DynPruneVectorEnv
from dynprune_env.training.learner import Pass

SMALL = {"train_size": 48, "epochs": 4, "batch_size": 16, "device": "cpu"}


def make(**settings: Any) -> DynPruneEnv:
    """A small environment on the CPU."""
    return DynPruneEnv(**{**SMALL, **settings})


def make_vector(num_envs: int, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    """A small vector environment on the CPU."""
    return DynPruneVectorEnv(num_envs, mode, **{**SMALL, **settings})


def random_masks(env: Any, steps: int, share: Any = 0.5, seed: int = 0) -> np.ndarray:
    """(steps, *action shape) bool; `share` may be an array that broadcasts."""
    return np.random.default_rng(seed).random((steps, *env.action_space.shape)) < share


def play(env: Any, actions: Iterable[Any], seed: Any = None) -> list[tuple[Any, ...]]:
    """What `reset(seed)` and each step gave, until all has ended or the actions have."""
    return [env.reset(seed=seed), *go_on(env, actions)]


def go_on(env: Any, actions: Iterable[Any]) -> list[tuple[Any, ...]]:
    """What each step gave, until all has ended or the actions have."""
    steps: list[tuple[Any, ...]] = []
    for action in actions:
        steps.append(env.step(action))
        if np.all(steps[-1][2]):
            break
    return steps


def row_of(steps: list[tuple[Any, ...]], row: int) -> list[tuple[Any, ...]]:
    """What a single environment would have given: one row of a vector environment's steps."""

    def pick(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: pick(value) for name, value in tree.items()}
        return tree[row]

    picked = []
    for observation, *middle, infos in steps:
        info = {name: infos[name] for name in infos if not name.startswith("_")}
        picked.append((pick(observation), *pick(dict(enumerate(middle))).values(), pick(info)))
        if middle and middle[1][row]:
            break
    return picked


def watch_passes(env: Any) -> list[list[Pass]]:
    """A list that grows with every epoch by what each replica was told to train."""
    learner = getattr(env, "vector", env).trainer.learner
    train, seen = learner.train, []

    def watched(passes: list[Pass]) -> torch.Tensor:
        seen.append(passes)
        return train(passes)

    learner.train = watched
    return seen


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in nested dicts, lists, tuples and object arrays."""
    if isinstance(tree, dict | list | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for name, value in pairs:
            yield from leaves(value, f"{path}/{name}")
    elif isinstance(tree, np.ndarray) and tree.dtype == object:
        yield from leaves(list(tree), path)
    elif isinstance(tree, torch.Tensor):
        yield path, tree.numpy()
    else:
        yield path, tree


def assert_same(actual: Any, expected: Any, tolerance: float = 0.0) -> None:
    """Equal trees; numbers bit for bit, or within a relative and absolute tolerance."""
    found, wanted = dict(leaves(actual)), dict(leaves(expected))
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        if tolerance and np.asarray(value).dtype.kind == "f":
            np.testing.assert_allclose(
                found[path], value, rtol=tolerance, atol=tolerance, err_msg=path
            )
        else:
            np.testing.assert_array_equal(found[path], value, err_msg=path)


def differs(one: Any, other: Any) -> bool:
    """Whether two trees are not equal."""
    try:
        assert_same(one, other)
    except AssertionError:
        return True
    return False


def run_script(script: str, *arguments: str) -> str:
    """What a script prints in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
