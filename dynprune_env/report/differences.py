"""Paired differences: each agent against a reference, seed by seed, per task and over tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.specs import lookup
from dynprune_env.report.metrics import mean_interval, stratified_interval
from dynprune_env.report.summary import REFERENCE, few_seeds, tasks_in_words
from dynprune_env.report.tables import Grid

Task = tuple[str, str, float]
Scores = dict[int, float]


@dataclass(frozen=True)
class Difference:
    """One agent less the reference, in test accuracy, over the seeds that both played.

    Attributes:
        env: Gymnasium id; "" over all tasks.
        variant: the env_kwargs other than budget, or "".
        budget: nominal share of a full run's visits, in (0, 1]; None over all tasks.
        agent: the agent's spec.
        reference: the reference's, with @ and its budget where that is another.
        tasks: how many tasks; over several, each counts alike.
        pairs: seeds that both played, the fewest of a task.
        difference: mean over the pairs, in [-1, 1].
        low: lower end of its 95 % bootstrap interval, pairs redrawn within tasks; the mean itself
            for one pair.
        high: upper end of it.
    """

    env: str
    variant: str
    budget: float | None
    agent: str
    reference: str
    tasks: int
    pairs: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Differences:
    """All differences to one reference.

    Attributes:
        reference: the agent's spec, perhaps with @ and a budget.
        per_task: by environment, variant and budget, largest first.
        over_tasks: of the agents that have every task, largest first; empty for a single task.
        left_out: agents that lack a task, or its seeds.
    """

    reference: str
    per_task: tuple[Difference, ...]
    over_tasks: tuple[Difference, ...]
    left_out: tuple[str, ...]


def compare(results: Iterable[FinishedRun], reference: str) -> Differences:
    """Pairs the runs of every agent with those of the reference, by task and seed.

    Args:
        results: finished runs.
        reference: an agent's spec: its runs at the same budget (for full data, where there are
            none, those with all visits); or "SPEC@BUDGET": those at that budget everywhere.

    Raises:
        ValueError: there are no runs of the reference, or none that can be paired.
    """
    scores: defaultdict[str, defaultdict[Task, Scores]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        config = result.config
        task = config.env, config.variant, config.budget
        scores[config.agent][task][config.seed] = result.test_accuracy
    name, at = split_reference(reference)
    lookup(name, dict(scores), "agent of these results")
    found: defaultdict[str, dict[Task, tuple[float, np.ndarray]]] = defaultdict(dict)
    for agent, tasks in scores.items():
        for task, ours in tasks.items():
            budget = _budget_of(scores[name], task, name, at)
            theirs = scores[name].get((*task[:2], budget), {})
            seeds = sorted(set(ours) & set(theirs))
            if seeds and (agent, task[2]) != (name, budget):
                pairs = np.array([ours[seed] - theirs[seed] for seed in seeds])
                found[agent][task] = budget, pairs
    if not found:
        raise ValueError(f"no agent played a task of {reference} under one of its seeds")
    per_task = [
        _difference(agent, name, task, [pairs], budget)
        for agent, tasks in found.items()
        for task, (budget, pairs) in tasks.items()
    ]
    per_task.sort(key=lambda row: (row.env, row.variant, row.budget, -row.difference, row.agent))
    # A full run is what others are compared with, not a task.
    every = {task for tasks in found.values() for task in tasks if task[2] < 1}
    whole = {agent: tasks for agent, tasks in found.items() if every <= set(tasks)}
    over = [
        _difference(agent, name, None, [tasks[task][1] for task in sorted(every)], at)
        for agent, tasks in (whole.items() if len(every) > 1 else ())
    ]
    over.sort(key=lambda row: (-row.difference, row.agent))
    left_out = sorted(set(scores) - set(whole) - {name}) if len(every) > 1 else []
    return Differences(reference, tuple(per_task), tuple(over), tuple(left_out))


def split_reference(reference: str) -> tuple[str, float | None]:
    """The agent's spec and the budget of "SPEC@BUDGET"; None where none is given.

    Raises:
        ValueError: the budget is no number in (0, 1].
    """
    name, at, budget = reference.rpartition("@")
    if not at:
        return reference, None
    try:
        share = float(budget)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"a reference is an agent or AGENT@BUDGET in (0, 1], got {reference!r}")
    return name, share


def _budget_of(runs: defaultdict[Task, Scores], task: Task, name: str, at: float | None) -> float:
    """The budget of the reference's runs that a task is compared with."""
    if at is not None:
        return at
    full = name.partition("(")[0] == REFERENCE and task not in runs
    return 1.0 if full else task[2]


def _difference(
    agent: str,
    reference: str,
    task: Task | None,
    pairs: Sequence[np.ndarray],
    reference_budget: float | None,
) -> Difference:
    env, variant, budget = task or ("", "", None)
    if task is None:
        weights = np.concatenate([np.full(len(each), 1 / len(each)) for each in pairs]) / len(pairs)
        low, high = stratified_interval(pairs, lambda redrawn: redrawn @ weights)
    else:
        low, high = mean_interval(pairs[0].tolist())
    other = reference_budget is not None and reference_budget != budget
    return Difference(
        env,
        variant,
        budget,
        agent,
        f"{reference}@{reference_budget:g}" if other else reference,
        len(pairs),
        min(map(len, pairs)),
        fmean(float(each.mean()) for each in pairs),
        low,
        high,
    )


def difference_tables(found: Differences) -> list[Grid]:
    """One table per (env, variant), and one over all tasks, in percentage points."""
    panels: defaultdict[tuple[str, str], list[Difference]] = defaultdict(list)
    for row in found.per_task:
        panels[row.env, row.variant].append(row)
    grids = []
    for (env, variant), rows in panels.items():
        sections = [f"budget {100 * (row.budget or 0):g} %" for row in rows]
        title = f"{env}: lead over {found.reference}"
        grids.append(_grid(title, rows, "seeds", variant, sections, ""))
    if found.over_tasks:
        rows = list(found.over_tasks)
        left_out = ", ".join(found.left_out)
        note = f"{tasks_in_words(rows[0].tasks)}, each counting alike."
        note += f" Left out, as they lack a task: {left_out}." if left_out else ""
        title = f"Over all tasks: lead over {found.reference}"
        grids.append(_grid(title, rows, "fewest\nseeds", "", (), note))
    return grids


def _grid(
    title: str,
    rows: Sequence[Difference],
    pairs: str,
    subtitle: str,
    sections: Sequence[str],
    note: str,
) -> Grid:
    cells = [
        (
            f"{100 * row.budget:g} %" if row.budget is not None else "",
            row.agent,
            f"{100 * row.difference:+.2f}",
            f"{100 * row.low:+.2f} to {100 * row.high:+.2f}" if row.pairs > 1 else "",
            str(row.pairs),
        )
        for row in rows
    ]
    caption = (
        "Test accuracy less that of the reference, mean over pairs of the same seed, in percentage "
        "points, with its 95 % percentile bootstrap interval: where it leaves 0 out, the agents "
        "can be told apart."
    )
    caption += (f" {note}" if note else "") + few_seeds(row.pairs for row in rows)
    headers = ("budget", "agent", "difference\npoints", "95 %\ninterval", pairs)
    first = 0 if sections else 1  # over all tasks there is no budget to tell
    return Grid(
        title,
        headers[first:],
        [each[first:] for each in cells],
        caption,
        text_columns=(1 - first,),
        code_columns=(1 - first,),
        subtitle=subtitle,
        sections=sections,
        hidden=1 - first,
    )
