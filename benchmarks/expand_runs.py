"""Committed runs as result files again: a table is made anew though few of its rows are played.

    python -m benchmarks.expand_runs benchmarks/results/long/runs.json results/long
    python -m benchmarks.learned.transfer

They hold neither histories, selections nor fingerprints, nor what was scored or diverged: enough
for the tables of the studies, but not of `benchmarks.learned.rates`, which chooses by val accuracy,
and not for `dynprune report`. A sweep keeps them whatever made them,
also where a policy's file has changed since: name such agents with `--without`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.committed_runs import Game, read_rows
from benchmarks.compact_runs import COLUMNS, ORIGIN
from benchmarks.script import run_script
from dynprune_env.benchmark import masks
from dynprune_env.benchmark.best_epoch import BestEpoch
from dynprune_env.benchmark.results import HISTORY, Result, RunConfig
from dynprune_env.envs.settings import settings_of


def expand(path: Path) -> Iterator[Result]:
    """The runs in a file as `benchmarks.compact_runs` writes it, with empty histories.

    Of a file without `origins`, device, machine and commit are one of those that it names, "None"
    where some are unknown: it does not say which. Threads and replicas are not recorded, and said
    to be 1.

    Raises:
        ValueError: the file lacks a column.
    """
    content, rows = read_rows(path, [name for name in COLUMNS if name != "origin"])
    origins = content.get("origins") or [{name: _one_of(content[name]) for name in ORIGIN}]
    for row in rows:
        kwargs = Game(row["env"], row["variant"], row["budget"]).env_kwargs
        best = row["best_epoch_accuracy"]
        yield Result(
            config=RunConfig(row["env"], kwargs, row["agent"], row["seed"]),
            num_samples=settings_of(row["env"], kwargs).num_samples,
            epochs=row["epochs"],
            history={name: [] for name in HISTORY},
            test_loss=row["loss"],
            test_accuracy=row["accuracy"],
            visits=row["visits"],
            scored=0,
            preparation=0.0,
            saved=row["saved"],
            seconds={"select": row["selection"], "total": row["seconds"]},
            diverged=False,
            replicas=1,
            threads=1,
            selections=masks.pack(np.empty(0, dtype=bool)),
            best_epoch=None if best is None else BestEpoch(0, 0.0, best),
            **origins[row.get("origin", 0)],
        )


def _one_of(names: Any) -> Any:
    if isinstance(names, dict):
        return names  # versions
    return " or ".join(sorted(names, key=lambda each: each != "None"))


def main(
    path: Path,
    folder: Path,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="An agent to leave out, repeatable.")
    ] = None,
) -> None:
    """Writes the runs of a file that are not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for result in expand(path):
        there = (folder / f"{result.config.key}.json").exists()
        if not there and result.config.agent not in (without or ()):
            result.save(folder)
            written += 1
    print(f"{written:,} runs: {folder}")


if __name__ == "__main__":
    run_script(main)
