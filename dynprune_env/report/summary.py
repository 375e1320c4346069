"""Results into numbers: a row per agent and budget, and the agents compared over all tasks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

import numpy as np

from dynprune_env.benchmark.fingerprint import mixed_parts
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.report.metrics import (
    interquartile_mean,
    mean_interval,
    mean_ranks,
    probability_of_improvement,
    stratified_interval,
)
from dynprune_env.report.tables import NOTHING

REFERENCE = "full_data"
"""At budget 1 this agent is the full run that the others are compared with."""

BASELINES = ("dynamic_random", "static_random", REFERENCE)
"""What the others should improve on: over all tasks, the first of these that was played."""


@dataclass(frozen=True)
class GroupRow:
    """All seeds of one (env, env_kwargs without budget, agent, budget).

    Attributes:
        env: Gymnasium id.
        variant: the env_kwargs other than budget, "key=value, ..." sorted by key, or "".
        agent: the agent's spec.
        budget: nominal share of a full run's visits, in (0, 1].
        seeds: number of runs.
        accuracy: mean test accuracy, in [0, 1].
    """

    env: str
    variant: str
    agent: str
    budget: float
    seeds: int
    accuracy: float


@dataclass(frozen=True)
class Row(GroupRow):
    """What a table says of a group of runs; means are over seeds.

    Attributes:
        low: lower end of the 95 % bootstrap interval of that mean; the mean itself for one seed.
        high: upper end of it.
        spread: standard deviation of the accuracy over seeds (ddof 1), 0 for one seed.
        test_loss: mean test loss, in nats.
        saved: mean true saved fraction of a full run, scoring included.
        visits: mean number of samples trained, scoring excluded.
        scored: mean number of samples only scored, each a third of a visit.
        seconds: mean wall-clock of a run, in seconds.
        diverged: number of runs whose loss became non-finite; the means include them.
        mixed: in what the fingerprints of the runs differ, "package, engine", or "".
        made_on: device and machine of its runs, as in `Result`; seconds of others do not compare.
    """

    low: float
    high: float
    spread: float
    test_loss: float
    saved: float
    visits: float
    scored: float
    seconds: float
    diverged: int
    mixed: str = ""
    made_on: str = ""

    @property
    def share(self) -> float:
        """Share of a full run truly spent, scoring included at a third of a visit each."""
        return 1 - self.saved


def summarize(results: Iterable[FinishedRun]) -> list[Row]:
    """One row per group of runs that differ in their seed alone.

    Sorted by env, variant, budget, then accuracy descending.

    Raises:
        ValueError: there are no results, or two runs of a group have the same seed.
    """
    groups: defaultdict[tuple[str, str, str, float], list[FinishedRun]] = defaultdict(list)
    for result in results:
        config = result.config
        groups[config.env, config.variant, config.agent, config.budget].append(result)
    rows = []
    for (env, variant, agent, budget), group in groups.items():
        runs = by_seed(group)
        if len({run.config.seed for run in runs}) < len(runs):  # would narrow the interval falsely
            raise ValueError(f"{agent} on {env} at budget {budget:g}: a seed occurs twice")
        accuracies = [run.test_accuracy for run in runs]
        low, high = mean_interval(accuracies)
        row = Row(
            env=env,
            variant=variant,
            agent=agent,
            budget=budget,
            seeds=len(runs),
            accuracy=fmean(accuracies),
            low=low,
            high=high,
            spread=stdev(accuracies) if len(runs) > 1 else 0.0,
            test_loss=fmean(run.test_loss for run in runs),
            saved=fmean(run.saved for run in runs),
            visits=fmean(run.visits for run in runs),
            scored=fmean(run.scored for run in runs),
            seconds=fmean(run.seconds["total"] for run in runs),
            diverged=sum(run.diverged for run in runs),
            mixed=", ".join(_mixed(runs)),
            made_on="; ".join(sorted({f"{run.device}, {run.machine}" for run in runs})),
        )
        rows.append(row)
    if not rows:
        raise ValueError(NOTHING)
    return sorted(rows, key=_order)


def by_seed(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """The runs of a group sorted by seed, since what a bootstrap redraws depends on their order."""
    return sorted(runs, key=lambda run: run.config.seed)


def of_one_machine(rows: Sequence[Row]) -> list[Row]:
    """Those made where most were, whose seconds compare."""
    ((most, _),) = Counter(row.made_on for row in rows).most_common(1)
    return [row for row in rows if row.made_on == most]


def _mixed(runs: Sequence[FinishedRun]) -> list[str]:
    """In what the runs of a row differ that should differ in nothing but their seeds."""
    distinct = {id(run.fingerprint): run.fingerprint for run in runs}  # most share one
    found = list(mixed_parts(distinct.values()))
    if any(run.versions != runs[0].versions for run in runs):
        found.append("libraries")
    return found


def _order(row: Row) -> tuple[str, str, float, float, str]:
    return row.env, row.variant, row.budget, -row.accuracy, row.agent


def panels_of(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by (env, variant), each sorted by budget, then best accuracy first."""
    panels: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=_order):
        panels[row.env, row.variant].append(row)
    if not panels:
        raise ValueError(NOTHING)
    return panels


def best_accuracies(panel: Iterable[Row]) -> dict[float, float]:
    """The best mean accuracy of each budget."""
    return {row.budget: row.accuracy for row in sorted(panel, key=lambda row: row.accuracy)}


def level_with_best(panel: Iterable[Row]) -> set[Row]:
    """Rows whose interval overlaps with that of the best row of their budget, itself left out."""
    found = set()
    ranked = sorted(panel, key=lambda row: (row.budget, -row.accuracy))
    for _, group in groupby(ranked, key=lambda row: row.budget):
        best, *others = group
        found |= {row for row in others if min(row.seeds, best.seeds) > 1 and row.high >= best.low}
    return found


def seeds_of(rows: Sequence[Row]) -> str:
    """How many seeds a row has: "10 seeds", "3 to 10 seeds" or "one seed"."""
    fewest, most = min(row.seeds for row in rows), max(row.seeds for row in rows)
    if fewest < most:
        return f"{fewest} to {most} seeds"
    return f"{most} seeds" if most > 1 else "one seed"


FEW = 5
"""Below so many seeds a percentile bootstrap interval is far too narrow."""


def few_seeds(counts: Iterable[int]) -> str:
    """A sentence where intervals of so few seeds are shown, or nothing."""
    few = any(1 < count < FEW for count in counts)
    return " Fewer than five seeds: the intervals say little, do not trust them." if few else ""


def tasks_in_words(count: int) -> str:
    """How many tasks, and what one is."""
    return f"{count} task{'s' * (count != 1)} (environment, variant, budget)"


def is_reference(row: GroupRow) -> bool:
    """Whether it is full data with all visits, to which the others are compared."""
    return row.agent.split("(")[0] == REFERENCE and row.budget == 1


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
    """All agents that were played on every task, under the same seeds.

    Attributes:
        rows: best interquartile mean first.
        tasks: how many there are.
        baseline: what the probability of improvement refers to.
        left_out: agents that lack a task.
        lack_seeds: agents that have every task, but lack a seed that most of them played there.
        not_counted: runs of the agents in `rows` under seeds that others lack.
    """

    rows: tuple[Overall, ...]
    tasks: int
    baseline: str
    left_out: tuple[str, ...]
    lack_seeds: tuple[str, ...] = ()
    not_counted: int = 0


def summarize_tasks(
    results: Iterable[FinishedRun], baseline: str | None = None
) -> OverTasks | None:
    """Compares the agents over all tasks; None where no two played the same under the same seeds.

    All agents are compared under the same seeds of each task, since an agent with fewer of them on
    the hard tasks would look better: those that more than half of the agents played there, without
    the agents that lack one; where fewer than two agents are left, those that all played.

    Args:
        results: finished runs.
        baseline: what the probability of improvement refers to, if it has every task; else the
            first of BASELINES.
    """
    found = _by_agent_and_task(results)
    tasks = sorted({task for runs in found.values() for task in runs})
    complete = sorted(agent for agent, runs in found.items() if len(runs) == len(tasks))
    if len(complete) < 2:
        return None
    for enough in (len(complete) // 2 + 1, len(complete)):
        counted = [_played_by(enough, [found[agent][task] for agent in complete]) for task in tasks]
        needed = list(zip(tasks, counted, strict=True))
        compared = [a for a in complete if all(found[a][task].keys() >= s for task, s in needed)]
        if len(compared) > 1:
            break
    if not all(counted):
        return None
    runs = {
        agent: [[found[agent][task][seed] for seed in sorted(seeds)] for task, seeds in needed]
        for agent in compared
    }
    strata = {
        agent: [np.array([run.test_accuracy for run in task]) for task in played]
        for agent, played in runs.items()
    }
    wanted = (baseline, *BASELINES)
    baseline = next((name for name in wanted if name in compared), None) or compared[0]
    ranks = mean_ranks(np.array([[s.mean() for s in strata[agent]] for agent in compared]))
    rows = []
    for agent, rank in zip(compared, ranks, strict=True):
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
                saved=fmean(fmean(run.saved for run in task) for task in runs[agent]),
            )
        )
    rows.sort(key=lambda row: (-row.iqm, row.agent))
    return OverTasks(
        tuple(rows),
        len(tasks),
        baseline,
        left_out=tuple(sorted(set(found) - set(complete))),
        lack_seeds=tuple(sorted(set(complete) - set(compared))),
        not_counted=sum(
            len(found[agent][task].keys() - seeds) for agent in compared for task, seeds in needed
        ),
    )


def why_not_compared(results: Iterable[FinishedRun]) -> str:
    """A sentence on why `summarize_tasks` compares none of these; "" where it would take no two."""
    found = _by_agent_and_task(results)
    if len(found) < 2:
        return ""
    tasks = len({task for played in found.values() for task in played})
    lacking = sorted(agent for agent, played in found.items() if len(played) < tasks)
    if len(found) - len(lacking) > 1:
        return "Nothing is compared over all tasks: no two agents played the same seeds of each."
    return (
        f"Nothing is compared over all {tasks_in_words(tasks)}: no two agents played each of them. "
        f"Left out, as they lack a task: {', '.join(lacking)}."
    )


def _by_agent_and_task(
    results: Iterable[FinishedRun],
) -> defaultdict[str, defaultdict[tuple[str, str, float], dict[int, FinishedRun]]]:
    """Runs by seed, of each agent's tasks: (env, variant, budget)."""
    found: defaultdict[str, defaultdict[tuple[str, str, float], dict[int, FinishedRun]]]
    found = defaultdict(lambda: defaultdict(dict))
    for result in results:
        config = result.config
        if config.budget < 1:  # a full run is the reference, not a task
            task = config.env, config.variant, config.budget
            found[config.agent][task][config.seed] = result
    return found


def _played_by(enough: int, played: Iterable[Iterable[int]]) -> set[int]:
    """The seeds that enough agents played, given those of each."""
    counts = Counter(seed for seeds in played for seed in seeds)
    return {seed for seed, count in counts.items() if count >= enough}


@dataclass(frozen=True)
class Summary:
    """All numbers of a report.

    Attributes:
        rows: what `summarize` gives.
        over: what `summarize_tasks` gives.
        why_not: where that is None, what `why_not_compared` says.
    """

    rows: list[Row]
    over: OverTasks | None
    why_not: str = ""

    @classmethod
    def of(cls, results: Sequence[FinishedRun], baseline: str | None = None) -> Summary:
        """The numbers of some results; `baseline` as in `summarize_tasks`.

        Raises:
            ValueError: there are no results, or two runs of a group have the same seed.
        """
        over = summarize_tasks(results, baseline)
        return cls(summarize(results), over, "" if over else why_not_compared(results))
