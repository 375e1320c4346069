"""What all figures share: the look of each agent, the frame, and the legend."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.common.palette import INK, LINE, LINES, PALE
from dynprune_env.report.summary import REFERENCE, GroupRow, is_reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

MARKERS = "osD^vPX<>phd"
SINGLED_OUT = 8
"""How many agents a figure can tell apart; the others are grey lines, and rows of the table."""
BEST = 5
"""How many of the best are singled out at least."""
ALWAYS = ("dynamic_random", REFERENCE, "ucb", "epsilon_greedy")
"""Singled out wherever they stand: the two baselines, and the paper's bandits."""
GREY: dict[str, Any] = {"color": LINE, "linewidth": 0.8, "zorder": 1}
DASHED: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1}
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "none", "zorder": 3}
WIDTH = 10.4  # inches, at which nine points are easy to read on a page 1100 pixels wide

Style = dict[str, Any]


def choose_styles(rows: Iterable[GroupRow]) -> dict[str, Style]:
    """Colour, marker and dash of the agents that are singled out, best first.

    They are the best five by the mean of their accuracy over all tasks, the baselines and the
    paper's bandits (as they stand, or with their best setting), and the next best while there is
    room. Full data are black; a second round of the colours is dashed.
    """
    accuracies: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        if not is_reference(row):
            accuracies[row.agent].append(row.accuracy)
    ranked = sorted(accuracies, key=lambda agent: (-fmean(accuracies[agent]), agent))
    first = {agent.partition("(")[0]: agent for agent in reversed(ranked)}
    first |= {agent: agent for agent in ranked}
    chosen = {*ranked[:BEST], *(first[name] for name in ALWAYS if name in first)}
    others = [agent for agent in ranked if agent not in chosen]
    chosen |= set(others[: max(SINGLED_OUT - len(chosen), 0)])
    styles: dict[str, Style] = {}
    for agent in (agent for agent in ranked if agent in chosen):
        style: Style = {"color": "black", "marker": "*", "markersize": 8, "linestyle": ":"}
        if agent != REFERENCE:
            place = len(styles) - (REFERENCE in styles)
            style = {
                "color": LINES[place % len(LINES)],
                "marker": MARKERS[place % len(MARKERS)],
                "markersize": 5,
                "linestyle": "-" if place < len(LINES) else "--",
            }
        styles[agent] = {**style, "markeredgecolor": INK, "markeredgewidth": 0.4}
    return styles


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches, which makes room for all that is drawn."""
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def lay_out(figure: Figure, kind: str, dpi: float) -> None:
    """Makes room once, as for a file of a kind; else matplotlib draws a figure twice to do so."""
    from matplotlib.backend_bases import get_registered_canvas_class

    engine, canvas = figure.get_layout_engine(), get_registered_canvas_class(kind)
    if engine is None or canvas is None:
        return
    canvas(figure)
    figure.set_dpi(dpi)
    # The engine measures twice, since sizes may change which ticks there are; most often not.
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not axis.get_label_text():  # else its place beside the ticks is looked for
                axis.set_label_coords(0, 0)
        axes.get_tightbbox = _measure_ticks_once(axes)  # type: ignore[method-assign]
    engine.execute(figure)
    for axes in figure.axes:
        del axes.get_tightbbox
        # The engine's last bits differ from time to time, and with them the ids in an SVG file.
        left, bottom, width, height = (round(each, 9) for each in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))
    figure.set_layout_engine(None)


def _measure_ticks_once(axes: Axes) -> Callable[..., Bbox | None]:
    """Measures axes with what stands around them, again where other ticks fit beside them."""
    from matplotlib.transforms import Bbox

    measure = axes.get_tightbbox
    known: dict[tuple[float, ...], np.ndarray] = {}

    def size(*args: Any, **options: Any) -> Bbox | None:
        ticks = (*axes.xaxis.get_majorticklocs(), math.inf, *axes.yaxis.get_majorticklocs())
        if ticks not in known:
            box = measure(*args, **options)
            if box is None:
                return None
            known[ticks] = np.array(box.extents) - axes.bbox.extents
        return Bbox.from_extents(*(axes.bbox.extents + known[ticks]).tolist())

    return size


def clean(axes: Axes) -> None:
    """Gives axes a pale grid, small ticks, and no frame at the top and at the right."""
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def number_log_axis(axis: Axis, span: float) -> None:
    """Writes plain numbers at a logarithmic axis, as many as there is room for.

    Args:
        axis: that is logarithmic already.
        span: the largest value over the smallest.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 1000 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def set_title(axes: Axes, text: str, size: float = 9) -> None:
    """Puts a title right above axes; matplotlib would look for ticks in between each time."""
    axes.set_title(text, fontsize=size, y=1)


def add_legend(
    figure: Figure, styles: dict[str, Style], extra: Sequence[Any] = (), title: str | None = None
) -> None:
    """Puts a legend below a figure.

    Args:
        figure: where to.
        styles: of the agents that it names.
        extra: handles of what else it names.
        title: above it.
    """
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=agent, linewidth=1.2, **s) for agent, s in styles.items()]
    handles += extra
    columns = 4 if max((len(agent) for agent in styles), default=0) < 30 else 3
    columns -= figure.get_figwidth() < WIDTH
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        title=title,
        title_fontsize=8,
    )
