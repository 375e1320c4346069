"""What rules that weigh gain beyond their step size: raw weights beside their controls, paired.

The weights of some rules are above one on average, so their steps are larger than full data's. The
control of a rule (`random_control`) keeps as many random samples in every epoch and gives each the
rule's mean weight: what the rule gains over it is selection and emphasis.

    dynprune bench raw --out results/raw
    python -m benchmarks.raw_weights results/raw
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import dynprune_agents
from dynprune_env.benchmark.results import load_results
from dynprune_env.benchmark.sweeps import load_sweep
from dynprune_env.common.files import atomic_write
from dynprune_env.report.metrics import mean_interval
from dynprune_env.report.tables import Grid

Runs = dict[str, dict[tuple[str, float], dict[int, float]]]
"""Test accuracy in percent by agent, (variant, budget) and seed."""


def load(folder: Path) -> Runs:
    """All runs of a folder."""
    found: Runs = defaultdict(lambda: defaultdict(dict))
    for result in load_results([folder]):
        config = result.config
        place = found[config.agent][config.variant, config.budget]
        place[config.seed] = 100 * result.test_accuracy
    return found


def lead(one: dict[int, float], other: dict[int, float]) -> str:
    """Mean of the paired difference and its 95 % interval, in points; bold if apart from zero."""
    differences = [one[seed] - other[seed] for seed in sorted(one)]
    low, high = mean_interval(differences)
    text = f"{np.mean(differences):+.2f} ({low:+.2f} to {high:+.2f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def main(
    folder: Annotated[Path, typer.Argument(help="Where `dynprune bench raw` put its results.")],
    out: Path = Path("benchmarks/results/raw_weights.md"),
) -> None:
    """Writes one table per share of redrawn labels."""
    runs, sweep = load(folder), load_sweep("raw")
    rules = [repr(dynprune_agents.make(spec)) for spec in sweep.agents]
    pairs = list(zip(rules[1::2], rules[2::2], strict=True))  # after dynamic random
    texts = [(__doc__ or "").strip(), ""]
    for variant in sorted({variant for variant, _ in runs[rules[0]]}):
        rows = []
        for rule, control in pairs:
            cells = [
                lead(runs[rule][variant, budget], runs[control][variant, budget])
                for budget in sweep.budgets
            ]
            rows.append([rule, *cells])
        heads = ["rule", *(f"budget {100 * budget:g} %" for budget in sweep.budgets)]
        caption = (
            f"Lead over the rule's own control in points of test accuracy, {len(sweep.seeds)} "
            "paired seeds, with its 95 % interval; bold: apart from zero."
        )
        texts.append(Grid(f"Digits, {variant}", heads, rows, caption).to_markdown())
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join(texts), encoding="utf-8")
    print("\n".join(texts))


if __name__ == "__main__":
    typer.run(main)
