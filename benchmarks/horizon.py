"""How long is a run? Val accuracy of full data on clean labels against the number of epochs, T.

    python -m benchmarks.horizon                      # some hours of two cores, most for the CNNs
    python -m benchmarks.horizon --task Digits --task Planted     # a minute

A task has levelled off at the shortest T whose mean val accuracy is within 0.3 points of the best
of all T tried: longer runs bring no more. It goes on where it stopped; test data play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

import dynprune_agents
from benchmarks.learned.long_study import complete
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import Result
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.benchmark.sweeps import plan_groups
from dynprune_env.common.files import write_text
from dynprune_env.envs.settings import settings_of
from dynprune_env.report.tables import Grid

NEAR = 0.3
"""Points below the plateau that count as on it."""
SEEDS = range(500, 500 + 10)
AGENT = "full_data"
SMALL = {"train_size": 10_000}
HEAD = """# Horizons: val accuracy of full data against the number of epochs

Made by `python -m benchmarks.horizon`, on clean labels, with the learning rate of each task's
recipe; mean over seeds of the final val accuracy, in percent. A task has levelled off at the
shortest T within 0.3 points of the best of all T tried. Where that is the last one tried, longer
runs may bring more."""


@dataclass(frozen=True)
class Plan:
    """A task and the T that are tried.

    Attributes:
        task: its name.
        epochs: each T.
        seeds: how many at most.
        env_kwargs: what makes it small enough for this study.
    """

    task: str
    epochs: tuple[int, ...]
    seeds: int = len(SEEDS)
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> str:
        """Its Gymnasium id."""
        return f"DynPrune-{self.task}-v0"

    def all_groups(self, seeds: int) -> dict[int, list[RunGroup]]:
        """The runs at each T."""
        return {epochs: self.groups(seeds, epochs) for epochs in self.epochs}

    def groups(self, seeds: int, epochs: int) -> list[RunGroup]:
        """The runs at one T: side by side, or each alone for convolutional nets."""
        kwargs = {**self.env_kwargs, "label_noise": 0.0, "epochs": epochs}
        return plan_groups(self.env, [AGENT], [1.0], SEEDS[: min(seeds, self.seeds)], kwargs)


PLANS = (
    Plan("Digits", (5, 8, 10, 15, 20, 30, 40, 60, 100, 200)),
    Plan("Planted", (5, 8, 10, 15, 20, 30, 40, 60, 100, 200)),
    Plan("Shifts", (10, 20, 30, 60, 100, 200)),
    Plan("Pairs", (10, 20, 30, 60, 100, 200)),
    Plan("Clutter", (5, 8, 15, 30, 60, 100), 5),
    Plan("Words", (5, 10, 15, 20, 30, 40, 60), 5, SMALL),
    Plan("WordsHashed", (5, 10, 15, 20, 30, 40, 60), 5, SMALL),
    Plan("FashionMNIST", (5, 10, 15, 20, 30, 40, 60, 100), 5, SMALL),
    Plan("CIFAR10Small", (8, 15, 30, 60), 3, SMALL),
    Plan("CIFAR100Small", (8, 15, 30, 60), 3, SMALL),
)


@dataclass(frozen=True)
class Measured:
    """Full data at one T: mean final val accuracy in percent, and mean seconds a run."""

    epochs: int
    accuracy: float
    seconds: float


def measure(results: Sequence[Result], epochs: int) -> Measured:
    """What some runs of one T say; a run that diverged at once has learned nothing."""
    final = [(result.history["val_accuracy"] or [0.0])[-1] for result in results]
    seconds = fmean(result.seconds["total"] for result in results)
    return Measured(epochs, 100 * fmean(final), seconds)


def levels_off(found: Sequence[Measured]) -> int:
    """The shortest T within NEAR points of the best."""
    best = max(each.accuracy for each in found)
    # A thousandth of a point more: what is 0.3 points behind but for roundings is near.
    return min(each.epochs for each in found if each.accuracy >= best - NEAR - 1e-3)


def row(plan: Plan, found: Sequence[Measured], seeds: int) -> list[str]:
    """One line of the table."""
    settings = settings_of(plan.env, plan.env_kwargs)
    horizon, last = levels_off(found), max(each.epochs for each in found)
    return [
        plan.task,
        f"{settings.num_samples:,}",
        str(min(seeds, plan.seeds)),
        " / ".join(str(each.epochs) for each in found),
        " / ".join(f"{each.accuracy:.1f}" for each in found),
        " / ".join(f"{each.seconds:.2g}" for each in found),
        str(horizon) if horizon < last else f"{horizon}, the last tried",
        str(settings.recipe.epochs),
    ]


def play(plan: Plan, seeds: int, folder: Path, jobs: int, data_dir: str | None) -> list[Measured]:
    """Plays what is missing of a task; what was measured at each T."""
    groups = plan.all_groups(seeds)
    # The longest first: loading counts for the first of them, where it is least.
    everything = [group for own in reversed(groups.values()) for group in own]
    for outcome in run_sweep(
        everything, dynprune_agents.make, folder, jobs=jobs, data_dir=data_dir
    ):
        if outcome.error:
            raise RuntimeError(f"{plan.task}: {outcome.error}")
    return [
        measure(
            [Result.load(folder / f"{c.key}.json") for group in own for c in group.configs()],
            epochs,
        )
        for epochs, own in groups.items()
    ]


def main(
    task: Annotated[list[str] | None, typer.Option("--task", help="Repeatable. [all]")] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=len(SEEDS), help="At most; CNNs take 3 or 5.")
    ] = len(SEEDS),
    jobs: int = 2,
    out: Path = Path("results/horizon"),
    table: Path = Path("benchmarks/results/horizon.md"),
    data_dir: str | None = None,
) -> None:
    """Plays full data at each T; writes a row per task that is asked for or was played already."""
    known = [plan.task for plan in PLANS]
    if unknown := set(task or ()) - set(known):
        raise typer.BadParameter(f"--task is one of {', '.join(known)}, got {', '.join(unknown)}")
    rows = []
    for plan in PLANS:
        groups = [group for own in plan.all_groups(seeds).values() for group in own]
        if task and plan.task not in task and not complete(groups, out):
            continue
        rows.append(row(plan, play(plan, seeds, out, jobs, data_dir), seeds))
        print(" | ".join(rows[-1]), flush=True)
        heads = ["task", "samples", "seeds", "T", "val accuracy, %", "seconds a run"]
        grid = Grid("", [*heads, "levelled off at", "default T"], rows)
        body = grid.to_markdown().lstrip("# \n")
        write_text(table, f"{HEAD}\n\n{body}")


if __name__ == "__main__":
    typer.run(main)
