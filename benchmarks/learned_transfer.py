"""The learned policies, unchanged, on real data sets that their training never saw.

Subsets of 10,000 samples, five seeds each: Fashion-MNIST (MLP) and CIFAR-10 (small CNN), clean and
with 20 % and 40 % of the labels redrawn, at budgets 0.3 and 0.5; CIFAR-100 (small CNN), clean and
with 40 %, at budget 0.3, with fewer handwritten rules; and Fashion-MNIST at full size once. The
CNNs have width 8 (instead of 24), so that it fits two cores.

    python -m benchmarks.learned_transfer           # an hour on two cores
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.learned_tables import (
    Runs,
    Setting,
    accuracy_table,
    duel_table,
    lead_table,
    play,
)

LEARNED = ("learned", "learned(policy='weighted')")
FEW = ("dynamic_random", "infobatch", "small_loss", "full_data")
ALL = (*FEW, "epsilon_greedy", "ucb", "seta")
SEEDS = tuple(range(1000, 1005))
FULL_SIZE = Setting("DynPrune-FashionMNIST-v0", 0.3, {"label_noise": 0.2}, (100,), SEEDS)


@dataclass(frozen=True)
class Part:
    """One data set of the study: its handwritten agents and its settings."""

    task: str
    handwritten: tuple[str, ...] = ALL
    noise: tuple[float, ...] = (0.0, 0.2, 0.4)
    budgets: tuple[float, ...] = (0.3, 0.5)
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> list[Setting]:
        """One per share of wrong labels and budget."""
        return [
            Setting(
                f"DynPrune-{self.task}-v0",
                budget,
                {"label_noise": noise, "train_size": 10_000, **self.env_kwargs},
                (100,),
                SEEDS,
            )
            for noise in self.noise
            for budget in self.budgets
        ]

    @property
    def agents(self) -> list[str]:
        """All that play."""
        return [*LEARNED, *self.handwritten]


NARROW = {"model": "small_cnn(width=8)"}
PARTS = (
    Part("FashionMNIST"),
    Part("CIFAR10Small", env_kwargs=NARROW),
    Part("CIFAR100Small", FEW, (0.0, 0.4), (0.3,), NARROW),
)


def main(
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Repeatable. [all three]")
    ] = None,
    jobs: int = 2,
    out: Path = Path("results/learned_transfer"),
    table: Path = Path("benchmarks/results/learned_transfer.md"),
    data_dir: str | None = None,
) -> None:
    """Plays the agents and writes the tables."""
    parts = [part for part in PARTS if part.task in (tasks or [p.task for p in PARTS])]
    pieces = []
    every: list[Setting] = []
    everything: Runs = {}
    for part in parts:
        columns = part.settings()
        # Small nets train their seeds side by side, CNNs one after the other.
        runs = play(columns, part.agents, out, jobs, "CIFAR" not in part.task, data_dir)
        every, everything = every + columns, everything | runs
        pieces += [f"## {part.task}", accuracy_table(runs, columns, part.agents)]
        pieces += [duel_table(runs, columns, spec, part.handwritten) for spec in LEARNED]
        if part.task == "FashionMNIST":
            runs = play([FULL_SIZE], part.agents, out, jobs, True, data_dir)
            pieces += ["## FashionMNIST at full size, 55,000 samples"]
            pieces += [accuracy_table(runs, [FULL_SIZE], part.agents)]
    common = [spec for spec in parts[0].agents if all(spec in part.agents for part in parts)]
    over_all = ["## Over all settings", lead_table(everything, every, common, "dynamic_random")]
    wide = [s for part in parts if part.handwritten == ALL for s in part.settings()]
    over_all += [
        "## Over the settings of Fashion-MNIST and CIFAR-10, with all rules",
        lead_table(everything, wide, [*LEARNED, *ALL], "dynamic_random"),
    ]
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n\n".join([__doc__ or "", *over_all, *pieces]) + "\n")
    print(table.read_text())


if __name__ == "__main__":
    typer.run(main)
