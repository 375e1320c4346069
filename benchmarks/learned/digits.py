"""The learned policies beside every other agent on Digits, on data and seeds that they never saw.

Budgets 0.1, 0.3 and 0.5, with 0 %, 20 % and 40 % of the labels redrawn; 50 runs a setting: five
seeds on each of ten data seeds, none of which training or the choice between policies has met.
Differences are paired by run, with a 95 % bootstrap interval of their mean. Beside the agents stand
three seeds of the same training of PPO, one of four times as many steps whose actions weigh
gradients too, a policy that was taught by it and by a plan for clean labels, and the best of 28
constant plans (one tilt each). Below stand three seeds that were trained with raw weights between
1/2 and 2, which may be larger steps, and their controls: dynamic random with nothing but larger
steps, by a half or twice.

    python -m benchmarks.learned.digits     # about half an hour on two cores
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import dynprune_agents
from benchmarks.compact_runs import compact
from benchmarks.learned.constant import PLANS, Constant, LargerSteps
from benchmarks.learned.tables import (
    Setting,
    accuracies,
    accuracy_table,
    all_groups,
    duel_table,
    mean_leads,
    play,
)
from dynprune_env.common.files import write_text

LEARNED = ("learned", "sb3")
VARIANTS = (
    "learned(policy='weighted')",
    "learned(policy='robust')",
    "sb3(policy='ppo_short')",
)
SEEDS_OF_PPO = (
    "sb3(policy='ppo_digits')",
    *(f"sb3(policy='benchmarks/learned/policies/ppo_digits_{seed}.npz')" for seed in (1, 2)),
)
"""The same training of PPO on Digits alone, with three seeds; the first ships."""

LONGER_PPO = "sb3(policy='benchmarks/learned/policies/ppo_weights_digits.npz')"
"""PPO on Digits alone, four times as long, with gradient weights of mean one and 32 units."""

TAUGHT = "sb3(policy='benchmarks/learned/policies/taught_digits.npz')"
"""By `benchmarks.learned.taught`."""

RAW_SEEDS = tuple(
    f"sb3(policy='benchmarks/learned/policies/ppo_raw_digits_{seed}.npz')" for seed in range(3)
)
"""The same with gradient weights, which are not scaled to mean one."""

STEPS = tuple(repr(LargerSteps(factor=factor)) for factor in (1.5, 2.0))
RAW = (*RAW_SEEDS, *STEPS, "dynamic_random")

CONTROLS = tuple(repr(Constant(*plan)) for plan in PLANS)
ENV, BASELINE = "DynPrune-Digits-v0", "dynamic_random"
DATA_SEEDS = range(100, 110)
SEEDS = range(1000, 1005)
NOISE = (0.0, 0.2, 0.4)
BUDGETS = (0.1, 0.3, 0.5)
FOOTNOTE = (
    "Test accuracy in percent, mean and half the width of its 95 % interval. †: spent more than "
    "the budget, because its scoring runs are charged; not counted as the best."
)


def settings(**env_kwargs: str) -> list[Setting]:
    """The nine settings."""
    return [
        Setting(ENV, budget, {"label_noise": noise, **env_kwargs}, tuple(DATA_SEEDS), tuple(SEEDS))
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
    beside = (*VARIANTS, *SEEDS_OF_PPO, LONGER_PPO, TAUGHT)
    everyone = [*dynprune_agents.names(), *beside, *CONTROLS]
    specs = [repr(dynprune_agents.make(spec)) for spec in agents or everyone]
    runs = play(settings(), specs, out, jobs)
    played = [(settings(), specs)]
    plans = [spec for spec in specs if spec in CONTROLS]

    def mean(spec: str) -> float:
        return float(np.mean([accuracies(runs, setting, spec) for setting in settings()]))

    dropped = sorted(plans, key=mean)[:-1]  # of the constant plans the best is shown
    specs = [spec for spec in specs if spec not in dropped]
    learned = [spec for spec in specs if spec.split("(")[0] in LEARNED]
    handwritten = [spec for spec in specs if spec not in learned and spec not in plans]
    parts = [__doc__ or "", accuracy_table(runs, settings(), specs), FOOTNOTE]
    if set(SEEDS_OF_PPO) <= set(specs):
        every = [accuracies(runs, s, spec) for spec in SEEDS_OF_PPO for s in settings()]
        means = np.mean(every, axis=1).reshape(len(SEEDS_OF_PPO), -1).mean(0)
        parts.append(
            "Mean of the three seeds of PPO, in the order of the columns: "
            + ", ".join(f"{mean:.1f}" for mean in means)
        )
    if BASELINE in specs:
        parts.append(mean_leads(runs, settings(), specs, BASELINE))
    parts += [duel_table(runs, settings(), spec, handwritten) for spec in learned]
    if not agents:
        raw, specs = settings(weights="raw"), [repr(dynprune_agents.make(spec)) for spec in RAW]
        runs = play(raw, specs, out, jobs)
        played.append((raw, specs))
        parts += ["## Raw weights", accuracy_table(runs, raw, specs)]
        parts += [mean_leads(runs, raw, specs, BASELINE)]
    write_text(table, "\n\n".join(parts) + "\n")
    groups = [group for columns, rows in played for group in all_groups(columns, rows, True)]
    keys = dict.fromkeys(config.key for group in groups for config in group.configs())
    compact((runs[key] for key in keys), table.with_suffix("") / "runs.json.gz")
    print(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
