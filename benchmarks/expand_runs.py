"""Committed runs as result files again: a table is made anew though few of its rows are played.

    python -m benchmarks.expand_runs benchmarks/results/long/runs.json results/long
    python -m benchmarks.learned.transfer --accept-stale

They hold what tables read, and neither histories nor selections. To a sweep they are of other code,
so it plays them again unless it is told to accept what is stale.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks.committed_runs import parse_variant
from benchmarks.compact_runs import COLUMNS, SEVERAL
from dynprune_env.benchmark import masks
from dynprune_env.benchmark.best_epoch import BestEpoch
from dynprune_env.benchmark.results import HISTORY, Result, RunConfig
from dynprune_env.envs.settings import settings_of


def expand(path: Path) -> Iterator[Result]:
    """The runs in a file as `benchmarks.compact_runs` writes it, with empty histories.

    Device, machine and commit are one of those that the file names: it does not say which.

    Raises:
        ValueError: the file lacks a column.
    """
    written = path.read_bytes()
    content = json.loads(gzip.decompress(written) if path.suffix == ".gz" else written)
    if lacking := set(COLUMNS) - set(content["columns"]):
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(lacking))}")
    origin = {name: SEVERAL.join(content[name]) for name in ("device", "machine", "commit")}
    for values in content["rows"]:
        row: dict[str, Any] = dict(zip(content["columns"], values, strict=True))
        kwargs = {**parse_variant(row["variant"]), "budget": row["budget"]}
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
            versions=content["versions"],
            selections=masks.pack(np.empty(0, dtype=bool)),
            best_epoch=None if best is None else BestEpoch(0, 0.0, best),
            **origin,
        )


def main(path: Path, folder: Path) -> None:
    """Writes the runs of a file that are not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for result in expand(path):
        if not (folder / f"{result.config.key}.json").exists():
            result.save(folder)
            written += 1
    print(f"{written:,} runs: {folder}")


if __name__ == "__main__":
    typer.run(main)
