"""How good are the tasks' learning rates: dynamic random at each budget, judged on val accuracy.

python -m benchmarks.step_size --task Digits --task Overlap ...

A rule that weighs gradients up makes larger steps. Where the recipe's rate is too small for a
budget, that alone would win. So each recipe's rate has to be within 0.3 points of the best one at
every budget, and no run may diverge at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import dynprune_agents
from dynprune_env import run_episodes
from dynprune_env.common.files import atomic_write
from dynprune_env.envs.settings import Settings
from dynprune_env.report.tables import Grid
from dynprune_env.tasks.registry import find_task

BUDGETS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Learning rates, as multiples of the recipe's for a full run."""
NOISES = (0.0, 0.2, 0.4)
TASKS = (
    *("Digits", "Planted", "Overlap", "Crowd", "Clutter", "Words", "WordsHashed"),
    *("FashionMNIST", "CIFAR10Small"),
)
KWARGS: dict[str, dict[str, Any]] = {
    "Words": {"train_size": 10_000},
    "WordsHashed": {"train_size": 10_000},
    "FashionMNIST": {"train_size": 10_000},
    "CIFAR10Small": {"train_size": 10_000},
    "CIFAR100Small": {"train_size": 10_000},
}
"""What makes a task small enough for this study."""


def val_accuracy(task: str, kwargs: dict[str, Any], seeds: Sequence[int]) -> tuple[float, int]:
    """Mean final val accuracy of dynamic random, in percent, and how many runs diverged."""
    agent = dynprune_agents.make("dynamic_random")
    runs = run_episodes(f"DynPrune-{task}-v0", agent, seeds, env_kwargs=kwargs)
    accuracies = [100 * (run.history["val_accuracy"] or [0.0])[-1] for run in runs]
    return float(np.mean(accuracies)), sum(run.diverged for run in runs)


def study(task: str, noise: float, seeds: Sequence[int], factors: Sequence[float]) -> Grid:
    """One row per budget: val accuracy at each rate, and what the recipe's lacks."""
    small = {**KWARGS.get(task, {}), "label_noise": noise}
    base = find_task(task).recipe.learning_rate
    rows = []
    for budget in BUDGETS:
        kwargs = {**small, "budget": budget}
        own, diverged = val_accuracy(task, kwargs, seeds)
        found = [
            val_accuracy(task, {**kwargs, "learning_rate": base * factor}, seeds)
            for factor in factors
        ]
        best = max(own, *(accuracy for accuracy, _ in found))
        cells = [f"{accuracy:.1f}{'†' if lost else ''}" for accuracy, lost in found]
        rate = Settings(task=task, budget=budget).recipe.learning_rate
        rows.append([f"{budget:g}", f"{rate:.3g}", f"{own:.1f}", f"{best - own:.1f}", *cells])
        rows[-1][2] += "†" if diverged else ""
    heads = [
        "budget",
        "recipe's\nrate",
        "val acc.\n%",
        "lacks",
        *(f"{base * f:.3g}" for f in factors),
    ]
    caption = f"Val accuracy of dynamic random in percent, {len(seeds)} seeds. †: a run diverged."
    return Grid(f"{task}, {100 * noise:g} % of the labels redrawn", heads, rows, caption)


def main(
    task: Annotated[list[str] | None, typer.Option(help="Repeatable. [all]")] = None,
    noise: Annotated[list[float] | None, typer.Option(help="Repeatable. [0, 0.2, 0.4]")] = None,
    factor: Annotated[
        list[float] | None, typer.Option(help="Repeatable: of the recipe's rate. [0.5 to 8]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 10,
    out: Path = Path("benchmarks/results/step_size.md"),
) -> None:
    """Writes one table per task and share of redrawn labels."""
    texts = []
    for name in task or TASKS:
        for share in noise or NOISES:
            texts.append(
                study(name, share, range(500, 500 + seeds), factor or FACTORS).to_markdown()
            )
            print(texts[-1], flush=True)
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
