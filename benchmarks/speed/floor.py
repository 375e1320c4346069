"""How near a step of small nets is to its floor: training the same passes and evaluating val."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.speed.clock import Row
from dynprune_env.envs.env import DynPruneEnv
from dynprune_env.envs.vector_env import DynPruneVectorEnv

LONG: dict[str, Any] = {"task": "Digits", "budget": 1.0, "epochs": 100_000}


def floor_rows(rounds: int) -> list[Row]:
    """CPU seconds of steps on one thread over those of the learner within them."""
    torch.set_num_threads(1)
    half = np.random.default_rng(0).permutation(1000) < 500
    many = np.random.default_rng(0).random((64, 1000)) < 0.5
    short = np.zeros((64, 8), dtype=np.float32)
    tilts = {"observation": "summary", "action": "tilts"}
    return [
        _row("Digits, single environment, half kept", DynPruneEnv(**LONG), half, 10 * rounds, 2),
        _row("Digits, R = 64, half kept", DynPruneVectorEnv(64, **LONG), many, rounds, 1.3),
        _row(
            "Digits, R = 64, summary and tilts",
            DynPruneVectorEnv(64, **LONG, **tilts),
            short,
            rounds,
            1.54,  # a share of 0.35 outside of training and val
        ),
    ]


def _row(what: str, env: Any, action: np.ndarray, rounds: int, target: float) -> Row:
    env.reset(seed=0)
    learner = getattr(env, "vector", env).trainer.learner
    own: list[float] = []
    for name in ("train", "evaluate"):
        setattr(learner, name, _timed(getattr(learner, name), own))
    steps, floors = [], []
    for turn in range(rounds + 2):
        own.clear()
        start = time.process_time()
        env.step(action)
        if turn > 1:
            steps.append(time.process_time() - start)
            floors.append(sum(own))
    ratio = np.array(steps) / np.array(floors)
    return Row(
        f"{what}: step / its training and val",
        f"{np.median(steps):.4g} s",
        f"{np.median(floors):.4g} s",
        *(float(each) for each in (np.median(ratio), ratio.min(), ratio.max())),
        f"<= {target}",
    )


def _timed(function: Any, seconds: list[float]) -> Any:
    def timed(*arguments: Any) -> Any:
        start = time.process_time()
        found = function(*arguments)
        seconds.append(time.process_time() - start)
        return found

    return timed
