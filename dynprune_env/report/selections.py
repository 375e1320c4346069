"""What was kept when: what the selections of finished runs say."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.benchmark.recording import unpack
from dynprune_env.benchmark.results import Result
from dynprune_env.common.files import atomic_write
from dynprune_env.report.summary import COLOURS, MARKERS
from dynprune_env.report.tables import Grid

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class KeptWhen:
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


def kept_when(result: Result) -> KeptWhen:
    """Analyses the selections of one finished run."""
    masks = unpack(result.selections, len(result.history["kept"]), result.num_samples)
    selections = masks[masks.any(1)]
    times = selections.sum(0)
    always = float((times == len(selections)).mean()) if len(selections) else 0.0
    never = float((times == 0).mean())
    both = (masks[1:] & masks[:-1]).sum(1)
    either = (masks[1:] | masks[:-1]).sum(1)
    return KeptWhen(
        always=always,
        sometimes=float(((times > 0) & (times < len(selections))).mean()),
        never=never,
        turnover=1 - np.where(either > 0, both / np.maximum(either, 1), 1),
        drift=np.array(result.history["drift"]),
        corrupted=np.array(result.history["corrupted"]),
        duplicates=np.array(result.history["duplicates"]),
    )


@dataclass(frozen=True)
class KeptRow:
    """`KeptWhen` averaged over the seeds of one (env, variant, agent, budget).

    Curves are means over the seeds that had such an epoch, (epochs,) each.
    """

    env: str
    variant: str
    agent: str
    budget: float
    seeds: int
    mean: KeptWhen


def summarize_kept(results: Iterable[Result]) -> list[KeptRow]:
    """One row per group of seeds, sorted by env, variant, budget and agent.

    Raises:
        ValueError: there are no results.
    """
    groups: defaultdict[tuple[str, str, float, str], list[KeptWhen]] = defaultdict(list)
    for result in results:
        config = result.config
        groups[config.env, config.variant, config.budget, config.agent].append(kept_when(result))
    if not groups:
        raise ValueError("there are no results to analyse")
    rows = []
    for (env, variant, budget, agent), runs in sorted(groups.items()):
        values = {
            field.name: _mean_curve([np.atleast_1d(getattr(run, field.name)) for run in runs])
            for field in fields(KeptWhen)
        }
        shares = {name: float(values[name][0]) for name in ("always", "sometimes", "never")}
        mean = KeptWhen(**(values | shares))  # type: ignore[arg-type]
        rows.append(KeptRow(env, variant, agent, budget, len(runs), mean))
    return rows


def _mean_curve(curves: list[np.ndarray]) -> np.ndarray:
    """Mean of curves of unequal length, over those that reach so far."""
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    return np.nanmean(table, axis=0)


def kept_tables(rows: Iterable[KeptRow]) -> list[Grid]:
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


def plot_kept(rows: Sequence[KeptRow], path: Path) -> None:
    """Writes a PNG, one line of panels per (env, variant, budget).

    The panels: how many samples were kept always, sometimes and never; turnover; drift of the
    losses; and, where labels were redrawn or samples repeated, their share among the kept.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    agents = sorted({row.agent for row in rows if row.budget < 1})
    if not agents:
        raise ValueError("all of these runs have budget 1: they kept everything")
    styles: dict[str, dict[str, Any]] = {
        agent: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, agent in enumerate(agents)
    }
    groups: defaultdict[tuple[str, str, float], list[KeptRow]] = defaultdict(list)
    for row in rows:
        if row.budget < 1:  # where everything is kept there is nothing to see
            groups[row.env, row.variant, row.budget].append(row)
    curves = [
        ("turnover", "turnover of the selection"),
        ("drift", "drift of the losses"),
        ("corrupted", "wrong labels among the kept"),
        ("duplicates", "repeats among the kept"),
    ]
    curves = curves[:2] + [c for c in curves[2:] if any(getattr(r.mean, c[0]).any() for r in rows)]
    height = max(3.2, 0.22 * len(agents) + 1.4)
    figure = Figure((7.5 + 3.2 * len(curves), height * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(groups), 1 + len(curves), squeeze=False)
    for ((env, variant, budget), group), (shares, *axes) in zip(groups.items(), grid, strict=True):
        left = np.zeros(len(group))
        for name, colour in (("always", "#0072B2"), ("sometimes", "#56B4E9"), ("never", "#E6E9ED")):
            width = np.array([100 * getattr(row.mean, name) for row in group])
            names = [row.agent.replace("(", "\n(", 1) for row in group]
            shares.barh(names, width, left=left, color=colour, label=name)
            left += width
        shares.set(xlim=(0, 100), xlabel="% of the samples")
        shares.invert_yaxis()
        shares.tick_params(axis="y", labelsize=8)
        shares.legend(ncols=3, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        title = f"{env} {variant}".strip() + f", budget {100 * budget:g} %"
        shares.set_title(title, fontsize=10, pad=24, loc="left")
        for panel, (name, label) in zip(axes, curves, strict=True):
            for row in group:
                curve = 100 * getattr(row.mean, name)
                epochs = np.arange(len(curve)) + (2 if name == "turnover" else 1)
                panel.plot(epochs, curve, markersize=3, linewidth=1, **styles[row.agent])
            panel.set(xlabel="epoch", ylabel="%", ylim=(-2, 102 if name == "turnover" else None))
            panel.set_title(label, fontsize=10)
            panel.grid(color="0.92", linewidth=0.6)
    handles = [Line2D([], [], label=agent, markersize=4, **styles[agent]) for agent in agents]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    with atomic_write(path) as temporary:
        temporary.write_bytes(image.getvalue())
