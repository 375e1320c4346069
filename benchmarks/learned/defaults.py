"""Do other settings of the algorithms learn more in as many steps than those that `train` has?

One setting at a time is changed, by a factor of three (rates) or two; what is ahead after 30,720
steps is trained for 100,000 too, beside the defaults, whose runs there are those of
[formulations.md](formulations.md). Leads over dynamic random, in points of val accuracy, on the
games of that page, which no training meets; two training seeds each.

    python -m benchmarks.learned.defaults     # fifty minutes on one core
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.learned.formulations import LONG, Formulation, table, trained
from dynprune_agents.learning.sb3_algorithms import ALGORITHMS
from dynprune_env.common.files import write_text

STEPS = 30_720
DEFAULTS = Path("benchmarks/results/formulations.json")
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "ppo": [
        {},
        {"learning_rate": 0.001},
        {"learning_rate": 0.009},
        {"n_epochs": 4},
        {"n_epochs": 16},
    ],
    "a2c": [{}, {"learning_rate": 0.007}, {"learning_rate": 0.06}],
    "trpo": [{}, {"target_kl": 0.003}, {"target_kl": 0.03}],
    "sac": [{}, {"learning_rate": 0.0003}, {"learning_rate": 0.003}, {"gradient_steps": 8}],
    "td3": [{}, {"learning_rate": 0.0003}, {"learning_rate": 0.003}],
    "tqc": [{}, {"learning_rate": 0.003}],
}
AHEAD: list[dict[str, Any]] = [{"learning_rate": 0.009}, {"n_epochs": 16}]


def main(seeds: int = 2, out: Path = Path("benchmarks/results/learned_defaults.md")) -> None:
    """Trains and plays each, and writes the table; goes on where it stopped."""
    torch.set_num_threads(1)
    kept = out.with_suffix(".json")
    cells = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    each = [(STEPS, algo, settings) for algo, sweep in SWEEPS.items() for settings in sweep]
    each += [(LONG, "ppo", settings) for settings in ({}, *AHEAD)]
    in_order = {}
    for steps, algo, settings in each:
        formulation = Formulation(algo, settings=settings, relative=ALGORITHMS[algo].relative)
        for seed in range(seeds):
            key = f"{formulation} @ {steps} @ {seed}"
            if key not in cells:
                cells[key] = known.get(key) or trained(formulation, steps, seed)
                write_text(kept, json.dumps(cells))
                print(key, flush=True)
            in_order[key] = cells[key]
    write_text(out, f"{__doc__}\n{table(in_order, [STEPS, LONG])}\n")


if __name__ == "__main__":
    typer.run(main)
