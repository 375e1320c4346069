"""The tables of the long study, and its bars of success: computed, and said as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import dynprune_agents
from benchmarks.learned.tables import REFERENCE, Runs, Setting, accuracies, over
from dynprune_env.report.metrics import Interval, interquartile_mean, stratified_interval

BASELINE = "dynamic_random"
AHEAD, NEAR, SHARE, SMALL_BUDGET = 0.5, 0.3, 0.75, 0.3
"""Points ahead of every rule; points behind the best rule of a setting, in which share of them; and
the budget at which full data are to be beaten."""


@dataclass(frozen=True)
class Column:
    """A setting of the study, and the handwritten rules that played in it."""

    part: str
    setting: Setting
    handwritten: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.part}, {self.setting}"


@dataclass(frozen=True)
class Standing:
    """How an agent did over all settings, as its lead over dynamic random, in points.

    Attributes:
        middle: interquartile mean over settings and seeds.
        interval: its stratified bootstrap interval.
        worst: the lowest mean lead of a setting.
        where: which one that is.
    """

    agent: str
    middle: float
    interval: Interval
    worst: float
    where: str


@dataclass(frozen=True)
class Bar:
    """A bar of success, whether it was reached, and by what numbers."""

    claim: str
    reached: bool
    facts: str

    def __str__(self) -> str:
        return f"- **{'Reached' if self.reached else 'Missed'}**: {self.claim}. {self.facts}"


def standing(runs: Runs, columns: Sequence[Column], agent: str, best: bool = False) -> Standing:
    """How an agent did; `best` as in `accuracies`, for both sides."""
    leads = [
        accuracies(runs, each.setting, agent, best) - accuracies(runs, each.setting, BASELINE, best)
        for each in columns
    ]
    means = [lead.mean() for lead in leads]
    lowest = int(np.argmin(means))
    return Standing(
        agent,
        float(interquartile_mean(np.concatenate(leads))),
        stratified_interval(leads),
        float(means[lowest]),
        str(columns[lowest]),
    )


def everywhere(columns: Sequence[Column]) -> list[str]:
    """The handwritten rules that played in all settings."""
    first = columns[0].handwritten
    return [rule for rule in first if all(rule in each.handwritten for each in columns)]


def standings_table(runs: Runs, columns: Sequence[Column], agents: Sequence[str]) -> str:
    """Each agent's standing with its last model and with that of its best epoch."""
    lines = [
        f"| agent | lead over `{BASELINE}`, last model | worst setting | where "
        "| lead, best epoch | worst setting |",
        "|---|---:|---:|---|---:|---:|",
    ]
    found = [(standing(runs, columns, a), standing(runs, columns, a, True)) for a in agents]
    for last, best in sorted(found, key=lambda each: -each[0].middle):
        lines.append(
            f"| `{last.agent}` | {_with_interval(last)} | {last.worst:+.2f} | {last.where} "
            f"| {_with_interval(best)} | {best.worst:+.2f} |"
        )
    return "\n".join(lines)


def _with_interval(found: Standing) -> str:
    low, high = found.interval
    return f"{found.middle:+.2f} ({low:+.2f} to {high:+.2f})"


def bars(runs: Runs, columns: Sequence[Column], learned: Sequence[str]) -> tuple[str, list[Bar]]:
    """The best learned policy by interquartile mean, and how it stands against each bar."""
    own = max((standing(runs, columns, each) for each in learned), key=lambda each: each.middle)
    rules = [standing(runs, columns, rule) for rule in everywhere(columns)]
    return own.agent, [
        _ahead(own, rules),
        _near(runs, columns, own.agent),
        _above_stopped(runs, columns, own.agent),
        _worst_case(own, rules),
    ]


def _ahead(own: Standing, rules: Sequence[Standing]) -> Bar:
    rival = max(rules, key=lambda each: each.middle)
    ends = max(rules, key=lambda each: each.interval[1])
    reached = own.middle >= rival.middle + AHEAD and own.interval[0] > ends.interval[1]
    return Bar(
        f"in interquartile mean at least {AHEAD} points above every handwritten rule, with "
        "intervals apart",
        reached,
        f"{_with_interval(own)}; the best rule, `{rival.agent}`, has {_with_interval(rival)}.",
    )


def _near(runs: Runs, columns: Sequence[Column], agent: str) -> Bar:
    found = []
    for each in columns:
        setting = each.setting
        rivals = {
            rule: accuracies(runs, setting, rule).mean()
            for rule in each.handwritten
            if not over(runs, setting, rule)
        }
        rival = max(rivals, key=rivals.__getitem__)
        behind = accuracies(runs, setting, agent).mean() - rivals[rival]
        found.append((behind, f"{each}: {behind:+.2f} against `{rival}`"))
    misses = [text for behind, text in found if behind < -NEAR]
    held = len(found) - len(misses)
    return Bar(
        f"at or above the best handwritten rule of each setting minus {NEAR} in at least "
        f"{100 * SHARE:.0f} % of the settings",
        held >= SHARE * len(found),
        f"In {held} of {len(found)}{_listed(misses)}",
    )


def _above_stopped(runs: Runs, columns: Sequence[Column], agent: str) -> Bar:
    found = []
    for each in columns:
        setting = each.setting
        if setting.budget == SMALL_BUDGET and setting.env_kwargs.get("label_noise"):
            stopped = accuracies(runs, setting.full(), REFERENCE, best=True).mean()
            lead = accuracies(runs, setting, agent).mean() - stopped
            found.append((lead, f"{each}: {lead:+.2f}"))
    misses = [text for lead, text in found if lead <= 0]
    held = "; ".join(text for lead, text in found if lead > 0) or "nowhere"
    return Bar(
        "its last model above full data with all visits, stopped at the best val epoch, in every "
        f"noisy setting at {100 * SMALL_BUDGET:g} % of the visits",
        bool(found) and not misses,
        f"Above in {held}{_listed(misses)}",
    )


def _worst_case(own: Standing, rules: Sequence[Standing]) -> Bar:
    others = sorted((each for each in rules if each.agent != BASELINE), key=lambda each: each.worst)
    classes = dynprune_agents.classes()
    selecting = [each for each in others if classes[each.agent.split("(")[0]] != "baseline"]
    named = dict.fromkeys([*others[-1:], *selecting[-1:]])  # the best of all, and of those
    told = [f"`{each.agent}` has {each.worst:+.2f} ({each.where})" for each in named]
    return Bar(
        f"its lowest lead over `{BASELINE}` better than that of every handwritten rule",
        own.worst > others[-1].worst,
        f"{own.worst:+.2f} ({own.where}); {', of the rules that select '.join(told)}.",
    )


def _listed(misses: Sequence[str]) -> str:
    return f"; missed in {'; '.join(misses)}." if misses else "."
