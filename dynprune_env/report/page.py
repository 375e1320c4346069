"""The report's page: one HTML file with tables and inline SVG, no script, no network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path

from dynprune_env.benchmark.results import Failure
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.files import write_text
from dynprune_env.report import figures
from dynprune_env.report.differences import Differences, difference_tables
from dynprune_env.report.published import published_tables
from dynprune_env.report.selections import summarize_selections
from dynprune_env.report.styles import Style, choose_styles
from dynprune_env.report.summary import (
    OverTasks,
    Row,
    Summary,
    is_reference,
    level_with_best,
    panels_of,
    seeds_of,
    tasks_in_words,
)
from dynprune_env.report.summary_tables import (
    budgets_table,
    numbers_table,
    overall_table,
    unusual_baseline,
)
from dynprune_env.report.tables import Grid

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1100px; padding: 1.5rem 1.5rem 4rem; background: #fff;
  color: #1a1a1a; font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; padding-top: .8rem;
  border-top: 2px solid #1a1a1a; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
p { max-width: 80ch; margin: .4rem 0; }
nav ul, ul.warnings { margin: .4rem 0; padding-left: 1.2rem; }
a { color: #005a8d; }
.warning { background: #fff4d6; border-left: 4px solid #e69f00; padding: .5rem .8rem; }
.note { color: #555; font-size: .85rem; }
figure { margin: .8rem 0 1.2rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: #555; font-size: .85rem; max-width: 95ch; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .83rem; font-variant-numeric: tabular-nums;
  margin: .6rem 0; }
caption { text-align: left; font-weight: 600; font-size: .95rem; padding: .3rem 0; }
th, td { padding: .16rem .55rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 1.5px solid #1a1a1a; white-space: pre-line !important;
  vertical-align: bottom; }
thead th[colspan] { text-align: center; }
tbody tr:nth-child(even) { background: #f5f6f8; }
tbody th { font-weight: 400; font-family: ui-monospace, Menlo, Consolas, monospace; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.muted { color: #555; }
td.best { font-weight: 700; }
summary { cursor: pointer; color: #005a8d; }
pre { white-space: pre-wrap; font-size: .8rem; margin: 0; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; }
  h3 { break-after: avoid; } thead { display: table-header-group; }
  nav, details:not([open]) { display: none; } .scroll { overflow: visible; }
  section[id^="panel"] { break-before: page; } .note, figcaption { font-size: 8pt; }
  table { font-size: 7.5pt; } th, td { padding: .1rem .35rem; }
}
@page { size: A4; margin: 14mm; }
"""


def write_page(
    results: Sequence[FinishedRun],
    failures: Sequence[Failure],
    path: Path,
    summary: Summary | None = None,
    differences: Differences | None = None,
) -> None:
    """Writes the page of some results and of the runs that failed.

    Args:
        results: at least one.
        failures: the runs that failed.
        path: of the page.
        summary: of the results, where it is at hand already.
        differences: to a reference, if there is one.

    Raises:
        ValueError: there are no results.
    """
    summary = summary or Summary.of(results)
    rows, over = summary.rows, summary.over
    styles = choose_styles(rows)
    panels = panels_of(rows)
    runs: defaultdict[tuple[str, str], list[FinishedRun]] = defaultdict(list)
    for result in results:
        runs[result.config.env, result.config.variant].append(result)
    parts = [_head(rows, results, failures, list(panels))]
    if over:
        parts.append(_overall(over))
    elif summary.why_not:
        note = f"<h2>Over all tasks</h2><p>{escape(summary.why_not)}</p>"
        parts.append(f'<section id="overall">{note}</section>')
    if differences:
        parts.append('<section id="differences"><h2>Paired differences</h2>')
        parts += [*(grid.to_html() for grid in difference_tables(differences)), "</section>"]
    for number, (key, panel) in enumerate(panels.items()):
        parts.append(_panel(number, key, panel, runs[key], styles))
    published = published_tables(rows)
    if published:
        parts.append('<section id="published"><h2>Published figures</h2>')
        parts += [*(grid.to_html() for grid in published), "</section>"]
    parts += [_failed(failures), _provenance(results)]
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # else a browser asks a server for one
        f"<title>dynprune report</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part).replace(" %", "\N{NO-BREAK SPACE}%")
        + "\n</body></html>\n"
    )
    write_text(path, text)


def _name(key: tuple[str, str]) -> str:
    env, variant = key
    return env + (f" ({variant})" if variant else "")


def _head(
    rows: Sequence[Row],
    results: Sequence[FinishedRun],
    failures: Sequence[Failure],
    panels: Sequence[tuple[str, str]],
) -> str:
    agents = {row.agent for row in rows}
    links = [
        f'<li><a href="#panel{i}">{escape(_name(key))}</a></li>' for i, key in enumerate(panels)
    ]
    text = (
        f"<header><h1>dynprune report</h1><p>{len(results):,} runs of {len(agents)} agents, "
        f"{seeds_of(rows)} a row. Test accuracy is that of the last model; the test split was read "
        "once, after training. Visits, seconds and saved shares include scoring.</p></header>"
    )
    return f"{text}{_warnings(rows, failures)}<nav><ul>{''.join(links)}</ul></nav>"


def _warnings(rows: Sequence[Row], failures: Sequence[Failure]) -> str:
    """What a reader has to know before believing the numbers."""
    found = []
    if failures:
        agents = sorted({failure.config.agent for failure in failures})
        found.append(
            f'<a href="#failed">{_runs(len(failures))} failed</a>, and no number here knows of it: '
            + escape(", ".join(agents))
        )
    diverged = sorted({row.agent for row in rows if row.diverged})
    if diverged:
        count = sum(row.diverged for row in rows)
        found.append(
            f"{_runs(count)} diverged (†); the means include them: {escape(', '.join(diverged))}"
        )
    few = min(row.seeds for row in rows)
    if few < 5:
        found.append(
            f"{few if few > 1 else 'one'} seed{'s' if few > 1 else ''} in some rows: "
            + ("there is no interval." if few == 1 else "intervals of so few say little.")
        )
    if not found:
        return ""
    items = "".join(f"<li>{text}</li>" for text in found)
    return f'<div class="warning"><ul class="warnings">{items}</ul></div>'


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _draw(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _overall(over: OverTasks) -> str:
    svg = figures.to_svg(figures.draw_overall(over), "overall")
    caption = (
        f"All agents over {tasks_in_words(over.tasks)}. Bars: 95 % intervals. Dashed: "
        f"{over.baseline}, and even odds. An arrow: further left than shown."
    )
    baseline = unusual_baseline(over)
    title = f"Over all tasks, {baseline}" if baseline else "Over all tasks"
    return (
        f'<section id="overall"><h2>{escape(title)}</h2>{_draw(svg, caption)}'
        f"{replace(overall_table(over), title='', subtitle='').to_html()}</section>"
    )


def _panel(
    number: int,
    key: tuple[str, str],
    rows: Sequence[Row],
    runs: Sequence[FinishedRun],
    styles: dict[str, Style],
) -> str:
    """One environment and variant."""
    parts = [f'<section id="panel{number}"><h2>{escape(_name(key))}</h2>', _told_apart(rows)]
    shown = {row.agent for row in rows if not is_reference(row)}
    styles = {agent: style for agent, style in styles.items() if agent in shown}
    means = f"mean over {seeds_of(rows)} with 95 % bootstrap intervals"
    if max(row.seeds for row in rows) == 1:
        means = "one seed, hence no interval"
    if styles:
        parts.append(
            _draw(
                figures.to_svg(
                    figures.draw_accuracy(rows, styles, on_page=True), f"accuracy{number}"
                ),
                f"Test accuracy against what was truly spent, {means}. Seconds depend on the "
                "machine and its load.",
            )
        )
    parts.append(budgets_table(rows).to_html())
    parts.append(
        f"<details><summary>All numbers</summary>{numbers_table(rows).to_html()}</details>"
    )
    shown_runs = [run for run in runs if run.config.agent in styles and run.config.budget < 1]
    curves = [run for run in shown_runs if len(run.history.get("spent", ()))]
    if curves:
        over = len(shown_runs) - len(curves)
        lost = f" Without the {_runs(over)} that had diverged before the first epoch." * (over > 0)
        parts += [
            "<h3>Learning curves</h3>",
            _draw(
                figures.to_svg(figures.draw_curves(curves, styles), f"curves{number}"),
                f"Val accuracy after each epoch, {means}.{lost}",
            ),
            "<h3>What was kept when</h3>",
            _draw(
                figures.to_svg(
                    figures.draw_selections(summarize_selections(curves), styles, on_page=True),
                    f"kept{number}",
                ),
                "Share of the samples trained in every, in some and in no epoch that trained any; "
                "turnover: one minus the Jaccard index of successive selections; drift: one minus "
                "Spearman's correlation of all losses before and after an epoch. Means over seeds."
                + lost,
            ),
        ]
    return "\n".join([*parts, "</section>"])


def _told_apart(rows: Sequence[Row]) -> str:
    """Which agents the seeds do not tell from the best."""
    level = level_with_best(rows)
    sentences = []
    for budget, group in groupby(rows, key=lambda row: row.budget):
        best, *others = group
        near = [row.agent for row in others if row in level]
        if near:
            names = escape(", ".join(near))
            sentences.append(
                f"<li>budget {100 * budget:g} %: <b>{escape(best.agent)}</b> is best, "
                f"but its interval overlaps with those of {names}</li>"
            )
    if not sentences:
        return ""
    return f"<p>Overlapping intervals (≈):</p><ul>{''.join(sentences)}</ul>"


def _failed(failures: Sequence[Failure]) -> str:
    if not failures:
        return ""
    grid = failure_table(failures)
    tails = {failure.traceback: failure.config.agent for failure in failures if failure.traceback}
    details = "".join(
        f"<details><summary>traceback of {escape(agent)}</summary><pre>{escape(text)}</pre>"
        "</details>"
        for text, agent in tails.items()
    )
    return f'<section id="failed"><h2>Failed runs</h2>{grid.to_html()}{details}</section>'


def failure_table(failures: Iterable[Failure]) -> Grid:
    """One row per agent, task and error."""
    groups: defaultdict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for failure in failures:
        config = failure.config
        task = f"{_name((config.env, config.variant))}, budget {100 * config.budget:g} %"
        groups[config.agent, task, failure.error, failure.message].append(config.seed)
    return Grid(
        "Failed runs, in no other number",
        ("agent", "task", "error", "message", "runs"),
        [
            (agent, task, error, message[:300], str(len(seeds)))
            for (agent, task, error, message), seeds in sorted(groups.items())
        ],
        text_columns=(0, 1, 2, 3),
    )


def _provenance(results: Iterable[FinishedRun]) -> str:
    """What made the results, and how many of them."""
    groups: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for result in results:
        versions = ", ".join(f"{name} {text}" for name, text in sorted(result.versions.items()))
        unknown = "unknown"
        groups[
            result.device,
            result.machine or unknown,
            str(result.threads),
            (result.commit or unknown)[:12],
            versions,
        ] += 1
    rows = [(str(count), *group) for group, count in sorted(groups.items())]
    heads = ("runs", "device", "processor", "threads", "commit", "versions")
    grid = Grid("What made these results", heads, rows, text_columns=tuple(range(6)))
    return f'<section id="provenance"><h2>Provenance</h2>{grid.to_html()}</section>'
