"""The runs of a sweep as one small file: what a table needs, without histories and selections.

python -m benchmarks.compact_runs results/digits benchmarks/results/digits/runs.json
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.script import run_script
from dynprune_env.benchmark.results import Result, load_results
from dynprune_env.common.files import atomic_write, write_text

COLUMNS = (
    *("env", "variant", "agent", "budget", "seed", "accuracy", "loss", "visits", "saved"),
    *("best_epoch_accuracy", "epochs", "selection", "seconds", "origin"),
)
"""`selection` are seconds a step of choosing and learning to choose; `seconds` are all of a run's,
selection included; `origin` is a place in the list `origins`."""

ORIGIN = ("device", "machine", "commit", "versions")
"""The attributes of a `Result` that stand in `origins`."""


def compact(results: Iterable[Result], out: Path) -> int:
    """Writes one row per run, and where runs were made; returns how many there are.

    Packed if the file's name ends in .gz, as where a table rests on tens of thousands of runs.

    Raises:
        ValueError: there are none, and nothing is written.
    """
    rows: list[list[Any]] = []
    made_by: list[str] = []
    for result in results:
        config, best = result.config, result.best_epoch
        steps = len(result.history["kept"])
        rows.append(
            [
                config.env,
                config.variant,
                config.agent,
                config.budget,
                config.seed,
                round(result.test_accuracy, 4),
                round(result.test_loss, 4),
                result.visits,
                round(result.saved, 4),
                None if best is None else round(best.test_accuracy, 4),
                result.epochs,
                round(result.seconds["select"] / max(1, steps), 6),
                round(result.seconds["total"], 3),
            ]
        )
        made_by.append(json.dumps({name: getattr(result, name) for name in ORIGIN}))
    if not rows:
        raise ValueError(f"there are no results to write into {out}")
    origins = sorted({*made_by})
    for row, origin in zip(rows, made_by, strict=True):
        row.append(origins.index(origin))
    content = {
        "columns": COLUMNS,
        "origins": [json.loads(origin) for origin in origins],
        "rows": sorted(rows, key=lambda row: row[:5]),
    }
    text = json.dumps(content, separators=(",", ":")).replace("],[", "],\n[")
    if out.suffix == ".gz":
        with atomic_write(out) as temporary:
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        write_text(out, text)
    return len(rows)


def main(folder: Path, out: Path) -> None:
    """Makes the file of all runs in a folder."""
    count = compact(load_results([folder]), out)
    print(f"{count:,} runs, {out.stat().st_size / 1e3:,.0f} kB: {out}")


if __name__ == "__main__":
    run_script(main)
