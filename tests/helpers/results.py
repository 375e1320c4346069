"""Results made up for tables and statistics."""

from __future__ import annotations

from typing import Any

from dynprune_env.benchmark.results import Result, RunConfig


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


def runs(accuracies: Any, **others: Any) -> list[Result]:
    """One result per accuracy, seeds counted from 0."""
    return [run(accuracy, seed, **others) for seed, accuracy in enumerate(accuracies)]
