"""Plays agents in many settings and tables them: means, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import dynprune_agents
from benchmarks.learned.oracle import oracle
from dynprune_agents import Agent
from dynprune_env import Result, run_episodes
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import RunConfig, load_results
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.report.metrics import interquartile_mean, mean_interval, stratified_interval

REFERENCE = "full_data"
ORACLE = "oracle"
"""Stands for the oracle of each setting; see `benchmarks.learned.oracle`."""


@dataclass(frozen=True)
class Setting:
    """One column of a table: an environment, a budget, a corruption, and the runs made of it."""

    env: str
    budget: float
    env_kwargs: dict[str, Any]
    data_seeds: tuple[int, ...]
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.variant}, budget {100 * self.budget:g} %"

    @property
    def variant(self) -> str:
        """The corruption in words."""
        if "imbalance" in self.env_kwargs:
            return f"imbalance {self.env_kwargs['imbalance']:g}"
        if "duplicates" in self.env_kwargs:
            return f"{100 * self.env_kwargs['duplicates']:.0f} % duplicates"
        return f"{100 * self.env_kwargs.get('label_noise', 0):.0f} % noise"

    def groups(self, agent: str, together: bool = True) -> list[RunGroup]:
        """The agent's runs: the seeds of one data seed side by side, or each alone."""
        sharing = [self.seeds] if together else [(seed,) for seed in self.seeds]
        found = []
        for data_seed in self.data_seeds:
            kwargs = {**self.env_kwargs, "data_seed": data_seed, "budget": self.budget}
            spec = oracle(self.env, kwargs) if agent == ORACLE else agent
            found += [RunGroup(self.env, kwargs, spec, seeds) for seeds in sharing]
        return found

    def full(self) -> Setting:
        """The same with the visits of a full run."""
        return Setting(self.env, 1.0, self.env_kwargs, self.data_seeds, self.seeds)

    def configs(self, agent: str) -> list[RunConfig]:
        """The agent's runs, in an order that pairs them with any other agent's."""
        return [config for group in self.groups(agent) for config in group.configs()]


Runs = dict[str, Result]
"""Results by the key of their configuration."""


def play(
    settings: Sequence[Setting],
    agents: Sequence[str],
    out: Path,
    jobs: int,
    together: bool = True,
    data_dir: str | None = None,
    best_epoch: bool = False,
    accept_stale: bool = False,
) -> Runs:
    """Plays every agent in every setting and full data at budget 1; goes on where it stopped.

    With `accept_stale`, what other code or policies made stands.
    """
    groups = all_groups(settings, agents, together)
    return play_groups(groups, out, jobs, data_dir, best_epoch, accept_stale)


def play_groups(
    groups: Sequence[RunGroup],
    out: Path,
    jobs: int,
    data_dir: str | None = None,
    best_epoch: bool = False,
    accept_stale: bool = False,
) -> Runs:
    """Plays groups of runs as `play` does, and nothing besides."""
    outcomes = run_sweep(
        groups,
        dynprune_agents.make,
        out,
        jobs=jobs,
        data_dir=data_dir,
        best_epoch=best_epoch,
        accept_stale=accept_stale,
    )
    for outcome in track(outcomes, "runs", total=len(groups)):
        if outcome.error:
            raise RuntimeError(f"{outcome.group.agent}: {outcome.error}")
    return load_runs(out)


def load_runs(folder: Path) -> Runs:
    """All results in a folder, without their selections, which would fill the memory."""
    found = (replace(result, selections="") for result in load_results([folder]))
    return {result.config.key: result for result in found}


def all_groups(
    settings: Sequence[Setting], agents: Sequence[str], together: bool
) -> list[RunGroup]:
    """What `play` plays, each once."""
    groups: dict[str, RunGroup] = {}
    for setting in settings:
        for agent in agents:
            for group in setting.groups(agent, together):
                groups.setdefault(group.key, group)
        for group in setting.full().groups(REFERENCE, together):
            groups.setdefault(group.key, group)
    return list(groups.values())


def val_accuracies(agent: Agent, settings: Sequence[Setting]) -> np.ndarray:
    """Final val accuracies in percent, (settings, runs), played here and not kept."""
    found = []
    for setting in settings:
        row = []
        for data_seed in setting.data_seeds:
            kwargs = {**setting.env_kwargs, "budget": setting.budget, "data_seed": data_seed}
            results = run_episodes(setting.env, agent, setting.seeds, env_kwargs=kwargs)
            row += [100 * result.history["val_accuracy"][-1] for result in results]
        found.append(row)
    return np.array(found)


def accuracies(runs: Runs, setting: Setting, agent: str, best: bool = False) -> np.ndarray:
    """Test accuracies in percent, one per run, in the order of `Setting.configs`.

    Args:
        runs: the results.
        setting: of which.
        agent: whose.
        best: at the epoch whose val accuracy was best, instead of the last model's.

    Raises:
        ValueError: a result does not say it.
    """
    found = [runs[config.key] for config in setting.configs(agent)]
    if not best:
        return np.array([100 * result.test_accuracy for result in found])
    epochs = [result.best_epoch for result in found]
    if None in epochs:
        raise ValueError(f"a run of {agent}, {setting}, has no best epoch on record")
    return np.array([100 * each.test_accuracy for each in epochs if each is not None])


def spent(runs: Runs, setting: Setting, agent: str) -> float:
    """Mean share of a full run's visits that was truly spent, scoring included."""
    return float(np.mean([1 - runs[config.key].saved for config in setting.configs(agent)]))


def over(runs: Runs, setting: Setting, agent: str) -> bool:
    """Whether an agent spent more than the budget: its scoring runs are charged."""
    return spent(runs, setting, agent) > setting.budget + 0.005


def mean_cells(leads: np.ndarray, errors: float = 1.0) -> str:
    """Cells of a table: the means of leads, (settings, runs) in points, ± standard errors.

    Args:
        leads: of each run.
        errors: how many standard errors; 1.96 for a 95 % interval.
    """
    halves = errors * leads.std(1, ddof=1) / np.sqrt(leads.shape[1])
    return " | ".join(f"{m:+.2f} ± {h:.2f}" for m, h in zip(leads.mean(1), halves, strict=True))


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Mean of the paired difference with its interval, in points; bold if apart from zero."""
    low, high = mean_interval((one - other).tolist())
    text = f"{(one - other).mean():+.2f} ({low:+.2f} to {high:+.2f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def accuracy_table(
    runs: Runs, settings: Sequence[Setting], agents: Sequence[str], best_epoch: bool = False
) -> str:
    """Mean test accuracy of every agent in every setting; best means of a column in bold.

    Args:
        runs: the results.
        settings: the columns.
        agents: the rows; the oracle is none of the best.
        best_epoch: see `accuracies`.
    """
    means = {a: [accuracies(runs, s, a, best_epoch).mean() for s in settings] for a in agents}
    marks = {a: ["†" if over(runs, s, a) else "" for s in settings] for a in agents}
    best = [
        max((means[a][column] for a in agents if not marks[a][column] and a != ORACLE), default=0)
        for column in range(len(settings))
    ]
    lines = ["| agent | " + " | ".join(map(str, settings)) + " |"]
    lines.append("|---|" + "---:|" * len(settings))
    for agent in sorted(agents, key=lambda a: -float(np.mean(means[a]))):
        cells = []
        for column, setting in enumerate(settings):
            low, high = mean_interval(accuracies(runs, setting, agent, best_epoch).tolist())
            text = f"{means[agent][column]:.1f} ± {(high - low) / 2:.1f}"
            won = means[agent][column] == best[column] and agent != ORACLE
            cells.append((f"**{text}**" if won else text) + marks[agent][column])
        lines.append(f"| `{agent}` | " + " | ".join(cells) + " |")
    cells = []
    for setting in settings:
        full = accuracies(runs, setting.full(), REFERENCE, best_epoch)
        low, high = mean_interval(full.tolist())
        cells.append(f"{full.mean():.1f} ± {(high - low) / 2:.1f}")
    lines.append(f"| `{REFERENCE}`, all visits | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def duel_table(
    runs: Runs, settings: Sequence[Setting], learned: str, handwritten: Sequence[str]
) -> str:
    """A learned agent against the best handwritten one of each setting and against full data."""
    lines = [
        f"| setting | `{learned}` | best handwritten | its accuracy | difference "
        "| against full data with all visits | visits spent |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for setting in settings:
        ours = accuracies(runs, setting, learned)
        rivals = [agent for agent in handwritten if not over(runs, setting, agent)]
        rival = max(rivals, key=lambda agent: accuracies(runs, setting, agent).mean())
        theirs = accuracies(runs, setting, rival)
        full = accuracies(runs, setting.full(), REFERENCE)
        lines.append(
            f"| {setting} | {ours.mean():.2f} | `{rival}` | {theirs.mean():.2f} "
            f"| {difference(ours, theirs)} | {difference(ours, full)} "
            f"| {100 * spent(runs, setting, learned):.1f} % |"
        )
    return "\n".join(lines)


def mean_leads(
    runs: Runs, settings: Sequence[Setting], agents: Sequence[str], baseline: str
) -> str:
    """Leads over a baseline: their mean over all settings with its interval, and the lowest.

    The interval is of the mean over settings and runs, which are redrawn within their settings.
    """
    base = [accuracies(runs, setting, baseline) for setting in settings]
    lines = [
        f"| agent | mean lead over `{baseline}`, points | lowest of {len(settings)} settings "
        "| settings above it |",
        "|---|---:|---:|---:|",
    ]
    rows = []
    for agent in agents:
        leads = [
            accuracies(runs, setting, agent) - other
            for setting, other in zip(settings, base, strict=True)
        ]
        means = [float(lead.mean()) for lead in leads]
        low, high = stratified_interval(leads, lambda drawn: drawn.mean(-1))
        text = f"{np.mean(means):+.2f} ({low:+.2f} to {high:+.2f}) | {min(means):+.2f}"
        rows.append((np.mean(means), f"| `{agent}` | {text} | {sum(m > 0 for m in means)} |"))
    return "\n".join([*lines, *(line for _, line in sorted(rows, reverse=True))])


def lead_table(
    runs: Runs, settings: Sequence[Setting], agents: Sequence[str], baseline: str
) -> str:
    """Interquartile means over all settings and runs, with stratified bootstrap intervals.

    Of the accuracy itself, and of its paired difference to a baseline, which does not depend on
    how hard a data set is (Agarwal et al. 2021, arXiv:2108.13264).
    """
    base = [accuracies(runs, setting, baseline) for setting in settings]
    rows = []
    for agent in agents:
        ours = [accuracies(runs, setting, agent) for setting in settings]
        leads = [one - other for one, other in zip(ours, base, strict=True)]
        cells = []
        for strata in (ours, leads):
            low, high = stratified_interval(strata)
            middle = float(interquartile_mean(np.concatenate(strata)))
            cells.append((middle, f"{middle:.2f} ({low:.2f} to {high:.2f})"))
        rows.append((cells[1][0], f"| `{agent}` | {cells[0][1]} | {cells[1][1]} |"))
    lines = [
        f"| agent | interquartile mean of accuracy, % | of the lead over `{baseline}`, points |",
        "|---|---:|---:|",
        *(line for _, line in sorted(rows, reverse=True)),
    ]
    return "\n".join(lines)
