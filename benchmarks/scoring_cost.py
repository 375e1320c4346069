"""Do static scores pay once scoring is counted? Each beside dynamic random at the same true cost.

Raju et al. (2021) claim that uniform random dynamic pruning beats static pruning, and that static
scores cost more than they save. For every static rule this plays the rule at a nominal budget,
adds up what it truly spent (its scoring runs included), and gives dynamic random that many visits,
at most those of a full run. Differences are paired by seed, with a 95 % bootstrap interval.

    python -m benchmarks.scoring_cost       # Digits and Fashion-MNIST: about half an hour
    python -m benchmarks.scoring_cost --env DynPrune-Digits-v0 --seeds 20
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import bootstrap

import dynprune_agents
from dynprune_env import Result
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import load_results
from dynprune_env.benchmark.runner import run_sweep

STATIC = (
    "static_random",
    "forgetting",
    "el2n",
    "grand",
    "aum(hard=True)",
    "cartography",
    "ccs(cut=0.0)",
    "dyn_unc",
    "dual",
    "tdds",
)
HEADER = (
    "| environment | budget | rule | accuracy % | truly spent % | dynamic random at that cost % "
    "| difference, 95 % interval | seeds |\n|---|---:|---|---:|---:|---:|---:|---:|\n"
)


def play(env: str, agent: str, budget: float, seeds: int, folder: Path, jobs: int) -> list[Result]:
    """The results of one row, in the order of the seeds; played unless they are there already."""
    together = [tuple(range(seeds))] if "Digits" in env else [(seed,) for seed in range(seeds)]
    groups = [RunGroup(env, {"budget": budget}, agent, sharing) for sharing in together]
    for outcome in run_sweep(groups, dynprune_agents.make, folder, jobs=jobs):
        if outcome.error:
            raise RuntimeError(f"{agent} on {env}: {outcome.error}")
    keys = [config.key for group in groups for config in group.configs()]
    found = {result.config.key: result for result in load_results([folder])}
    return [found[key] for key in keys]


def row(env: str, agent: str, budget: float, seeds: int, folder: Path, jobs: int) -> str:
    """One line of the table."""
    rule = play(env, agent, budget, seeds, folder, jobs)
    spent = float(np.mean([1 - result.saved for result in rule]))
    random = play(env, "dynamic_random", round(min(1.0, spent), 6), seeds, folder, jobs)
    accuracy, rival = (
        100 * np.array([result.test_accuracy for result in results]) for results in (rule, random)
    )
    difference = accuracy - rival
    interval = bootstrap(
        (difference,), np.mean, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    return (
        f"| {env} | {100 * budget:g} % | `{agent}` | {accuracy.mean():.2f} | {100 * spent:.1f} "
        f"| {rival.mean():.2f} | {difference.mean():+.2f} ({interval.low:+.2f} to "
        f"{interval.high:+.2f}) | {seeds} |\n"
    )


def main(
    env: Annotated[list[str] | None, typer.Option("--env")] = None,
    budgets: Annotated[list[float] | None, typer.Option("--budgets")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="On Digits; the others take 3.")] = 20,
    jobs: int = 2,
    out: Path = Path("results/scoring_cost"),
    table: Path = Path("benchmarks/results/scoring_cost.md"),
) -> None:
    """Plays all static rules and writes the table."""
    lines = []
    for each in env or ["DynPrune-Digits-v0", "DynPrune-FashionMNIST-v0"]:
        for budget in budgets or [0.3, 0.5]:
            for agent in STATIC:
                count = seeds if "Digits" in each else 3
                if "Digits" not in each and agent == "grand":
                    agent = "grand(nets=1)"  # a gradient per sample takes minutes a net here
                lines.append(row(each, agent, budget, count, out, jobs))
                print(lines[-1], end="", flush=True)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text((__doc__ or "") + "\n" + HEADER + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
