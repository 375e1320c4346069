"""How near a step of small nets is to its floor: the compiled loops that train and evaluate it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.speed.clock import Row, compare
from dynprune_env.envs.env import DynPruneEnv
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.training import numba_learner

LONG: dict[str, Any] = {
    "task": "Digits",
    "budget": 1.0,
    "epochs": 100_000,
    "learner": "numba",
    "device": "cpu",
}
KERNELS = "train_passes", "evaluate_rows"


def floor_rows(rounds: int) -> list[Row]:
    """CPU seconds of steps on one thread over those of the loops, or of the learner, in them."""
    torch.set_num_threads(1)
    half = np.random.default_rng(0).permutation(1000) < 500
    many = np.random.default_rng(0).random((64, 1000)) < 0.5
    short = np.zeros((64, 8), dtype=np.float32)
    single, vector = DynPruneEnv(**LONG), DynPruneVectorEnv(64, **LONG)
    rows = []
    for what, env, action, times, target in (
        ("Digits, single environment, half kept", single, half, 10 * rounds, 2),
        ("Digits, R = 64, half kept", vector, many, rounds, 1.3),
    ):
        steps, within = seconds_within(env, action, times, numba_learner, KERNELS)
        rows.append(compare(f"{what}: step / its kernels", steps, within, f"<= {target}"))
    tilts = DynPruneVectorEnv(64, **LONG, observation="summary", action="tilts")
    tilts.reset(seed=0)
    learner = tilts.trainer.learner
    steps, within = seconds_within(tilts, short, rounds, learner, ("train", "evaluate"))
    what = "Digits, R = 64, summary and tilts: step / its training and val"
    return [*rows, compare(what, steps, within, "<= 1.54")]  # a share of 0.35 outside of them


def seconds_within(
    env: Any, action: np.ndarray, rounds: int, owner: object, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """CPU seconds of steps, and those of some functions within each, (rounds,) each.

    Args:
        env: plays the action again and again; two steps before are not counted.
        action: as the environment takes it.
        rounds: how often.
        owner: whose functions are timed.
        names: theirs.
    """
    env.reset(seed=0)
    own: list[float] = []
    steps, within = [], []
    with ExitStack() as stack:
        for name in names:
            timed = _timed(getattr(owner, name), own)
            stack.enter_context(patch.object(owner, name, timed))
        for turn in range(rounds + 2):
            own.clear()
            start = time.process_time()
            env.step(action)
            if turn > 1:
                steps.append(time.process_time() - start)
                within.append(sum(own))
    return np.array(steps), np.array(within)


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        start = time.process_time()
        found = function(*arguments)
        seconds.append(time.process_time() - start)
        return found

    return timed
