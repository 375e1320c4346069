"""The picture of the long study: test accuracy against wrong labels, per data set and budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learned.long_tables import Column
from benchmarks.learned.tables import ORACLE, REFERENCE, Runs, Setting, accuracies
from dynprune_env.common.palette import INK, LINES, MUTED
from dynprune_env.report.metrics import mean_interval
from dynprune_env.report.styles import clean, new_figure, set_title

BANDITS = {"epsilon_greedy": LINES[3], "ucb": LINES[4]}
RULES = {"dynamic_random": LINES[5], **BANDITS}
"""Dynamic random and the bandits of the paper, with their colours."""
POLICIES = (LINES[0], LINES[2], LINES[1], "#332288")
"""Colours of the learned policies, in their order."""
ROOM = 10.0
"""Points below all others down to which the bandits are drawn: where they collapse, they leave."""


def lines(learned: Sequence[str]) -> list[tuple[str, bool, bool, str, dict[str, Any]]]:
    """What is drawn: agent, with all visits, at its best epoch, label, look."""
    full = {"color": INK, "marker": "s"}
    found: list[tuple[str, bool, bool, str, dict[str, Any]]] = [
        (REFERENCE, True, False, "full data, all visits, last model", {**full, "linestyle": "--"}),
        (REFERENCE, True, True, "full data, all visits, best epoch", {**full, "linestyle": ":"}),
        (ORACLE, False, False, "oracle", {"color": MUTED, "linestyle": "-.", "marker": "^"}),
    ]
    found += [(rule, False, False, rule, {"color": c, "marker": "o"}) for rule, c in RULES.items()]
    found += [
        (policy, False, False, policy, {"color": colour, "marker": "D", "linewidth": 1.8})
        for policy, colour in zip(learned, POLICIES, strict=False)
    ]
    return found


def draw(runs: Runs, columns: Sequence[Column], learned: Sequence[str], path: Path) -> None:
    """Draws the settings with wrong labels, and those without beside them, into a PNG file."""
    noisy = [each for each in columns if "label_noise" in each.setting.env_kwargs]
    parts = list(dict.fromkeys(each.part for each in noisy))
    budgets = sorted({each.setting.budget for each in noisy})
    figure = new_figure(1 + 2.4 * len(parts))
    grid = figure.subplots(len(parts), len(budgets), squeeze=False, sharex=True, sharey="row")
    for panels, part in zip(grid, parts, strict=True):
        for axes, budget in zip(panels, budgets, strict=True):
            own = [c.setting for c in noisy if c.part == part and c.setting.budget == budget]
            _panel(axes, runs, sorted(own, key=_noise), learned)
            set_title(axes, f"{part}, {100 * budget:g} % of the visits")
        own = [each.setting for each in noisy if each.part == part]
        panels[0].set_ylim(bottom=max(panels[0].get_ylim()[0], _lowest(runs, own, learned) - ROOM))
        panels[0].set_ylabel("test accuracy, %", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("labels redrawn, %", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _noise(setting: Setting) -> float:
    return float(setting.env_kwargs["label_noise"])


def _scores(runs: Runs, setting: Setting, agent: str, all_visits: bool, best: bool) -> np.ndarray:
    return accuracies(runs, setting.full() if all_visits else setting, agent, best)


def _lowest(runs: Runs, settings: Sequence[Setting], learned: Sequence[str]) -> float:
    """The lowest mean of a line other than the bandits'."""
    return min(
        float(_scores(runs, setting, agent, all_visits, best).mean())
        for setting in settings
        for agent, all_visits, best, *_ in lines(learned)
        if agent not in BANDITS
    )


def _panel(axes: Any, runs: Runs, settings: Sequence[Setting], learned: Sequence[str]) -> None:
    """Draws every line in one panel, with the intervals of its means."""
    clean(axes)
    if not settings:
        axes.set_visible(False)
        return
    places = [100 * _noise(setting) for setting in settings]
    for agent, all_visits, best, label, look in lines(learned):
        scores = [_scores(runs, setting, agent, all_visits, best) for setting in settings]
        means = np.array([each.mean() for each in scores])
        ends = np.array([mean_interval(each.tolist()) for each in scores]).T
        axes.errorbar(
            places, means, np.abs(ends - means), label=label, markersize=4, capsize=2, **look
        )
    axes.set_xticks(places)
