"""Results into tables and plots; never runs anything."""

from __future__ import annotations

import csv
import io
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from dynprune_env.benchmark.results import Result
from dynprune_env.common.files import atomic_write
from dynprune_env.report.metrics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

HEADERS = (
    "agent",
    "accuracy\n%",
    "95 %\ninterval",
    "test\nloss",
    "saved\n%",
    "visits",
    "seconds",
    "seeds",
)
NOTHING = "there are no results to report"
REFERENCE = "full_data"  # at budget 1 this agent is the full run the others are compared with
# Okabe and Ito's colour-blind safe palette with its grey, black left to the reference and the pale
# yellow last. Eight colours and eleven markers, so that the pair repeats only after 88 agents.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999", "#F0E442")
MARKERS = "os^DvPX<>ph"
EDGE: dict[str, Any] = {"markersize": 5, "markeredgecolor": "0.2", "markeredgewidth": 0.5}
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "none", "zorder": 3}
DASHED: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1}


@dataclass(frozen=True)
class Row:
    """All seeds of one (env, env_kwargs without budget, agent, budget); means are over seeds.

    Attributes:
        env: Gymnasium id.
        variant: the env_kwargs other than budget, "key=value, ..." sorted by key, or "".
        agent: the agent's spec.
        budget: nominal share of a full run's visits, in (0, 1].
        seeds: number of runs.
        accuracy: mean test accuracy, in [0, 1].
        low: lower end of the 95 % bootstrap interval of that mean; the mean itself for one seed.
        high: upper end of it.
        spread: standard deviation of the accuracy over seeds (ddof 1), 0 for one seed.
        test_loss: mean test cross-entropy, in nats.
        saved: mean true saved fraction of a full run, scoring included.
        visits: mean number of samples trained, scoring excluded.
        scored: mean number of samples only scored, each a third of a visit.
        seconds: mean wall-clock of a run, in seconds.
        diverged: number of runs whose loss became non-finite; the means include them.
    """

    env: str
    variant: str
    agent: str
    budget: float
    seeds: int
    accuracy: float
    low: float
    high: float
    spread: float
    test_loss: float
    saved: float
    visits: float
    scored: float
    seconds: float
    diverged: int

    @property
    def share(self) -> float:
        """Share of a full run truly spent, scoring included at a third of a visit each."""
        return 1 - self.saved


def summarize(results: Iterable[Result]) -> list[Row]:
    """One row per group of seeds, sorted by env, variant, budget, then accuracy descending.

    Raises:
        ValueError: there are no results, or two runs of a group have the same seed.
    """
    groups: defaultdict[tuple[str, str, str, float], list[Result]] = defaultdict(list)
    for result in results:
        config = result.config
        groups[config.env, config.variant, config.agent, config.budget].append(result)
    rows = []
    for (env, variant, agent, budget), runs in groups.items():
        if len({run.config.seed for run in runs}) < len(runs):  # would narrow the interval falsely
            raise ValueError(f"{agent} on {env} at budget {budget:g}: a seed occurs twice")
        accuracies = [run.test_accuracy for run in runs]
        low, high = mean_interval(accuracies)
        row = Row(
            env=env,
            variant=variant,
            agent=agent,
            budget=budget,
            seeds=len(runs),
            accuracy=fmean(accuracies),
            low=low,
            high=high,
            spread=stdev(accuracies) if len(runs) > 1 else 0.0,
            test_loss=fmean(run.test_loss for run in runs),
            saved=fmean(run.saved for run in runs),
            visits=fmean(run.visits for run in runs),
            scored=fmean(run.scored for run in runs),
            seconds=fmean(run.seconds["total"] for run in runs),
            diverged=sum(run.diverged for run in runs),
        )
        rows.append(row)
    if not rows:
        raise ValueError(NOTHING)
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[str, str, float, float, str]:
    return row.env, row.variant, row.budget, -row.accuracy, row.agent


def panels_of(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by (env, variant), each sorted by budget, then best accuracy first."""
    panels: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=_order):
        panels[row.env, row.variant].append(row)
    if not panels:
        raise ValueError(NOTHING)
    return panels


def _best(panel: Iterable[Row]) -> dict[float, float]:
    """The best mean accuracy of each budget."""
    return {row.budget: row.accuracy for row in sorted(panel, key=lambda row: row.accuracy)}


def level_with_best(panel: Iterable[Row]) -> set[Row]:
    """Rows whose interval overlaps with that of the best row of their budget, itself left out."""
    found = set()
    ranked = sorted(panel, key=lambda row: (row.budget, -row.accuracy))
    for _, group in groupby(ranked, key=lambda row: row.budget):
        best, *others = group
        found |= {row for row in others if min(row.seeds, best.seeds) > 1 and row.high >= best.low}
    return found


def short(count: float) -> str:
    """Three digits of a count: 16170 is "16.2k"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * unit:  # from here on, three digits round to the unit
            return f"{float(f'{count / unit:.3g}'):g}{name}"
    return f"{count:.0f}"


def _cells(row: Row, level: set[Row]) -> tuple[str, ...]:
    """The row's cells under HEADERS; one seed has neither a spread nor an interval to show.

    Those in `level` are marked.
    """
    many = row.seeds > 1
    return (
        row.agent,
        f"{100 * row.accuracy:.2f}" + (f" ± {100 * row.spread:.2f}" if many else ""),
        f"{100 * row.low:.2f}\N{EN DASH}{100 * row.high:.2f}{'≈' if row in level else ''}"
        if many
        else "",
        f"{row.test_loss:.3f}",
        f"{100 * row.saved:.1f}",
        short(row.visits),
        f"{row.seconds:.1f}" if row.seconds >= 10 else f"{row.seconds:.2f}",
        str(row.seeds) + (f" †{row.diverged}" if row.diverged else ""),
    )


def seeds_of(rows: Sequence[Row]) -> str:
    """How many seeds a row has: "10 seeds", "3 to 10 seeds" or "one seed"."""
    fewest, most = min(row.seeds for row in rows), max(row.seeds for row in rows)
    if fewest < most:
        return f"{fewest} to {most} seeds"
    return f"{most} seeds" if most > 1 else "one seed"


def _caption(rows: Sequence[Row]) -> str:
    """States what the numbers are."""
    alone = " (neither for one seed)" if any(row.seeds == 1 for row in rows) else ""
    text = (
        f"Test accuracy: mean ± standard deviation over {seeds_of(rows)}; interval: 95 % "
        f"percentile bootstrap of the mean over seeds{alone}. Saved: share of a full run's visits "
        "not spent, scoring runs included, a scored sample counting a third. Bold: best mean of "
        "its budget."
    )
    if level_with_best(rows):
        text += " ≈: overlaps with the interval of the best, so that these seeds hardly tell them"
        text += " apart."
    if any(row.diverged for row in rows):
        text += " †k: k seeds diverged; the means include them."
    return text


def print_table(rows: Iterable[Row], console: Console) -> None:
    """Prints one table per (env, variant), grouped by budget; meant for 80 columns and more."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    gap = 2 if console.width >= 100 else 1
    room = console.width - 52 - 7 * gap  # for the agent: the other columns usually take 52
    for (env, variant), panel in panels_of(rows).items():
        # Text throughout: a spec or a variant may hold brackets that rich would take for markup.
        table = Table(
            title=Text.assemble((env, "bold"), f"\n{variant}" if variant else ""),
            title_justify="left",
            caption=Text("\n" + _caption(panel)),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, gap - 1, 0, 0),
        )
        table.add_column(HEADERS[0], overflow="fold")
        for header in HEADERS[1:]:
            table.add_column(header, justify="right", no_wrap=True)
        best, level = _best(panel), level_with_best(panel)
        for budget, group in groupby(panel, key=lambda row: row.budget):
            table.add_section()
            saved = f"budget {100 * budget:g} %,\nnominally saved {100 - 100 * budget:g} %"
            table.add_row(Text(saved if budget < 1 else "budget 100 %", style="italic"))
            for row in group:
                agent, *others = _cells(row, level)
                agent = agent.replace("(", "\n(", 1) if len(agent) > room else agent
                style = "bold" if row.accuracy == best[budget] else ""
                table.add_row(*map(Text, (agent, *others)), style=style)
        console.print(table)
        console.print()


def to_markdown(rows: Iterable[Row]) -> str:
    """One Markdown table per (env, variant), with the columns of `print_table`."""
    lines = []
    for (env, variant), panel in panels_of(rows).items():
        lines += [f"### {env}" + (f" ({variant})" if variant else ""), ""]
        lines.append(
            "| budget | nominal saved % | " + " | ".join(HEADERS).replace("\n", " ") + " |"
        )
        lines.append("| ---: | ---: | :--- |" + " ---: |" * (len(HEADERS) - 1))
        best, level = _best(panel), level_with_best(panel)
        for row in panel:
            agent, accuracy, *others = (cell.replace("|", "\\|") for cell in _cells(row, level))
            accuracy = f"**{accuracy}**" if row.accuracy == best[row.budget] else accuracy
            nominal = f"{100 - 100 * row.budget:g}"
            cells = (f"{100 * row.budget:g} %", nominal, f"`{agent}`", accuracy, *others)
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", _caption(panel), ""]
    return "\n".join(lines)


def to_csv(rows: Iterable[Any]) -> str:
    """Comma-separated values of dataclass instances, such as `Row`: one column per attribute.

    Unrounded, shares in [0, 1].
    """
    rows = list(rows)
    if not rows:
        raise ValueError(NOTHING)
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def is_reference(row: Row) -> bool:
    """Whether it is full data with all visits, to which the others are compared."""
    return row.agent.split("(")[0] == REFERENCE and row.budget == 1


def _plot_panel(axes: Axes, rows: Sequence[Row], styles: dict[str, dict[str, Any]]) -> None:
    """Draws one (env, variant); `styles` maps each agent to its colour and marker."""
    shares = [100 * row.share for row in rows if not is_reference(row)] or [100.0]
    span = max(max(shares) - min(shares), 20)
    # A constant sideways shift per agent keeps the intervals of agents at one share apart.
    step = min(0.012 * span, min(0.1 * span, 4) / max(len(styles), 1))
    limit = step * max(len(styles) - 1, 0) / 2
    for row in filter(is_reference, rows):
        axes.axhspan(100 * row.low, 100 * row.high, color="black", alpha=0.08, linewidth=0)
        axes.axhline(100 * row.accuracy, **DASHED)
    for index, (agent, style) in enumerate(styles.items()):
        line = [row for row in rows if row.agent == agent and not is_reference(row)]
        line.sort(key=lambda row: row.share)
        x = [100 * row.share + step * index - limit for row in line]
        y = [100 * row.accuracy for row in line]
        # Clipped, since rounding may put the mean of nearly equal values outside their interval.
        below = [100 * max(row.accuracy - row.low, 0) for row in line]
        above = [100 * max(row.high - row.accuracy, 0) for row in line]
        axes.errorbar(x, y, yerr=[below, above], linewidth=0.8, elinewidth=1.2, **{**EDGE, **style})
        hollow = [place for place, row in enumerate(line) if row.diverged]
        if hollow:
            axes.plot(x, y, markevery=hollow, **{**EDGE, **style, **HOLLOW})
    centre, half = (min(shares) + max(shares)) / 2, 0.55 * span + limit
    axes.set_xlim(centre - half, centre + half)
    axes.set_xlabel(
        "visits spent, scoring included (% of a full run)"
        + (f"\nagents are shifted sideways by up to ±{limit:.1f} points" if limit else "")
    )
    axes.set_ylabel("test accuracy (%)")
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plot_accuracy(rows: Iterable[Row], path: Path) -> None:
    """Writes a PNG of test accuracy against visits truly spent, one panel per (env, variant)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    panels = panels_of(rows)
    drawn = [row for panel in panels.values() for row in panel]
    points = [row for row in drawn if not is_reference(row)]
    styles: dict[str, dict[str, Any]] = {}
    for index, agent in enumerate(sorted({row.agent for row in points} - {REFERENCE})):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        styles[agent] = {"color": colour, "marker": marker}
    if any(row.agent == REFERENCE for row in points):  # full data, but for fewer epochs
        styles[REFERENCE] = {"color": "black", "marker": "*", "markersize": 8}
    handles = [
        Line2D(
            [],
            [],
            label=agent if len(agent) <= 26 else agent.replace("(", "\n(", 1),
            linewidth=0.8,
            **{**EDGE, **style},
        )
        for agent, style in styles.items()
    ]
    if any(row.diverged for row in points):
        hollow = Line2D([], [], marker="o", label="hollow: a seed diverged", **EDGE, **HOLLOW)
        handles.append(hollow)
    if len(points) < len(drawn):
        handles.append(Line2D([], [], label=f"{REFERENCE}, budget 100 %", **DASHED))
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    legend_columns = 1 if len(handles) <= 16 else 2
    legend_lines = -(-len(handles) // legend_columns)
    size = (4.8 * columns + 2.4 * legend_columns, max(4.1 * lines, 0.25 * legend_lines + 1))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    for ((env, variant), panel), axes in zip(panels.items(), grid, strict=False):
        _plot_panel(axes, panel, styles)
        axes.set_title("\n".join([env, *textwrap.wrap(variant, 60)]), fontsize=10)
    for axes in grid:  # what zip left over
        axes.remove()
    title = f"mean over {seeds_of(drawn)},\n95 % bootstrap interval"
    if max(row.seeds for row in drawn) == 1:
        title = "one seed, hence no interval"
    legend = figure.legend(
        handles=handles, loc="outside right upper", title=title, fontsize=9, ncols=legend_columns
    )
    legend.set(alignment="left", frame_on=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=200)
    with atomic_write(path) as temporary:
        temporary.write_bytes(image.getvalue())
