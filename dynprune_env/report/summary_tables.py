"""The tables of a summary: accuracy by budget, agents by budgets, all numbers, over all tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from dynprune_env.report.summary import (
    BASELINES,
    OverTasks,
    Row,
    best_accuracies,
    few_seeds,
    is_reference,
    level_with_best,
    of_one_machine,
    panels_of,
    seeds_of,
    tasks_in_words,
)
from dynprune_env.report.tables import Bold, Grid, Muted

ACCURACY = (
    "budget",
    "nominal\nsaved %",
    "agent",
    "accuracy\n%",
    "95 %\ninterval",
    "test\nloss",
    "saved\n%",
    "visits",
    "seconds",
    "seeds",
)
ALL_NUMBERS = (
    "agent",
    "budget\n%",
    "accuracy\n%",
    "sd",
    "95 %\ninterval",
    "test\nloss",
    "nominal\nsaved %",
    "saved\n%",
    "visits",
    "scored",
    "seconds",
    "seeds",
    "diverged",
)
TIME = ("budget", "agent", "accuracy\n%", "visits", "times\nfewer", "seconds", "times\nless time")
MEASURABLE = 0.5
"""Seconds of a run of full data below which those of two agents are not divided.

So short a run is mostly calls, pauses of the machine and what a process does once.
"""
OVERALL = (
    "agent",
    "IQM\n%",
    "95 %\ninterval",
    "better\n%",
    "95 %\ninterval",
    "rank",
    "saved\n%",
    "seeds",
)


def accuracy_tables(rows: Iterable[Row]) -> list[Grid]:
    """One table per (env, variant), sorted by budget, then best accuracy first.

    Raises:
        ValueError: there are no rows.
    """
    return [
        Grid(
            env,
            ACCURACY,
            _accuracy_cells(panel),
            _caption(panel),
            text_columns=(2,),
            code_columns=(2,),
            subtitle=variant,
            sections=[_heading(row.budget) for row in panel],
            hidden=2,
            others=52,
        )
        for (env, variant), panel in panels_of(rows).items()
    ]


def time_tables(rows: Iterable[Row]) -> list[Grid]:
    """What was saved in visits and in measured seconds, one table per (env, variant).

    Only where full data were played with all visits. Sorted as the tables of accuracy.

    Raises:
        ValueError: there are no rows.
    """
    return [
        Grid(
            f"Training time, {env}",
            TIME,
            [_time_cells(row, full) for row in panel],
            "Seconds are a run's on the machine that made it, selection, scoring and evaluation "
            "included. Times fewer and times less time: those of full data with all visits over "
            "the row's; scored samples count a third of a visit." + _undivided(panel, full),
            text_columns=(1,),
            code_columns=(1,),
            subtitle=variant,
        )
        for (env, variant), panel in panels_of(rows).items()
        for full in [row for row in panel if is_reference(row)][:1]
    ]


def _undivided(panel: Sequence[Row], full: Row) -> str:
    """Why rows lack times less time."""
    if full.seconds < MEASURABLE:
        return (
            f" Without times less time, since a run of full data takes less than {MEASURABLE:g} "
            "seconds: so short, what is measured is not training."
        )
    if all(row.made_on == full.made_on for row in panel):
        return ""
    return " Rows without times less time were made on another machine than full data."


def _time_cells(row: Row, full: Row) -> Sequence[str]:
    divided = row.made_on == full.made_on and row.seconds > 0 and full.seconds >= MEASURABLE
    return (
        f"{100 * row.budget:g} %",
        row.agent,
        f"{100 * row.accuracy:.2f}",
        short(row.visits),
        f"{full.share / row.share:.2f}" if row.share > 0 else "",
        f"{row.seconds:.1f}" if row.seconds >= 10 else f"{row.seconds:.2f}",
        f"{full.seconds / row.seconds:.2f}" if divided else "",
    )


def _heading(budget: float) -> str:
    saved = f",\nnominally saved {100 - 100 * budget:g} %" if budget < 1 else ""
    return f"budget {100 * budget:g} %{saved}"


def _accuracy_cells(panel: Sequence[Row]) -> Sequence[Sequence[str]]:
    """Cells under ACCURACY; one seed has neither a spread nor an interval to show."""
    best, level = best_accuracies(panel), level_with_best(panel)
    found = []
    for row in panel:
        accuracy = f"{100 * row.accuracy:.2f}"
        accuracy += f" ± {100 * row.spread:.2f}" if row.seeds > 1 else ""
        cells = (
            f"{100 * row.budget:g} %",
            f"{100 - 100 * row.budget:g}",
            row.agent,
            Bold(accuracy) if row.accuracy == best[row.budget] else accuracy,
            _interval(row) + ("≈" if row in level else ""),
            f"{row.test_loss:.3f}",
            f"{100 * row.saved:.1f}",
            short(row.visits),
            f"{row.seconds:.1f}" if row.seconds >= 10 else f"{row.seconds:.2f}",
            str(row.seeds)
            + (f" †{row.diverged}" if row.diverged else "")
            + (" ‡" if row.mixed else ""),
        )
        found.append(cells)
    return found


def _interval(row: Row) -> str:
    return f"{100 * row.low:.2f}\N{EN DASH}{100 * row.high:.2f}" if row.seeds > 1 else ""


def short(count: float) -> str:
    """Three digits of a count: 16170 is "16.2k"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * unit:  # from here on, three digits round to the unit
            return f"{float(f'{count / unit:.3g}'):g}{name}"
    return f"{count:.0f}"


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
    mixed = sorted({part for row in rows if row.mixed for part in row.mixed.split(", ")})
    if mixed:
        text += f" ‡: what made the runs of the row differs ({', '.join(mixed)})."
    if len(of_one_machine(rows)) < len(rows):
        text += " Seconds are of several machines: table.csv says whose."
    return text + few_seeds(row.seeds for row in rows)


def overall_table(over: OverTasks) -> Grid:
    """The numbers of `summarize_tasks`, in percent."""
    rows = []
    for row in over.rows:
        better = "" if row.agent == over.baseline else f"{100 * row.improvement:.0f}"
        many = row.seeds > 1
        ends = f"{100 * row.improvement_low:.0f}\N{EN DASH}{100 * row.improvement_high:.0f}"
        cells = (
            row.agent,
            f"{100 * row.iqm:.2f}",
            f"{100 * row.low:.2f}\N{EN DASH}{100 * row.high:.2f}" if many else "",
            better,
            ends if better and many else "",
            f"{row.rank:.1f}",
            f"{100 * row.saved:.1f}",
            str(row.seeds),
        )
        rows.append(cells)
    caption = (
        f"{tasks_in_words(over.tasks)}. IQM: interquartile mean of test "
        "accuracy over tasks and seeds, with its 95 % bootstrap interval, seeds redrawn within "
        f"tasks. Better: chance that a run beats one of {over.baseline} on the same task, ties "
        "half, with its interval. Rank: mean over tasks of the mean accuracy's rank. Saved: share "
        f"of a full run's visits truly saved, scoring included (nominally "
        f"{100 * over.rows[0].nominal:.0f} %). Seeds: fewest on a task."
    )
    caption += few_seeds(row.seeds for row in over.rows)
    if over.left_out:
        caption += f" Left out, as they lack a task: {', '.join(over.left_out)}."
    if over.lack_seeds:
        names = ", ".join(over.lack_seeds)
        caption += f" Left out, as they lack seeds that most agents played: {names}."
    if over.not_counted:
        caption += f" Runs not counted, as other agents lack their seeds: {over.not_counted:,}."
    return Grid("Over all tasks", OVERALL, rows, caption, subtitle=unusual_baseline(over))


def unusual_baseline(over: OverTasks) -> str:
    """What stands in the title where the comparison is not with dynamic random."""
    usual = BASELINES[0]
    return "" if over.baseline == usual else f"compared with {over.baseline}, not {usual}"


def budgets_table(rows: Sequence[Row]) -> Grid:
    """Agents by budgets: accuracy and truly saved share, of one (env, variant)."""
    budgets = sorted({row.budget for row in rows if not is_reference(row)}) or [1.0]
    shown = [row for row in rows if row.budget in budgets]
    found = {(row.agent, row.budget): row for row in shown}
    best, level = best_accuracies(rows), level_with_best(rows)
    means = {
        agent: fmean(row.accuracy for row in shown if row.agent == agent)
        for agent in sorted({row.agent for row in shown})
    }
    lines = []
    for agent in sorted(means, key=lambda agent: -means[agent]):
        cells = [agent]
        for budget in budgets:
            row = found.get((agent, budget))
            if row is None:
                cells += ["", ""]
                continue
            text = _accuracy(row) + (" ≈" if row in level else "") + (" †" if row.diverged else "")
            cells.append(Bold(text) if row.accuracy == best[budget] else text)
            cells.append(Muted(f"{100 * row.saved:.1f}"))
        lines.append(cells)
    reference = [row for row in rows if is_reference(row)]
    full = f" Full data at budget 100 %: {_accuracy(reference[0])}." if reference else ""
    return Grid(
        "Test accuracy and truly saved share",
        ("agent", *("accuracy %", "saved %") * len(budgets)),
        lines,
        f"Mean over {seeds_of(rows)} ± half the width of its 95 % percentile bootstrap interval."
        f"{full} Saved: share of a full run's visits not spent, scoring included. Bold: best mean. "
        "≈: interval overlaps with the best's. †: a seed diverged.",
        spans=(
            ("", 1),
            *((f"budget {100 * b:g} %\nnominally saved {100 - 100 * b:g} %", 2) for b in budgets),
        ),
    )


def _accuracy(row: Row) -> str:
    half = 100 * (row.high - row.low) / 2
    return f"{100 * row.accuracy:.2f}" + (f" ± {half:.2f}" if row.seeds > 1 else "")


def numbers_table(rows: Sequence[Row]) -> Grid:
    """Every number of each row."""
    lines = [
        (
            row.agent,
            f"{100 * row.budget:g}",
            f"{100 * row.accuracy:.2f}",
            f"{100 * row.spread:.2f}" if row.seeds > 1 else "",
            _interval(row),
            f"{row.test_loss:.3f}",
            f"{100 - 100 * row.budget:g}",
            f"{100 * row.saved:.1f}",
            short(row.visits),
            short(row.scored),
            f"{row.seconds:.2f}",
            str(row.seeds),
            str(row.diverged or ""),
        )
        for row in rows
    ]
    return Grid("All numbers", ALL_NUMBERS, lines)
