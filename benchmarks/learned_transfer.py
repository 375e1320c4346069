"""The learned policies, unchanged, on real data sets that their training never saw.

Fashion-MNIST (MLP), CIFAR-10 and CIFAR-100 (small CNN), subsets of 10,000 samples, clean and with
20 % and 40 % of the labels redrawn, budgets 0.3 and 0.5, five seeds each; and one row at full size.
The CNN has width 8 (instead of 24), so that it fits two cores.

    python -m benchmarks.learned_transfer           # an hour and a half on two cores
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import dynprune_agents
from benchmarks.learned_tables import (
    Setting,
    accuracy_table,
    duel_table,
    lead_table,
    play,
)

LEARNED = ("learned", "sb3")
HANDWRITTEN = (
    "dynamic_random",
    "epsilon_greedy",
    "ucb",
    "infobatch",
    "seta",
    "small_loss",
    "full_data",
)
TASKS: dict[str, dict[str, Any]] = {
    "FashionMNIST": {},
    "CIFAR10Small": {"model": "small_cnn(width=8)"},
    "CIFAR100Small": {"model": "small_cnn(width=8)"},
}
SEEDS = tuple(range(1000, 1005))


def settings(tasks: Sequence[str]) -> dict[str, list[Setting]]:
    """Six settings for each task."""
    return {
        task: [
            Setting(
                f"DynPrune-{task}-v0",
                budget,
                {"label_noise": noise, "train_size": 10_000, **TASKS[task]},
                (100,),
                SEEDS,
            )
            for noise in (0.0, 0.2, 0.4)
            for budget in (0.3, 0.5)
        ]
        for task in tasks
    }


def main(
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Repeatable. [all three]")
    ] = None,
    agents: Annotated[list[str] | None, typer.Option("--agents", help="Repeatable.")] = None,
    jobs: int = 2,
    out: Path = Path("results/learned_transfer"),
    table: Path = Path("benchmarks/results/learned_transfer.md"),
    data_dir: str | None = None,
) -> None:
    """Plays the agents and writes the tables."""
    specs = [repr(dynprune_agents.make(s)) for s in agents or [*LEARNED, *HANDWRITTEN]]
    handwritten = [spec for spec in specs if spec.split("(")[0] not in LEARNED]
    chosen = settings(tasks or list(TASKS))
    parts = [__doc__ or ""]
    every, everything = [], {}
    for task, columns in chosen.items():
        # Small nets train their seeds side by side, CNNs one after the other.
        runs = play(columns, specs, out, jobs, task == "FashionMNIST", data_dir)
        every, everything = every + columns, everything | runs
        parts += [f"## {task}", accuracy_table(runs, columns, specs)]
        parts += [duel_table(runs, columns, s, handwritten) for s in specs if s not in handwritten]
    parts[1:1] = ["## Over all of them", lead_table(everything, every, specs, "dynamic_random")]
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n\n".join(parts) + "\n")
    print(table.read_text())


if __name__ == "__main__":
    typer.run(main)
