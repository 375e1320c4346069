"""The figures of the report's page, as SVG: text stays text, and every agent keeps its look."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.benchmark.results import Result
from dynprune_env.report.overall import BASELINES, OverTasks
from dynprune_env.report.selections import KeptRow
from dynprune_env.report.summary import DASHED, REFERENCE, Row, is_reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colour-blind safe palette without its yellow, which is too pale for lines; black
# is full data's, grey that of agents which are not singled out. A second round is dashed.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vPX<>phd"
SINGLED_OUT = 8
"""How many agents a figure can tell apart; the others are grey lines, and rows of the table."""
GREY: dict[str, Any] = {"color": "0.82", "linewidth": 0.8, "zorder": 1}
WIDTH = 10.4  # inches, at which nine points are easy to read on a page 1100 pixels wide
SHARES = {"always": "#0072B2", "sometimes": "#56B4E9", "never": "#E6E9ED"}

Style = dict[str, Any]


def choose_styles(rows: Iterable[Row]) -> dict[str, Style]:
    """Colour, marker and dash of the agents that are singled out, best first.

    They are the best by the mean of their accuracy over all tasks, and the baselines.
    """
    accuracies: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        if not is_reference(row):
            accuracies[row.agent].append(row.accuracy)
    ranked = sorted(accuracies, key=lambda agent: (-fmean(accuracies[agent]), agent))
    always = [agent for agent in ranked if agent in BASELINES]
    others = [agent for agent in ranked if agent not in BASELINES]
    chosen = set(always) | set(others[: SINGLED_OUT - len(always)])
    styles: dict[str, Style] = {}
    for agent in (agent for agent in ranked if agent in chosen):
        if agent == REFERENCE:
            styles[agent] = {"color": "black", "marker": "*", "markersize": 8, "linestyle": ":"}
            continue
        place = len(styles) - (REFERENCE in styles)
        styles[agent] = {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 5,
            "linestyle": "-" if place < len(COLOURS) else "--",
        }
    return styles


def _figure(height: float) -> Figure:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _clean(axes: Axes) -> None:
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _legend(figure: Figure, styles: dict[str, Style], extra: Sequence[Any] = ()) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=agent, linewidth=1.2, **s) for agent, s in styles.items()]
    handles += extra
    columns = 4 if max((len(agent) for agent in styles), default=0) < 30 else 3
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def draw_accuracy(rows: Sequence[Row], styles: dict[str, Style]) -> Figure:
    """Test accuracy against visits truly spent and against seconds, of one (env, variant)."""
    from matplotlib.lines import Line2D

    figure = _figure(4.3)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, place, label in (
        (left, _share, "visits spent, scoring included (% of a full run)"),
        (right, _seconds, "seconds a run took, scoring included"),
    ):
        _draw_lines(axes, rows, styles, place)
        axes.set_xlabel(label, fontsize=9)
        _clean(axes)
    seconds = [row.seconds for row in rows if row.seconds > 0]
    if seconds and max(seconds) > 10 * min(seconds):
        right.set_xscale("log")
    left.set_ylabel("test accuracy (%)", fontsize=9)
    shown = [r for r in rows if r.agent in styles and not is_reference(r)]
    low, high = 100 * min(r.low for r in shown), 100 * max(r.high for r in rows)
    left.set_ylim(low - 0.05 * (high - low) - 0.1, high + 0.05 * (high - low) + 0.1)
    # What is singled out fills the panels; a grey line may leave them.
    spent = [_share(row) for row in shown]
    room = 0.06 * max(*spent, 1.0)
    left.set_xlim(min(spent) - room, max(spent) + room)
    extra = []
    if any(map(is_reference, rows)):
        extra.append(Line2D([], [], label=f"{REFERENCE}, budget 100 %", **DASHED))
    rest = {row.agent for row in rows if not is_reference(row)} - set(styles)
    if rest:
        extra.append(Line2D([], [], label=f"{len(rest)} other agents", **GREY))
    if any(row.diverged for row in shown):
        extra.append(
            Line2D([], [], marker="o", mfc="white", mec="0.2", ls="none", label="a seed diverged")
        )
    _legend(figure, styles, extra)
    return figure


def _share(row: Row) -> float:
    return 100 * row.share


def _seconds(row: Row) -> float:
    return row.seconds


def _draw_lines(
    axes: Axes, rows: Sequence[Row], styles: dict[str, Style], place: Callable[[Row], float]
) -> None:
    for row in filter(is_reference, rows):
        axes.axhspan(100 * row.low, 100 * row.high, color="black", alpha=0.08, linewidth=0)
        axes.axhline(100 * row.accuracy, **DASHED)
    lines: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not is_reference(row):
            lines[row.agent].append(row)
    for agent, line in lines.items():
        line.sort(key=place)
        x, y = [place(row) for row in line], [100 * row.accuracy for row in line]
        if agent not in styles:
            axes.plot(x, y, **GREY)
            continue
        # Clipped, since rounding may put the mean of nearly equal values outside their interval.
        below = [100 * max(row.accuracy - row.low, 0) for row in line]
        above = [100 * max(row.high - row.accuracy, 0) for row in line]
        style = {"linewidth": 1.2, "elinewidth": 1, **styles[agent]}
        axes.errorbar(x, y, yerr=[below, above], **style)
        hollow = [i for i, row in enumerate(line) if row.diverged]
        if hollow:
            style = {**styles[agent], "linestyle": "none", "markerfacecolor": "white"}
            axes.plot(x, y, markevery=hollow, zorder=3, **style)


def draw_curves(runs: Iterable[Result], styles: dict[str, Style]) -> Figure:
    """Val accuracy against visits spent, one panel per budget; means with 95 % intervals."""
    found: defaultdict[float, defaultdict[str, list[Result]]]
    found = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.config.agent in styles and run.config.budget < 1:
            found[run.config.budget][run.config.agent].append(run)
    columns = len(found) if len(found) < 4 else 2
    lines = -(-len(found) // columns)
    figure = _figure(3.3 * lines + 0.7)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    for (budget, agents), axes in zip(sorted(found.items()), grid, strict=False):
        late = []
        for agent in (agent for agent in styles if agent in agents):
            x, middle, low, high = _mean_curve(agents[agent])
            style = {**styles[agent], "markersize": 4}
            axes.plot(x, middle, linewidth=1.2, markevery=max(1, len(x) // 6), **style)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
            late.append((low[len(low) // 4 :].min(), high.max()))
        bottom, top = min(low for low, _ in late), max(high for _, high in late)
        axes.set_ylim(bottom - 0.05 * (top - bottom) - 0.1, top + 0.08 * (top - bottom) + 0.1)
        axes.set_title(f"budget {100 * budget:g} %", fontsize=9)
        axes.set_xlabel("visits spent, scoring included (% of a full run)", fontsize=9)
        axes.set_ylabel("val accuracy (%)", fontsize=9)
        _clean(axes)
    for axes in grid:  # what zip left over
        axes.remove()
    _legend(figure, styles)
    return figure


def _mean_curve(runs: Sequence[Result]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(1000, len(values)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return places, values.mean(0), low, high


def draw_overall(over: OverTasks) -> Figure:
    """Interquartile means, probabilities of improvement and mean ranks of all agents."""
    figure = _figure(0.21 * len(over.rows) + 1.1)
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
        colours = ["0.45" if row.agent == over.baseline else "#0072B2" for row in over.rows]
        axes.hlines(places, *(100 * np.array(ends).T), colors=colours, linewidth=4, alpha=0.35)
        axes.scatter(100 * np.array(values), places, c=colours, s=18, zorder=3)
        axes.set_xlabel(label, fontsize=9)
    base = next(row for row in over.rows if row.agent == over.baseline)
    # Agents that collapse would squeeze the others: they become arrows at the edge.
    floor = max(min(row.low for row in over.rows), base.iqm - 0.1)
    right = max(row.high for row in over.rows)
    margin = max(0.04 * (right - floor), 1e-3)
    panels[0].set_xlim(100 * (floor - margin), 100 * (right + margin))
    beyond = [place for place, row in enumerate(over.rows) if row.iqm < floor]
    panels[0].plot(
        [100 * (floor - margin / 2)] * len(beyond), beyond, "<", color="#0072B2", markersize=5
    )
    panels[0].axvline(100 * base.iqm, **DASHED)
    panels[1].axvline(50, **DASHED)
    panels[2].barh(places, [row.rank for row in over.rows], height=0.6, color="#56B4E9")
    panels[2].set_xlabel("mean rank over tasks", fontsize=9)
    panels[0].set_yticks(places, [row.agent for row in over.rows])
    panels[0].set_ylim(len(over.rows) - 0.4, -0.6)
    for axes in panels:
        _clean(axes)
    return figure


def draw_kept(rows: Sequence[KeptRow], styles: dict[str, Style]) -> Figure:
    """What was kept when, of one (env, variant), one line of panels per budget."""
    from matplotlib.patches import Patch

    budgets: defaultdict[float, list[KeptRow]] = defaultdict(list)
    for row in rows:
        if row.budget < 1:
            budgets[row.budget].append(row)
    curves = [("turnover", "turnover of the selection"), ("drift", "drift of the losses")]
    for name, label in (("corrupted", "wrong among the kept"), ("duplicates", "repeats, of kept")):
        if any(getattr(row.mean, name).any() for row in rows):
            curves.append((name, label))
    height = max(2.1, 0.2 * max(map(len, budgets.values())) + 0.8)
    figure = _figure(height * len(budgets) + 0.8)
    widths = (1.1,) + (1,) * len(curves)
    grid = figure.subplots(len(budgets), 1 + len(curves), squeeze=False, width_ratios=widths)
    for (budget, group), (bars, *panels) in zip(sorted(budgets.items()), grid, strict=True):
        group.sort(key=lambda row: list(styles).index(row.agent))
        names = [row.agent.replace("(", "\n(", 1) for row in group]
        left = np.zeros(len(group))
        for name, colour in SHARES.items():
            width = np.array([100 * getattr(row.mean, name) for row in group])
            bars.barh(names, width, left=left, color=colour)
            left += width
        bars.set(xlim=(0, 100))
        bars.set_xlabel("% of the samples", fontsize=9)
        bars.invert_yaxis()
        bars.set_title(f"budget {100 * budget:g} %", fontsize=9)
        for axes, (name, label) in zip(panels, curves, strict=True):
            for row in group:
                values = 100 * getattr(row.mean, name)
                epochs = np.arange(len(values)) + (2 if name == "turnover" else 1)
                style = {**styles[row.agent], "markersize": 3}
                axes.plot(epochs, values, linewidth=1, **style)
            axes.set_title(f"{label} (%)", fontsize=9)
            axes.set_xlabel("epoch", fontsize=9)
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in (bars, *panels):
            _clean(axes)
        bars.tick_params(axis="y", labelsize=7)
    _legend(figure, styles, [Patch(color=c, label=f"kept {n}") for n, c in SHARES.items()])
    return figure


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
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    # Measured with DejaVu, the widest of these, so that no label outgrows its place.
    text = text.replace("'DejaVu Sans'", ", ".join(f"'{font}'" for font in fonts))
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
