"""Results made up for tables and statistics, and those of one small run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import dynprune_agents
from dynprune_env import run_episodes
from dynprune_env.benchmark.masks import pack
from dynprune_env.benchmark.results import HISTORY, Result, RunConfig


def run(
    accuracy: float,
    seed: int = 0,
    agent: str = "ucb(c=2.0)",
    budget: float = 0.5,
    env: str = "Digits-v0",
    **others: Any,
) -> Result:
    """One result; `others` replace its other numbers."""
    env_kwargs = {"budget": budget, **others.pop("env_kwargs", {})}
    numbers: dict[str, Any] = {
        "test_loss": 0.5,
        "visits": 400,
        "scored": 300,
        "preparation": 0.0,
        "saved": 0.5,
        "seconds": {"train": 1.0, "evaluate": 0.5, "select": 0.5, "total": 2.0},
        "diverged": False,
    }
    return Result(
        config=RunConfig(env, env_kwargs, agent, seed),
        num_samples=100,
        epochs=10,
        history={},
        test_accuracy=accuracy,
        replicas=1,
        device="cpu",
        threads=1,
        versions={},
        selections="",
        **{**numbers, **others},
    )


def with_epochs(result: Result, values: list[float]) -> Result:
    """The result with these values in every list of its history, and everything kept."""
    masks = np.ones((len(values), result.num_samples), dtype=bool)
    history = {name: list(values) for name in HISTORY}
    return replace(result, history=history, selections=pack(masks))


def runs(accuracies: Any, **others: Any) -> list[Result]:
    """One result per accuracy, seeds counted from 0."""
    return [run(accuracy, seed, **others) for seed, accuracy in enumerate(accuracies)]


def benchmark() -> list[Result]:
    """Three agents at two budgets and full data, on two environments; two seeds each."""
    found = []
    for env, top in (("Digits-v0", 0.97), ("Cifar-v0", 0.9)):
        found += runs([top, top - 0.02], agent="full_data", budget=1.0, env=env, saved=0.0)
        for place, agent in enumerate(("ucb(c=2.0)", "random", "loss[abs](k=3)")):
            for budget in (0.25, 0.5):
                best = top - 0.05 * place - 0.1 * (1 - budget)
                saved = 1 - budget
                found += runs([best, best - 0.01], agent=agent, budget=budget, env=env, saved=saved)
    return found


def play(spec: str, **settings: Any) -> Result:
    """The result of one small run on Digits."""
    kwargs = {"train_size": 60, "epochs": 10, **settings}
    agent = dynprune_agents.make(spec)
    return run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=kwargs, device="cpu")[0]
