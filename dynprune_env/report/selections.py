"""What was kept when: analysis of the selections of finished runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from statistics import fmean

import numpy as np

from dynprune_env.benchmark.analysis import kept_masks
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.report.summary import GroupRow
from dynprune_env.report.tables import Grid


@dataclass(frozen=True)
class SelectionAnalysis:
    """What a finished run's selections say.

    Attributes:
        always: share of the samples trained in every epoch that trained any, in [0, 1].
        sometimes: share trained in some of them (the paper's "sometimes" samples).
        never: share trained in none.
        turnover: (epochs - 1,) one minus the Jaccard index of successive selections, in [0, 1].
        drift: (epochs,) one minus Spearman's correlation of the losses before and after.
        corrupted: (epochs,) share of wrongly labelled samples among the kept, in [0, 1].
        duplicates: (epochs,) share of repeated samples among the kept, in [0, 1].
    """

    always: float
    sometimes: float
    never: float
    turnover: np.ndarray
    drift: np.ndarray
    corrupted: np.ndarray
    duplicates: np.ndarray


def analyse_selections(result: FinishedRun) -> SelectionAnalysis:
    """Analyses the selections of one finished run."""
    history = result.history
    masks = kept_masks(result)
    selections = masks[masks.any(1)]
    times = selections.sum(0)
    always = float((times == len(selections)).mean()) if len(selections) else 0.0
    never = float((times == 0).mean())
    both = (masks[1:] & masks[:-1]).sum(1)
    either = (masks[1:] | masks[:-1]).sum(1)
    return SelectionAnalysis(
        always=always,
        sometimes=float(((times > 0) & (times < len(selections))).mean()),
        never=never,
        turnover=1 - np.where(either > 0, both / np.maximum(either, 1), 1),
        drift=np.array(history["drift"]),
        corrupted=np.array(history["corrupted"]),
        duplicates=np.array(history["duplicates"]),
    )


@dataclass(frozen=True)
class SelectionRow(GroupRow):
    """What the selections of a group of runs say.

    Attributes:
        mean: the analyses' mean; curves over the seeds that had such an epoch, (epochs,) each.
    """

    mean: SelectionAnalysis


def summarize_selections(results: Iterable[FinishedRun]) -> list[SelectionRow]:
    """One row per group of runs that differ in their seed alone, by env, variant, budget, agent.

    Raises:
        ValueError: there are no results.
    """
    groups: defaultdict[tuple[str, str, float, str], list[tuple[float, SelectionAnalysis]]]
    groups = defaultdict(list)
    for result in results:  # one after the other: the selections themselves are large
        config = result.config
        run = result.test_accuracy, analyse_selections(result)
        groups[config.env, config.variant, config.budget, config.agent].append(run)
    if not groups:
        raise ValueError("there are no results to analyse")
    rows = []
    for (env, variant, budget, agent), runs in sorted(groups.items()):
        accuracy = fmean(accuracy for accuracy, _ in runs)
        mean = _mean([analysis for _, analysis in runs])
        rows.append(SelectionRow(env, variant, agent, budget, len(runs), accuracy, mean))
    return rows


def _mean(runs: list[SelectionAnalysis]) -> SelectionAnalysis:
    values = {
        field.name: _mean_curve([np.atleast_1d(getattr(run, field.name)) for run in runs])
        for field in fields(SelectionAnalysis)
    }
    shares = {name: float(values[name][0]) for name in ("always", "sometimes", "never")}
    return SelectionAnalysis(**(values | shares))  # type: ignore[arg-type]


def _mean_curve(curves: list[np.ndarray]) -> np.ndarray:
    """Mean of curves of unequal length, over those that reach so far."""
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    return np.nanmean(table, axis=0)


def selection_tables(rows: Iterable[SelectionRow]) -> list[Grid]:
    """One table per (env, variant), in percent."""
    groups: defaultdict[str, list[list[str]]] = defaultdict(list)
    for row in rows:
        mean = row.mean
        shares = (row.budget, mean.always, mean.sometimes, mean.never)
        curves = (mean.turnover, mean.drift, mean.corrupted, mean.duplicates)
        cells = [f"{100 * share:.0f}" for share in shares]
        cells += [f"{100 * curve.mean():.1f}" if len(curve) else "" for curve in curves]
        groups[f"{row.env} {row.variant}".strip()].append([row.agent, *cells])
    names = ("budget", "always", "some", "never", "turnover", "drift", "wrong", "copies")
    headers = ["agent", *(f"{name}\n%" for name in names)]
    caption = "Means over epochs and seeds; wrong, copies: wrongly labelled or repeated, of kept."
    return [Grid(title, headers, cells, caption) for title, cells in groups.items()]
