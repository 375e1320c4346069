"""The tasks that are timed, and the masks they are timed with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import dynprune_env  # noqa: F401 - registers the environments
from dynprune_env.envs.env import DynPruneEnv
from dynprune_env.tasks.registry import TASKS

SHARES = (1.0, 0.5, 0.1)


def make_env(
    task: str, size: int | None, val: int | None = None, **settings: object
) -> DynPruneEnv:
    """An environment in the middle of nothing: reset, with a budget that no measurement ends.

    Args:
        task: name in TASKS.
        size: train samples; None for all.
        val: val samples, where the task's own would take longer than what is measured.
        **settings: of the environment.
    """
    name = task
    if val is not None:
        name = f"{task}With{val}"
        TASKS[name] = replace(TASKS[task], info=replace(TASKS[task].info, num_val=val))
    env = DynPruneEnv(task=name, budget=1.0, epochs=100_000, train_size=size, **settings)
    env.reset(seed=0)
    return env


def masks(n: int, share: float) -> np.ndarray:
    """Exactly round(share n) random samples, (n,) bool."""
    return np.random.default_rng(0).permutation(n) < round(share * n)
