"""Why policies lose on clean CIFAR-10: the same runs with and without augmentation.

A sample's losses are those of its training passes, on crops and flips, which are harder than val
images. So are wrong labels, and policies that trained without augmentation take one for the other.
Val accuracy of the small CNN on 10,000 images, T = 30, budget 0.3; no test data.

    python -m benchmarks.learned.augmentation       # 25 minutes on one core
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

import dynprune_agents
from benchmarks.learned.tables import Setting, mean_cells, val_accuracies
from dynprune_env import register_task
from dynprune_env.common.files import write_text
from dynprune_env.tasks.recipes import Augmentation
from dynprune_env.tasks.registry import Task, find_task

AUGMENTED, PLAIN, BASELINE = "CIFAR10Small", "CIFAR10SmallPlain", "dynamic_random"
AGENTS = ("sb3", "learned(policy='robust')")
DATA_SEEDS, SEEDS = (7,), (0, 1, 2)


def make_plain() -> Task:
    """The task without augmentation."""
    task = find_task(AUGMENTED)
    return replace(task, recipe=replace(task.recipe, augmentation=Augmentation()))


def setting(task: str, epochs: int, train_size: int) -> Setting:
    """Clean labels, three tenths of the visits."""
    size = {"label_noise": 0.0, "epochs": epochs, "train_size": train_size}
    return Setting(f"DynPrune-{task}-v0", 0.3, size, DATA_SEEDS, SEEDS)


def main(
    agents: Annotated[list[str] | None, typer.Option("--agents", help="Repeatable.")] = None,
    epochs: int = 30,
    train_size: int = 10_000,
    table: Path = Path("benchmarks/results/augmentation.md"),
) -> None:
    """Plays dynamic random and the policies in both and writes the table."""
    torch.set_num_threads(1)
    register_task(PLAIN, make_plain)
    both = [setting(task, epochs, train_size) for task in (AUGMENTED, PLAIN)]
    base = val_accuracies(dynprune_agents.make(BASELINE), both)
    means = " | ".join(f"{mean:.1f}" for mean in base.mean(1))
    lines = [
        f"| lead over `{BASELINE}` in points, ± its standard error | crops, flips | neither |",
        "|---|---:|---:|",
        f"| val accuracy of `{BASELINE}`, % | {means} |",
    ]
    for spec in agents or AGENTS:
        lead = val_accuracies(dynprune_agents.make(spec), both) - base
        lines.append(f"| `{spec}` | {mean_cells(lead)} |")
        print(lines[-1], flush=True)
        write_text(table, f"{__doc__}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
