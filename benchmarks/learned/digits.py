"""The learned policies beside every other agent on Digits, on data and seeds that they never saw.

Budgets 0.1, 0.3 and 0.5, with 0 %, 20 % and 40 % of the labels redrawn; 50 runs a setting: five
seeds on each of ten data seeds, none of which training or the choice between policies has met.
Differences are paired by run, with a 95 % bootstrap interval of their mean.

    python -m benchmarks.learned.digits     # about half an hour on two cores
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dynprune_agents
from benchmarks.learned.tables import Setting, accuracy_table, duel_table, play

LEARNED = ("learned", "sb3")
VARIANTS = ("learned(policy='weighted')", "learned(policy='robust')")
ENV = "DynPrune-Digits-v0"
DATA_SEEDS = range(100, 110)
SEEDS = range(1000, 1005)
NOISE = (0.0, 0.2, 0.4)
BUDGETS = (0.1, 0.3, 0.5)
FOOTNOTE = (
    "Test accuracy in percent, mean and half the width of its 95 % interval. †: spent more than "
    "the budget, because its scoring runs are charged; not counted as the best."
)


def settings() -> list[Setting]:
    """The nine settings."""
    return [
        Setting(ENV, budget, {"label_noise": noise}, tuple(DATA_SEEDS), tuple(SEEDS))
        for noise in NOISE
        for budget in BUDGETS
    ]


def main(
    agents: Annotated[
        list[str] | None, typer.Option("--agents", help="Repeatable. [all agents]")
    ] = None,
    jobs: int = 2,
    out: Path = Path("results/learned_digits"),
    table: Path = Path("benchmarks/results/learned_digits.md"),
) -> None:
    """Plays all agents and writes the table."""
    everyone = [*dynprune_agents.names(), *VARIANTS]
    specs = [repr(dynprune_agents.make(spec)) for spec in agents or everyone]
    runs = play(settings(), specs, out, jobs)
    handwritten = [spec for spec in specs if spec.split("(")[0] not in LEARNED]
    parts = [__doc__ or "", accuracy_table(runs, settings(), specs), FOOTNOTE]
    for spec in specs:
        if spec not in handwritten:
            parts.append(duel_table(runs, settings(), spec, handwritten))
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
