"""The learned policies, unchanged, on real data sets that their training never saw.

Subsets of 10,000 samples: Fashion-MNIST (MLP, five seeds), CIFAR-10 and CIFAR-100 (small CNN, three
seeds), clean and with 20 % and 40 % of the labels redrawn, at budgets 0.3 and 0.5; and
Fashion-MNIST at full size once. The CNNs have width 8 (instead of 24), so that it fits two cores.

    python -m benchmarks.learned.transfer --short     # an hour on two cores
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dynprune_agents
from benchmarks.compact_runs import compact
from benchmarks.learned.tables import (
    Runs,
    Setting,
    accuracy_table,
    all_groups,
    duel_table,
    lead_table,
    play,
)
from dynprune_env.common.files import write_text

LEARNED = ("sb3", "learned", "learned(policy='weighted')", "learned(policy='robust')")
HANDWRITTEN = (
    "dynamic_random",
    "infobatch",
    "small_loss",
    "full_data",
    "epsilon_greedy",
    "ucb",
    "seta",
    "kakurenbo",
)
NOISE = (0.0, 0.2, 0.4)
BUDGETS = (0.3, 0.5)
SEEDS = tuple(range(1000, 1005))
FULL_SIZE = Setting("DynPrune-FashionMNIST-v0", 0.3, {"label_noise": 0.2}, (100,), SEEDS)


@dataclass(frozen=True)
class Part:
    """One data set of the study."""

    name: str
    task: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    seeds: int = len(SEEDS)

    def settings(self) -> list[Setting]:
        """One per share of wrong labels and budget."""
        return [
            Setting(
                f"DynPrune-{self.task}-v0",
                budget,
                {"label_noise": noise, "train_size": 10_000, **self.env_kwargs},
                (100,),
                SEEDS[: self.seeds],
            )
            for noise in NOISE
            for budget in BUDGETS
        ]


NARROW = {"model": "small_cnn(width=8)"}
PARTS = (
    Part("fashion-mnist", "FashionMNIST"),
    Part("cifar10", "CIFAR10Small", NARROW, 3),
    Part("cifar100", "CIFAR100Small", NARROW, 3),
)


def study(
    names: Sequence[str] | None,
    jobs: int,
    out: Path,
    table: Path,
    policies: Sequence[str] = LEARNED,
    accept_stale: bool = False,
) -> None:
    """Plays the agents and writes the tables, and the runs beside them.

    Args:
        names: of the data sets, None for all.
        jobs: worker processes.
        out: folder of the results.
        table: where the tables go.
        policies: the learned agents, as specs.
        accept_stale: whether what other code or policies made stands.

    Raises:
        ValueError: there is no data set of that name.
    """
    if unknown := set(names or ()) - {part.name for part in PARTS}:
        raise ValueError(f"--short has no part {', '.join(sorted(unknown))}")
    parts = [part for part in PARTS if not names or part.name in names]
    agents = list(
        dict.fromkeys(repr(dynprune_agents.make(spec)) for spec in (*policies, *HANDWRITTEN))
    )
    learned = [spec for spec in agents if spec not in HANDWRITTEN]
    pieces = []
    every: list[Setting] = []
    every_size: list[Setting] = []
    everything: Runs = {}
    for part in parts:
        columns = part.settings()
        runs = play(columns, agents, out, jobs, accept_stale=accept_stale)
        every, everything = every + columns, everything | runs
        pieces += [f"## {part.task}", accuracy_table(runs, columns, agents)]
        pieces += [duel_table(runs, columns, spec, HANDWRITTEN) for spec in learned]
        if part.task == "FashionMNIST":
            runs = play([FULL_SIZE], agents, out, jobs, accept_stale=accept_stale)
            every_size, everything = [FULL_SIZE], everything | runs
            pieces += ["## FashionMNIST at full size, 55,000 samples"]
            pieces += [accuracy_table(runs, [FULL_SIZE], agents)]
    over_all = ["## Over all settings", lead_table(everything, every, agents, "dynamic_random")]
    write_text(table, "\n\n".join([__doc__ or "", *over_all, *pieces]) + "\n")
    groups = all_groups([*every, *every_size], agents, together=True)
    keys = dict.fromkeys(config.key for group in groups for config in group.configs())
    compact((everything[key] for key in keys), table.with_suffix("") / "runs.json")
    print(table.read_text(encoding="utf-8"))
