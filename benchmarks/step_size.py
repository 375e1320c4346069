"""How good are the tasks' learning rates: dynamic random at each budget, judged on val accuracy.

python -m benchmarks.step_size --task Digits --task Overlap ...

A rule that weighs gradients up makes larger steps. Where the recipe's rate is too small for a
budget, that alone would win. So each recipe's rate has to be within 0.3 points of the best one at
every budget, and no run may diverge at it. The best of several means is too good by chance; so the
best rate is found on half of the seeds and judged on the other half, both ways.
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
"""Learning rates, as multiples of the recipe's `learning_rate`: that at its `budget_ceiling`."""
NOISES = (0.0, 0.2, 0.4)
TASKS = (
    *("Digits", "Planted", "Overlap", "Crowd", "Shifts", "Pairs", "Clutter"),
    *("Words", "WordsHashed", "FashionMNIST", "CIFAR10Small"),
)
KWARGS: dict[str, dict[str, Any]] = {
    "Words": {"train_size": 10_000},
    "WordsHashed": {"train_size": 10_000},
    "FashionMNIST": {"train_size": 10_000},
    "CIFAR10Small": {"train_size": 10_000},
    "CIFAR100Small": {"train_size": 10_000},
}
"""What makes a task small enough for this study."""


def val_accuracies(
    task: str, kwargs: dict[str, Any], seeds: Sequence[int]
) -> tuple[np.ndarray, int]:
    """Final val accuracies of dynamic random in percent, (seeds,), and how many runs diverged."""
    agent = dynprune_agents.make("dynamic_random")
    runs = run_episodes(f"DynPrune-{task}-v0", agent, seeds, env_kwargs=kwargs)
    accuracies = [100 * (run.history["val_accuracy"] or [0.0])[-1] for run in runs]
    return np.array(accuracies), sum(run.diverged for run in runs)


def lack(own: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """How far a rate is behind the best one, in points, and its standard error.

    The best rate, which may be the own one, is found on every second seed and judged on the others,
    and the other way round: the seed that made it the best does not speak for it.

    Args:
        own: accuracies at the rate that is judged, (seeds,), at least two.
        others: those at the other rates on the same seeds, (rates, seeds).
    """
    tried = np.vstack([own, others])
    behind = np.empty(len(own))
    for half in (0, 1):
        best = tried[:, half::2].mean(1).argmax()
        behind[1 - half :: 2] = (tried[best] - own)[1 - half :: 2]
    return float(behind.mean()), float(behind.std(ddof=1) / np.sqrt(len(own)))


def study(
    task: str,
    noise: float,
    seeds: Sequence[int],
    factors: Sequence[float] = FACTORS,
    budgets: Sequence[float] = BUDGETS,
) -> Grid:
    """One row per budget: val accuracy at each rate, and what the recipe's lacks."""
    small = {**KWARGS.get(task, {}), "label_noise": noise}
    base = find_task(task).recipe.learning_rate
    rows = []
    for budget in budgets:
        kwargs = {**small, "budget": budget}
        own, diverged = val_accuracies(task, kwargs, seeds)
        found = [
            val_accuracies(task, {**kwargs, "learning_rate": base * factor}, seeds)
            for factor in factors
        ]
        behind, error = lack(own, np.stack([accuracies for accuracies, _ in found]))
        cells = [f"{each.mean():.1f}{'†' if lost else ''}" for each, lost in found]
        rate = Settings(task=task, budget=budget).recipe.learning_rate
        mean = f"{own.mean():.1f}{'†' if diverged else ''}"
        rows.append([f"{budget:g}", f"{rate:.3g}", mean, f"{behind:.2f} ± {error:.2f}", *cells])
    heads = [
        "budget",
        "recipe's\nrate",
        "val acc.\n%",
        "lacks",
        *(f"{base * f:.3g}" for f in factors),
    ]
    caption = (
        f"Val accuracy of dynamic random in percent, {len(seeds)} seeds. Lacks: ± its standard "
        "error. †: a run diverged."
    )
    return Grid(f"{task}, {100 * noise:g} % of the labels redrawn", heads, rows, caption)


def main(
    task: Annotated[list[str] | None, typer.Option(help="Repeatable. [all]")] = None,
    noise: Annotated[list[float] | None, typer.Option(help="Repeatable. [0, 0.2, 0.4]")] = None,
    factor: Annotated[
        list[float] | None, typer.Option(help="Repeatable: of the recipe's rate. [0.5 to 8]")
    ] = None,
    budget: Annotated[list[float] | None, typer.Option(help="Repeatable. [0.1 to 1]")] = None,
    seeds: Annotated[int, typer.Option(min=2)] = 10,
    out: Path = Path("benchmarks/results/step_size.md"),
) -> None:
    """Writes one table per task and share of redrawn labels."""
    texts = []
    for name in task or TASKS:
        for share in noise or NOISES:
            found = study(
                name, share, range(500, 500 + seeds), factor or FACTORS, budget or BUDGETS
            )
            texts.append(found.to_markdown())
            print(texts[-1], flush=True)
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
