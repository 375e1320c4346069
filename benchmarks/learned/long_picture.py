"""The picture of the long study: test accuracy against wrong labels, data set by data set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
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
POLICIES = (LINES[0], "#882255", LINES[2], LINES[1], "#332288")
"""Colours of the learned policies, in their order."""
ACROSS = 3
"""Panels in a row."""
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
        for policy, colour in zip(learned, cycle(POLICIES), strict=False)
    ]
    return found


def draw(runs: Runs, columns: Sequence[Column], learned: Sequence[str], path: Path) -> None:
    """Draws the settings with wrong labels, and those without beside them, into a PNG file.

    Those of the smallest budget: one panel a data set, and the legend in the last place.
    """
    noisy = [each for each in columns if "label_noise" in each.setting.env_kwargs]
    budget = min(each.setting.budget for each in noisy)
    parts = list(dict.fromkeys(each.part for each in noisy if each.setting.budget == budget))
    rows = -(-(len(parts) + 1) // ACROSS)
    figure = new_figure(0.4 + 2.6 * rows)
    panels = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for axes, part in zip(panels, parts, strict=False):
        own = [c.setting for c in noisy if c.part == part and c.setting.budget == budget]
        _panel(axes, runs, sorted(own, key=_noise), learned)
        set_title(axes, f"{part}, {100 * budget:g} % of the visits")
        axes.set_ylim(bottom=max(axes.get_ylim()[0], _lowest(runs, own, learned) - ROOM))
        axes.set_xlabel("labels redrawn, %", fontsize=9)
    for axes in panels[::ACROSS]:
        axes.set_ylabel("test accuracy, %", fontsize=9)
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, labels, loc="center", fontsize=8, frameon=False)
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
    places = [100 * _noise(setting) for setting in settings]
    for agent, all_visits, best, label, look in lines(learned):
        scores = [_scores(runs, setting, agent, all_visits, best) for setting in settings]
        means = np.array([each.mean() for each in scores])
        ends = np.array([mean_interval(each.tolist()) for each in scores]).T
        axes.errorbar(
            places, means, np.abs(ends - means), label=label, markersize=4, capsize=2, **look
        )
    axes.set_xticks(places)
