"""The commands that read results: report, kept; nothing here runs anything."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dynprune_agents.cli.options import FoldersArgument, check_folder
from dynprune_agents.cli.terminal import complain, console, say
from dynprune_env.benchmark.index import load_runs
from dynprune_env.benchmark.results import Failure, load_failures
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.files import write_text


def report(
    folders: FoldersArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the tables and the page. [the first folder]"),
    ] = None,
) -> None:
    """Prints the tables and writes the page of results that exist already; runs nothing."""
    foreign: list[str] = []
    results = load(folders, foreign)
    complain_of_foreign(foreign)
    check_folder(out or folders[0])
    gc.freeze()  # they stay to the end: no collection has to look at all of them again
    complete = write_report(results, load_failures(folders), out or folders[0])
    gc.unfreeze()
    if foreign or not complete:
        raise typer.Exit(1)


def kept(folders: FoldersArgument) -> None:
    """Says what was kept when: always / sometimes / never, turnover, drift, corrupted samples.

    Turnover is one minus the Jaccard index of successive selections, drift one minus Spearman's
    correlation of all losses before and after an epoch; both are means over epochs and seeds.
    """
    from dynprune_env.report.figures import draw_selections, save
    from dynprune_env.report.selections import selection_tables, summarize_selections
    from dynprune_env.report.styles import choose_styles

    rows = summarize_selections(load(folders))
    for grid in selection_tables(rows):
        grid.print(console)
    figure = draw_selections(rows, choose_styles(rows))
    if not write_files(folders[0], {"kept.png": partial(save, figure)}):
        raise typer.Exit(1)
    say(f"Picture: {folders[0]}/kept.png")


def load(folders: list[Path], foreign: list[str] | None = None) -> list[FinishedRun]:
    """The results in some folders, at least one; messages on other JSON files go into `foreign`.

    Raises:
        ValueError: there are none, or a JSON file is no result and there is no `foreign`.
    """
    results = list(load_runs(folders, None if foreign is None else foreign.append))
    if not results and foreign:
        raise ValueError(foreign[0])
    if not results:
        raise ValueError(f"no result files in {', '.join(map(str, folders))}")
    return results


def complain_of_foreign(messages: list[str]) -> None:
    """Says which JSON files are no results."""
    for message in messages:
        complain(f"left out: {message}")


def write_files(folder: Path, files: dict[str, Callable[[Path], None]]) -> bool:
    """Writes each file of a folder; where one cannot be, says so and goes on with the others.

    Args:
        folder: where.
        files: by name, what writes it to a path.

    Returns:
        Whether all were written.
    """
    missing = []
    for name, write in files.items():
        try:
            write(folder / name)
        except OSError as error:
            missing.append(name)
            complain(f"{folder / name} cannot be written: {error}")
    if missing:
        names = ", ".join(missing)
        complain(f"the results are saved; once there is room the same command writes {names}")
    return not missing


def write_report(results: Sequence[FinishedRun], failures: list[Failure], folder: Path) -> bool:
    """Prints the tables, and writes them with the page and the pictures.

    Returns:
        Whether all could be written.
    """
    from dynprune_env.report.figures import draw_accuracy, draw_overall, save
    from dynprune_env.report.page import failure_table, write_page
    from dynprune_env.report.published import published_tables
    from dynprune_env.report.styles import choose_styles
    from dynprune_env.report.summary import Summary
    from dynprune_env.report.summary_tables import accuracy_tables, overall_table
    from dynprune_env.report.tables import to_csv

    summary = Summary.of(results)
    rows, over = summary.rows, summary.over
    grids = accuracy_tables(rows)
    grids += [overall_table(over)] if over else []
    grids += published_tables(rows)
    grids += [failure_table(failures)] if failures else []
    for grid in grids:
        grid.print(console)
    texts = {
        "table.md": "\n".join(grid.to_markdown() for grid in grids),
        "table.csv": to_csv(rows),
    }
    figures = {"accuracy.png": draw_accuracy(rows, choose_styles(rows))}
    if over:
        texts["overall.csv"] = to_csv(over.rows)
        figures["overall.png"] = draw_overall(over)
    files: dict[str, Callable[[Path], None]] = {
        **{name: partial(write_text, text=text) for name, text in texts.items()},
        **{name: partial(save, figure) for name, figure in figures.items()},
        "report.html": partial(write_page, results, failures, summary=summary),
    }
    complete = write_files(folder, files)
    if complete:
        say(f"Tables in {folder}: {', '.join(texts)}; pictures: {', '.join(figures)}")
        say(f"Page: {folder}/report.html")
    return complete
