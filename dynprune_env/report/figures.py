"""Every figure of the report: a function that returns a matplotlib `Figure`, and how to save it."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.files import atomic_write
from dynprune_env.common.palette import BLUE, INK, KEPT, MUTED, SKY
from dynprune_env.report import edges
from dynprune_env.report.metrics import mean_band
from dynprune_env.report.selections import SelectionRow
from dynprune_env.report.styles import (
    DASHED,
    GREY,
    HOLLOW,
    WIDTH,
    Style,
    add_legend,
    clean,
    lay_out,
    new_figure,
    number_log_axis,
    set_title,
)
from dynprune_env.report.summary import (
    BASELINES,
    REFERENCE,
    OverTasks,
    Row,
    by_seed,
    is_reference,
    of_one_machine,
    panels_of,
    seeds_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VISITS = "visits spent, scoring included (% of a full run)"


def _title(env: str, variant: str, width: int = 60) -> str:
    return "\n".join([env, *textwrap.wrap(variant, width)])


def draw_accuracy(rows: Sequence[Row], styles: dict[str, Style], on_page: bool = False) -> Figure:
    """Test accuracy against visits truly spent, a panel per (env, variant).

    Args:
        rows: at least one.
        styles: what `choose_styles` gives; the agents without one are grey lines. They decide a
            panel's limits, without what spent over 100 % or collapsed: that is marked at the edge.
        on_page: with a panel against seconds beside it, and without what a page says around it:
            the names of the panels, and how many seeds there are.

    Raises:
        ValueError: there are no rows.
    """
    panels = panels_of(rows)
    columns = 2 if on_page or len(panels) > 1 else 1
    lines = len(panels) if on_page else -(-len(panels) // columns)
    figure = new_figure(3.3 * lines + 1, WIDTH if columns > 1 else 0.65 * WIDTH)
    grid = figure.subplots(lines, columns, squeeze=False, sharey="row" if on_page else False)
    free = list(grid.flat)
    marked = False
    for (env, variant), panel in panels.items():
        axes = free.pop(0)
        limit = _draw_panel(axes, panel, styles, seconds=False)
        marked |= edges.mark_outside(axes)
        shifted = f"\nagents are shifted sideways by up to ±{limit:.1f} points" if limit else ""
        axes.set_xlabel(VISITS + shifted, fontsize=9)
        axes.set_ylabel("test accuracy (%)", fontsize=9)
        set_title(axes, "" if on_page else _title(env, variant), 10)
        if on_page:
            axes = free.pop(0)
            compared = of_one_machine(panel)
            _draw_panel(axes, compared, styles, seconds=True)
            marked |= edges.mark_outside(axes)
            left_out = "" if len(compared) == len(panel) else "\nwithout those of other machines"
            axes.set_xlabel(f"seconds a run took, scoring included{left_out}", fontsize=9)
            set_title(axes, "")
    for axes in free:
        axes.remove()
    title = f"mean over {seeds_of(rows)}, 95 % bootstrap interval"
    if max(row.seeds for row in rows) == 1:
        title = "one seed, hence no interval"
    shown = {row.agent for row in rows if not is_reference(row)}
    styles = {agent: style for agent, style in styles.items() if agent in shown}
    add_legend(figure, styles, _other_handles(rows, styles, marked), None if on_page else title)
    return figure


def _other_handles(rows: Sequence[Row], styles: dict[str, Style], marked: bool) -> list[Any]:
    """Of what is drawn besides the agents that have a style."""
    from matplotlib.lines import Line2D

    handles = []
    if any(map(is_reference, rows)):
        handles.append(Line2D([], [], label=f"{REFERENCE}, budget 100 %", **DASHED))
    if marked:
        handles.append(Line2D([], [], label="outside the panel", **edges.EDGE, marker=">"))
    rest = {row.agent for row in rows if not is_reference(row)} - set(styles)
    if rest:
        handles.append(Line2D([], [], label=f"{len(rest)} other agents", **GREY))
    if any(row.diverged for row in rows if row.agent in styles and not is_reference(row)):
        look = {"color": INK, "marker": "o", "markersize": 5, **HOLLOW}
        handles.append(Line2D([], [], label="hollow: a seed diverged", **look))
    return handles


def _draw_panel(axes: Axes, rows: Sequence[Row], styles: dict[str, Style], seconds: bool) -> float:
    """Draws one (env, variant), and returns by how many points agents are shifted at most."""
    shown = [row for row in rows if row.agent in styles and not is_reference(row)]
    shares = [100 * row.share for row in shown] or [100.0]
    shares = edges.at_most_a_full_run(shares)
    names = [agent for agent in styles if any(row.agent == agent for row in shown)]
    span = max(max(shares) - min(shares), 20)
    # A constant sideways shift per agent keeps the intervals of agents at one share apart.
    step = 0.0 if seconds else min(0.012 * span, min(0.1 * span, 4) / max(len(names), 1))
    limit = step * max(len(names) - 1, 0) / 2
    for row in filter(is_reference, rows):
        axes.axhspan(100 * row.low, 100 * row.high, color="black", alpha=0.08, linewidth=0)
        axes.axhline(100 * row.accuracy, **DASHED)
    lines: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not is_reference(row):
            lines[row.agent].append(row)
    rest_x: list[float] = []
    rest_y: list[float] = []
    for agent, line in lines.items():
        shift = step * names.index(agent) - limit if agent in styles else 0.0
        places = [row.seconds if seconds else 100 * row.share + shift for row in line]
        order = np.argsort(places, kind="stable")
        x, points = [places[i] for i in order], [line[i] for i in order]
        if agent in styles:
            _draw_line(axes, x, points, styles[agent])
        else:  # all in one, which is much faster; where one ends, nothing is drawn
            rest_x += [*x, math.nan]
            rest_y += [*(100 * row.accuracy for row in points), math.nan]
    if rest_x:  # with markers, as there may be one point only
        axes.plot(rest_x, rest_y, marker=".", markersize=4, **GREY)
    if seconds:
        taken = [row.seconds for row in rows if row.seconds > 0]
        if taken and max(taken) > 10 * min(taken):
            axes.set_xscale("log")
            number_log_axis(axes.xaxis, max(taken) / min(taken))
    elif shown:  # what is singled out fills the panel; a grey line may leave it
        centre, half = (min(shares) + max(shares)) / 2, 0.55 * span + limit
        axes.set_xlim(centre - half, centre + half)
    low = 100 * min(row.low for row in shown or rows)
    base = [100 * row.accuracy for row in shown if row.agent in BASELINES]
    low = max(low, min(base) - edges.COLLAPSED) if base else low
    high = 100 * max(row.high for row in rows)
    room = 0.05 * (high - low) + 0.1
    axes.set_ylim(low - room, high + room)
    clean(axes)
    return limit


def _draw_line(axes: Axes, x: list[float], line: Sequence[Row], style: Style) -> None:
    """Draws one agent that has a style."""
    y = [100 * row.accuracy for row in line]
    # Clipped, since rounding may put the mean of nearly equal values outside their interval.
    below = [100 * max(row.accuracy - row.low, 0) for row in line]
    above = [100 * max(row.high - row.accuracy, 0) for row in line]
    axes.errorbar(x, y, yerr=[below, above], linewidth=1.2, elinewidth=1, **style)
    hollow = [place for place, row in enumerate(line) if row.diverged]
    if hollow:
        axes.plot(x, y, markevery=hollow, **{**style, **HOLLOW})


def draw_curves(runs: Iterable[FinishedRun], styles: dict[str, Style]) -> Figure:
    """Val accuracy against visits spent, one panel per budget; means with 95 % intervals.

    Args:
        runs: of one (env, variant); those of agents without a style, at budget 1, or that had
            diverged before their first epoch are left out.
        styles: what `choose_styles` gives.

    Raises:
        ValueError: none is left.
    """
    found: defaultdict[float, defaultdict[str, list[FinishedRun]]]
    found = defaultdict(lambda: defaultdict(list))
    for run in runs:
        drawn = run.config.agent in styles and run.config.budget < 1
        if drawn and len(run.history.get("spent", ())):
            found[run.config.budget][run.config.agent].append(run)
    if not found:
        raise ValueError("none of these runs has a curve")
    columns = len(found) if len(found) < 4 else 2
    lines = -(-len(found) // columns)
    figure = new_figure(3.3 * lines + 0.7)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    marked = False
    for (budget, agents), axes in zip(sorted(found.items()), grid, strict=False):
        late = []
        for agent in (agent for agent in styles if agent in agents):
            x, middle, low, high = _mean_curve(by_seed(agents[agent]))
            style = {**styles[agent], "markersize": 4}
            axes.plot(x, middle, linewidth=1.2, markevery=max(1, len(x) // 6), **style)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
            late.append((low[len(low) // 4 :].min(), high.max()))
        bottom, top = min(low for low, _ in late), max(high for _, high in late)
        axes.set_ylim(bottom - 0.05 * (top - bottom) - 0.1, top + 0.08 * (top - bottom) + 0.1)
        marked |= edges.mark_costly_ends(axes)
        set_title(axes, f"budget {100 * budget:g} %")
        axes.set_xlabel("visits spent, scoring included (% of a full run)", fontsize=9)
        axes.set_ylabel("val accuracy (%)", fontsize=9)
        clean(axes)
    for axes in grid:  # what zip left over
        axes.remove()
    add_legend(figure, styles, _other_handles([], styles, marked))
    return figure


def _mean_curve(
    runs: Sequence[FinishedRun],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Visits in percent of a full run, mean val accuracy in percent, and its interval's ends."""
    curves = []
    for run in runs:
        before = run.preparation / (run.epochs * run.num_samples)
        spent = run.config.budget * np.array(run.history["spent"]) + before
        curves.append((100 * spent, 100 * np.array(run.history["val_accuracy"])))
    if len({len(x) for x, _ in curves}) == 1:
        places = np.mean([x for x, _ in curves], axis=0)
        values = np.array([y for _, y in curves])
    else:  # runs of unequal length: between their epochs
        first, last = fmean(x[0] for x, _ in curves), fmean(x[-1] for x, _ in curves)
        places = np.linspace(first, last, 60)
        values = np.array([np.interp(places, x, y) for x, y in curves])
    low, high = mean_band(values)
    return places, values.mean(0), low, high


def draw_overall(over: OverTasks) -> Figure:
    """Interquartile means, probabilities of improvement and mean ranks of all agents."""
    figure = new_figure(0.21 * len(over.rows) + 1.1)
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(5, 5, 3))
    places = np.arange(len(over.rows))
    for axes, values, ends, label in (
        (
            panels[0],
            [row.iqm for row in over.rows],
            [(row.low, row.high) for row in over.rows],
            "interquartile mean of test accuracy (%)",
        ),
        (
            panels[1],
            [row.improvement for row in over.rows],
            [(row.improvement_low, row.improvement_high) for row in over.rows],
            f"chance to beat a run of {over.baseline} (%)",
        ),
    ):
        colours = [MUTED if row.agent == over.baseline else BLUE for row in over.rows]
        axes.hlines(places, *(100 * np.array(ends).T), colors=colours, linewidth=4, alpha=0.35)
        axes.scatter(100 * np.array(values), places, c=colours, s=18, zorder=3)
        axes.set_xlabel(label, fontsize=9)
    base = next(row for row in over.rows if row.agent == over.baseline)
    # Agents that collapsed become arrows at the edge.
    floor = max(min(row.low for row in over.rows), base.iqm - edges.COLLAPSED / 100)
    right = max(row.high for row in over.rows)
    margin = max(0.04 * (right - floor), 1e-3)
    panels[0].set_xlim(100 * (floor - margin), 100 * (right + margin))
    beyond = [place for place, row in enumerate(over.rows) if row.iqm < floor]
    panels[0].plot(
        [100 * (floor - margin / 2)] * len(beyond), beyond, "<", color=BLUE, markersize=5
    )
    panels[0].axvline(100 * base.iqm, **DASHED)
    panels[1].axvline(50, **DASHED)
    panels[2].barh(places, [row.rank for row in over.rows], height=0.6, color=SKY)
    panels[2].set_xlabel("mean rank over tasks", fontsize=9)
    panels[0].set_yticks(places, [row.agent for row in over.rows])
    panels[0].set_ylim(len(over.rows) - 0.4, -0.6)
    for axes in panels:
        set_title(axes, "")
        clean(axes)
    return figure


def draw_selections(
    rows: Sequence[SelectionRow], styles: dict[str, Style], on_page: bool = False
) -> Figure:
    """What was kept when, one line of panels per (env, variant, budget) below 1.

    The panels: how many samples were kept always, sometimes and never; turnover; drift of the
    losses; and, where labels were redrawn or samples repeated, their share among the kept.

    Args:
        rows: what `summarize_selections` gives.
        styles: what `choose_styles` gives; the agents without one are bars, and grey lines.
        on_page: without the names of environment and variant, which a page says above it.

    Raises:
        ValueError: all rows are at budget 1, where everything is kept.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    groups: defaultdict[tuple[str, str, float], list[SelectionRow]] = defaultdict(list)
    for row in rows:
        if row.budget < 1:
            groups[row.env, row.variant, row.budget].append(row)
    if not groups:
        raise ValueError("all of these runs have budget 1: they kept everything")
    curves = [("turnover", "turnover of the selection"), ("drift", "drift of the losses")]
    for name, label in (("corrupted", "wrong among the kept"), ("duplicates", "repeats, of kept")):
        if any(getattr(row.mean, name).any() for row in rows):
            curves.append((name, label))
    height = max(2.1, 0.2 * max(map(len, groups.values())) + 0.8)
    figure = new_figure((height + (0 if on_page else 0.2)) * len(groups) + 0.8)
    widths = (1.1,) + (1,) * len(curves)
    grid = figure.subplots(len(groups), 1 + len(curves), squeeze=False, width_ratios=widths)
    ranks = {agent: place for place, agent in enumerate(styles)}
    for ((env, variant, budget), group), (bars, *panels) in zip(
        sorted(groups.items()), grid, strict=True
    ):
        group.sort(key=lambda row: (ranks.get(row.agent, len(ranks)), row.agent))
        _draw_shares(bars, group)
        title = f"budget {100 * budget:g} %"
        title = title if on_page else f"{_title(env, variant, 40)}\n{title}"
        set_title(bars, title)
        for axes, (name, label) in zip(panels, curves, strict=True):
            for row in group:
                values = 100 * getattr(row.mean, name)
                epochs = np.arange(len(values)) + (2 if name == "turnover" else 1)
                style = styles.get(row.agent)
                look = {**style, "linewidth": 1, "markersize": 3} if style else GREY
                axes.plot(epochs, values, **look)
            set_title(axes, f"{label} (%)")
            axes.set_xlabel("epoch", fontsize=9)
            axes.xaxis.get_major_locator().set_params(integer=True)
            clean(axes)
    extra: list[Any] = [Patch(color=c, label=f"kept {name}") for name, c in KEPT.items()]
    shown = {row.agent for group in groups.values() for row in group}
    rest = shown - set(styles)
    if rest:
        extra.append(Line2D([], [], label=f"{len(rest)} other agents", **GREY))
    add_legend(figure, {a: style for a, style in styles.items() if a in shown}, extra)
    return figure


def _draw_shares(bars: Axes, group: Sequence[SelectionRow]) -> None:
    """Draws how many samples each agent kept always, sometimes and never."""
    names = [row.agent.replace("(", "\n(", 1) for row in group]
    left = np.zeros(len(group))
    for name, colour in KEPT.items():
        width = np.array([100 * getattr(row.mean, name) for row in group])
        bars.barh(names, width, left=left, color=colour)
        left += width
    bars.set_xlim(0, 100)
    bars.set_ylim(len(group) - 0.4, -0.6)
    bars.set_xlabel("% of the samples", fontsize=9)
    clean(bars)
    bars.tick_params(axis="y", labelsize=7)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure, whole or not at all, as its suffix says: .png, .svg or .pdf.

    Raises:
        ValueError: matplotlib does not write such files.
    """
    kind = path.suffix[1:]
    with atomic_write(path) as temporary:
        lay_out(figure, kind, 150)
        figure.savefig(temporary, format=kind, dpi=150)


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element; `name` makes its ids unique on a page."""
    import matplotlib

    file = io.StringIO()
    fonts = ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans", "sans-serif"]
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.sans-serif": ["DejaVu Sans"],
    }
    with matplotlib.rc_context(settings):
        lay_out(figure, "svg", 72)
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    # Measured with DejaVu, the widest of these, so that no label outgrows its place.
    text = text.replace("'DejaVu Sans'", ", ".join(f"'{font}'" for font in fonts))
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
