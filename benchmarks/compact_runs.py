"""The runs of a sweep as one small file: what a table needs, without histories and selections.

python -m benchmarks.compact_runs results/digits benchmarks/results/digits/runs.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from dynprune_env.benchmark.results import load_results
from dynprune_env.common.files import atomic_write

COLUMNS = ("env", "variant", "agent", "budget", "seed", "accuracy", "loss", "visits", "saved")


def main(folder: Path, out: Path) -> None:
    """Writes one row per run, and what all runs share."""
    rows: list[list[Any]] = []
    shared: dict[str, set[str]] = {"device": set(), "machine": set(), "commit": set()}
    versions: dict[str, str] = {}
    for result in load_results([folder]):
        config = result.config
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
            ]
        )
        versions |= result.versions
        for name, values in shared.items():
            values.add(str(getattr(result, name)))
    content = {
        "columns": COLUMNS,
        "versions": versions,
        **{name: sorted(values) for name, values in shared.items()},
        "rows": sorted(rows),
    }
    with atomic_write(out) as temporary:
        temporary.write_text(
            json.dumps(content, separators=(",", ":")).replace("],[", "],\n["), encoding="utf-8"
        )
    print(f"{len(rows):,} runs, {out.stat().st_size / 1e3:,.0f} kB: {out}")


if __name__ == "__main__":
    typer.run(main)
