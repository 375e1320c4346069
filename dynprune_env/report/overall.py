"""Agents over all tasks: interquartile mean, probability of improvement, mean rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from dynprune_env.benchmark.results import Result
from dynprune_env.report.metrics import (
    interquartile_mean,
    mean_ranks,
    probability_of_improvement,
    stratified_interval,
)
from dynprune_env.report.summary import REFERENCE, to_csv
from dynprune_env.report.tables import Grid

BASELINES = ("dynamic_random", "static_random", REFERENCE)
"""What the others should improve on: the first of these that was played."""


@dataclass(frozen=True)
class Overall:
    """One agent over all tasks; a task is an environment, a variant and a budget below 1.

    Attributes:
        agent: the agent's spec.
        seeds: fewest runs on a task.
        iqm: interquartile mean of test accuracy over tasks and seeds, in [0, 1].
        low: lower end of its 95 % interval, seeds redrawn within tasks.
        high: upper end of it.
        improvement: chance that a run beats one of the baseline on the same task, in [0, 1].
        improvement_low: lower end of its 95 % interval.
        improvement_high: upper end of it.
        rank: mean rank of the mean accuracy over tasks, 1 for the best.
        nominal: mean share of a full run's visits that the budgets leave out.
        saved: mean share truly saved, scoring included.
    """

    agent: str
    seeds: int
    iqm: float
    low: float
    high: float
    improvement: float
    improvement_low: float
    improvement_high: float
    rank: float
    nominal: float
    saved: float


@dataclass(frozen=True)
class OverTasks:
    """All agents that were played on every task.

    Attributes:
        rows: best interquartile mean first.
        tasks: how many there are.
        baseline: what the probability of improvement refers to.
        left_out: agents that lack a task.
    """

    rows: tuple[Overall, ...]
    tasks: int
    baseline: str
    left_out: tuple[str, ...]


def summarize_tasks(results: Iterable[Result]) -> OverTasks | None:
    """Compares the agents over all tasks; None where no two agents played the same ones."""
    found: defaultdict[str, defaultdict[tuple[str, str, float], list[Result]]]
    found = defaultdict(lambda: defaultdict(list))
    for result in results:
        config = result.config
        if config.budget < 1:  # a full run is the reference, not a task
            found[config.agent][config.env, config.variant, config.budget].append(result)
    tasks = sorted({task for runs in found.values() for task in runs})
    complete = sorted(agent for agent, runs in found.items() if len(runs) == len(tasks))
    if len(complete) < 2:
        return None
    strata = {
        agent: [np.array([run.test_accuracy for run in found[agent][task]]) for task in tasks]
        for agent in complete
    }
    baseline = next((name for name in BASELINES if name in complete), complete[0])
    ranks = mean_ranks(np.array([[s.mean() for s in strata[agent]] for agent in complete]))
    rows = []
    for agent, rank in zip(complete, ranks, strict=True):
        low, high = stratified_interval(strata[agent])
        chance, (chance_low, chance_high) = probability_of_improvement(
            strata[agent], strata[baseline]
        )
        rows.append(
            Overall(
                agent=agent,
                seeds=min(map(len, strata[agent])),
                iqm=float(interquartile_mean(np.concatenate(strata[agent]))),
                low=low,
                high=high,
                improvement=chance,
                improvement_low=chance_low,
                improvement_high=chance_high,
                rank=float(rank),
                nominal=fmean(1 - budget for _, _, budget in tasks),
                saved=fmean(fmean(r.saved for r in found[agent][task]) for task in tasks),
            )
        )
    rows.sort(key=lambda row: (-row.iqm, row.agent))
    return OverTasks(tuple(rows), len(tasks), baseline, tuple(sorted(set(found) - set(complete))))


def overall_table(over: OverTasks) -> Grid:
    """The numbers of `summarize_tasks`, in percent."""
    rows = []
    for row in over.rows:
        better = "" if row.agent == over.baseline else f"{100 * row.improvement:.0f}"
        many = row.seeds > 1
        ends = f"{100 * row.improvement_low:.0f}\N{EN DASH}{100 * row.improvement_high:.0f}"
        rows.append(
            (
                row.agent,
                f"{100 * row.iqm:.2f}",
                f"{100 * row.low:.2f}\N{EN DASH}{100 * row.high:.2f}" if many else "",
                better,
                ends if better and many else "",
                f"{row.rank:.1f}",
                f"{100 * row.saved:.1f}",
                str(row.seeds),
            )
        )
    fewest = min(row.seeds for row in over.rows)
    caption = (
        f"{over.tasks} tasks (environment, variant, budget). IQM: interquartile mean of test "
        "accuracy over tasks and seeds, with its 95 % bootstrap interval, seeds redrawn within "
        f"tasks. Better: chance that a run beats one of {over.baseline} on the same task, ties "
        "half, with its interval. Rank: mean over tasks of the mean accuracy's rank. Saved: share "
        f"of a full run's visits truly saved, scoring included (nominally "
        f"{100 * over.rows[0].nominal:.0f} %). Seeds: fewest on a task."
    )
    if fewest < 3:
        caption += " Fewer than three seeds: the intervals say little."
    if over.left_out:
        caption += f" Left out, as they lack a task: {', '.join(over.left_out)}."
    headers = ["agent", "IQM\n%", "95 %\ninterval", "better\n%", "95 %\ninterval", "rank"]
    headers += ["saved\n%", "seeds"]
    return Grid("Over all tasks", headers, rows, caption)


def overall_csv(over: OverTasks) -> str:
    """One column per attribute of `Overall`, unrounded."""
    return to_csv(over.rows)
