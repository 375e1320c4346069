"""The commands that read results: report, kept; nothing here runs anything."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dynprune_agents
from dynprune_agents.cli.options import FoldersArgument, Picture, PictureOption, check_folder
from dynprune_agents.cli.terminal import complain, console, say
from dynprune_env.benchmark.index import load_runs
from dynprune_env.benchmark.results import Failure, load_failures
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.files import write_text
from dynprune_env.common.specs import lookup

if TYPE_CHECKING:  # a report's parts are loaded by the command that makes one
    from dynprune_env.report.differences import Differences

OPTIONAL = (
    "differences.csv",
    "overall.csv",
    *(f"overall.{picture.value}" for picture in Picture),
)
"""What `write_report` writes only where there is something to write."""


def report(
    folders: FoldersArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the tables and the page. [the first folder]"),
    ] = None,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agents",
            help="An agent to report on, repeatable; full data with all visits stays. [all]",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="AGENT[@BUDGET]",
            help="Also tells the paired differences to this agent, at the same budget or at one.",
        ),
    ] = None,
    picture: PictureOption = Picture.png,
) -> None:
    """Prints the tables and writes the page of results that exist already; runs nothing.

    Example: dynprune report results --agents learned --agents ucb --reference full_data@1
    """
    from dynprune_env.report.differences import compare, split_reference

    foreign: list[str] = []
    results = load(folders, foreign)
    check_folder(out or folders[0])
    failures = load_failures(folders)
    known = dict.fromkeys(result.config.agent for result in results)
    if reference is not None:
        name, at = split_reference(reference)
        (name,) = _played([name], known)
        reference = name if at is None else f"{name}@{at}"
        agents = [*agents, name] if agents else None
    if agents:
        shown = set(_played(agents, known))
        results = [each for each in results if each.config.agent in shown or _is_full_run(each)]
        failures = [each for each in failures if each.config.agent in shown]
    differences = None if reference is None else compare(results, reference)
    gc.freeze()  # they stay to the end: no collection has to look at all of them again
    complete = write_report(results, failures, out or folders[0], picture.value, differences)
    gc.unfreeze()
    if foreign or not complete:
        raise typer.Exit(1)


def _played(specs: Sequence[str], known: dict[str, None]) -> list[str]:
    """The agents of results that some specs name, each as the results spell it.

    Raises:
        ValueError: there are no results of one.
    """
    found = []
    for spec in specs:
        spelled = spec
        if spec not in known and ":" not in spec:
            with suppress(ValueError):  # no agent of today may have made them
                spelled = repr(dynprune_agents.make(spec))
        if spelled not in known:
            lookup(spec, known, "agent of these results")
        found.append(spelled)
    return found


def _is_full_run(result: FinishedRun) -> bool:
    from dynprune_env.report.summary import REFERENCE

    return result.config.agent == REFERENCE and result.config.budget == 1


def kept(folders: FoldersArgument, picture: PictureOption = Picture.png) -> None:
    """Says what was kept when: always / sometimes / never, turnover, drift, corrupted samples.

    Turnover is one minus the Jaccard index of successive selections, drift one minus Spearman's
    correlation of all losses before and after an epoch; both are means over epochs and seeds.
    """
    from dynprune_env.report.figures import draw_selections, save
    from dynprune_env.report.selections import selection_tables, summarize_selections
    from dynprune_env.report.styles import choose_styles

    foreign: list[str] = []
    rows = summarize_selections(load(folders, foreign))
    for grid in selection_tables(rows):
        grid.print(console)
    figure = draw_selections(rows, choose_styles(rows))
    name = f"kept.{picture.value}"
    complete = write_files(folders[0], {name: partial(save, figure)})
    if complete:
        say(f"Picture: {folders[0]}/{name}")
    if foreign or not complete:
        raise typer.Exit(1)


def load(folders: list[Path], foreign: list[str]) -> list[FinishedRun]:
    """The results in some folders, at least one; says what else there is.

    Args:
        folders: where to look.
        foreign: takes the messages on JSON files that are no results, which are left out.

    Raises:
        ValueError: there are none.
    """
    notes: list[str] = []
    results = list(load_runs(folders, foreign.append, notes.append))
    if not results and foreign:
        raise ValueError(foreign[0])
    if not results:
        raise ValueError(f"no result files in {', '.join(map(str, folders))}")
    complain_of_foreign(foreign)
    for note in notes:
        complain(note)
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


def remove_outdated(folder: Path, files: Iterable[str]) -> None:
    """Removes what an earlier report wrote and this one has nothing for, and says so.

    Args:
        folder: where they are.
        files: names of those that will be written; pictures of the same name in other formats stay.
    """
    stems = {Path(name).stem for name in files}
    removed = []
    for path in (folder / name for name in OPTIONAL):
        if path.stem in stems or not path.is_file():
            continue
        try:
            path.unlink()
            removed.append(path.name)
        except OSError as error:
            complain(f"{path} is of an earlier report, and cannot be removed: {error}")
    if removed:
        say(f"Removed from {folder}, as this report has no such part: {', '.join(removed)}")


def write_report(
    results: Sequence[FinishedRun],
    failures: list[Failure],
    folder: Path,
    picture: str = "png",
    differences: Differences | None = None,
) -> bool:
    """Prints the tables, and writes them with the page and the pictures.

    Args:
        results: at least one.
        failures: the runs that failed.
        folder: where to.
        picture: ending of the pictures' files.
        differences: to a reference, if there is one.

    Returns:
        Whether all could be written.
    """
    from dynprune_env.report.differences import difference_tables
    from dynprune_env.report.figures import draw_accuracy, draw_overall, save
    from dynprune_env.report.page import failure_table, write_page
    from dynprune_env.report.published import published_tables
    from dynprune_env.report.styles import choose_styles
    from dynprune_env.report.summary import Summary
    from dynprune_env.report.summary_tables import (
        accuracy_tables,
        overall_table,
        time_tables,
    )
    from dynprune_env.report.tables import to_csv

    summary = Summary.of(results, differences.reference if differences else None)
    rows, over = summary.rows, summary.over
    grids = accuracy_tables(rows)
    grids += [overall_table(over)] if over else []
    grids += difference_tables(differences) if differences else []
    grids += published_tables(rows)
    grids += [failure_table(failures)] if failures else []
    for grid in grids:
        grid.print(console)
    if summary.why_not:
        say(f"{summary.why_not}\n")
    parts = [grid.to_markdown() for grid in [*grids, *time_tables(rows)]]
    parts += [f"### Over all tasks\n\n{summary.why_not}\n"] * bool(summary.why_not)
    texts = {
        "table.md": "\n".join(parts),
        "table.csv": to_csv(rows),
    }
    if differences:
        texts["differences.csv"] = to_csv([*differences.per_task, *differences.over_tasks])
    figures = {f"accuracy.{picture}": draw_accuracy(rows, choose_styles(rows))}
    if over:
        texts["overall.csv"] = to_csv(over.rows)
        figures[f"overall.{picture}"] = draw_overall(over)
    files: dict[str, Callable[[Path], None]] = {
        **{name: partial(write_text, text=text) for name, text in texts.items()},
        **{name: partial(save, figure) for name, figure in figures.items()},
        "report.html": partial(
            write_page, results, failures, summary=summary, differences=differences
        ),
    }
    remove_outdated(folder, files)
    complete = write_files(folder, files)
    if complete:
        say(f"Tables in {folder}: {', '.join(texts)}; pictures: {', '.join(figures)}")
        say(f"Page: {folder}/report.html")
    return complete
