"""Plays agents in many settings and tables them: means, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import dynprune_agents
from dynprune_env import Result
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import RunConfig, load_results
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.report.metrics import interquartile_mean, mean_interval, stratified_interval

REFERENCE = "full_data"


@dataclass(frozen=True)
class Setting:
    """One column of a table: an environment, a budget, a corruption, and the runs made of it."""

    env: str
    budget: float
    env_kwargs: dict[str, Any]
    data_seeds: tuple[int, ...]
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        noise = self.env_kwargs.get("label_noise", 0)
        return f"{100 * noise:.0f} % noise, budget {100 * self.budget:g} %"

    def groups(self, agent: str, together: bool = True) -> list[RunGroup]:
        """The agent's runs: the seeds of one data seed side by side, or each alone."""
        sharing = [self.seeds] if together else [(seed,) for seed in self.seeds]
        return [
            RunGroup(
                self.env,
                {**self.env_kwargs, "data_seed": data_seed, "budget": self.budget},
                agent,
                seeds,
            )
            for data_seed in self.data_seeds
            for seeds in sharing
        ]

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
) -> Runs:
    """Plays every agent in every setting and full data at budget 1; goes on where it stopped."""
    groups: dict[str, RunGroup] = {}
    for setting in settings:
        for agent in agents:
            for group in setting.groups(agent, together):
                groups.setdefault(repr(group), group)
        for group in setting.full().groups(REFERENCE, together):
            groups.setdefault(repr(group), group)
    outcomes = run_sweep(
        list(groups.values()), dynprune_agents.make, out, jobs=jobs, data_dir=data_dir
    )
    for outcome in track(outcomes, "runs", total=len(groups)):
        if outcome.error:
            raise RuntimeError(f"{outcome.group.agent}: {outcome.error}")
    return {result.config.key: result for result in load_results([out])}


def accuracies(runs: Runs, setting: Setting, agent: str) -> np.ndarray:
    """Final test accuracies in percent, one per run, in the order of `Setting.configs`."""
    return np.array([100 * runs[c.key].test_accuracy for c in setting.configs(agent)])


def spent(runs: Runs, setting: Setting, agent: str) -> float:
    """Mean share of a full run's visits that was truly spent, scoring included."""
    return float(np.mean([1 - runs[config.key].saved for config in setting.configs(agent)]))


def over(runs: Runs, setting: Setting, agent: str) -> bool:
    """Whether an agent spent more than the budget: its scoring runs are charged."""
    return spent(runs, setting, agent) > setting.budget + 0.005


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Mean of the paired difference with its interval, in points; bold if apart from zero."""
    low, high = mean_interval((one - other).tolist())
    text = f"{(one - other).mean():+.2f} ({low:+.2f} to {high:+.2f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def accuracy_table(runs: Runs, settings: Sequence[Setting], agents: Sequence[str]) -> str:
    """Mean test accuracy of every agent in every setting; best means of a column in bold."""
    means = {a: [accuracies(runs, s, a).mean() for s in settings] for a in agents}
    marks = {a: ["†" if over(runs, s, a) else "" for s in settings] for a in agents}
    best = [
        max(means[a][column] for a in agents if not marks[a][column])
        for column in range(len(settings))
    ]
    lines = ["| agent | " + " | ".join(map(str, settings)) + " |"]
    lines.append("|---|" + "---:|" * len(settings))
    for agent in sorted(agents, key=lambda a: -float(np.mean(means[a]))):
        cells = []
        for column, setting in enumerate(settings):
            low, high = mean_interval(accuracies(runs, setting, agent).tolist())
            text = f"{means[agent][column]:.1f} ± {(high - low) / 2:.1f}"
            won = means[agent][column] == best[column]
            cells.append((f"**{text}**" if won else text) + marks[agent][column])
        lines.append(f"| `{agent}` | " + " | ".join(cells) + " |")
    cells = []
    for setting in settings:
        full = accuracies(runs, setting.full(), REFERENCE)
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
