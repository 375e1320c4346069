"""Do other settings of PPO and A2C learn more in as many steps than those that `train` has?

One setting at a time is changed, by a factor of three (rates) or two. Leads over dynamic random, in
points of val accuracy, on the games of [formulations.md](formulations.md), which no training meets;
two training seeds each.

    python -m benchmarks.learned.defaults     # a quarter of an hour on one core
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.learned.formulations import Formulation, table, trained
from dynprune_env.common.files import write_text

STEPS = 30_720
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "ppo": [
        {},
        {"learning_rate": 0.001},
        {"learning_rate": 0.009},
        {"n_epochs": 4},
        {"n_epochs": 16},
    ],
    "a2c": [{}, {"learning_rate": 0.007}, {"learning_rate": 0.06}],
}


def main(seeds: int = 2, out: Path = Path("benchmarks/results/learned_defaults.md")) -> None:
    """Trains and plays each, and writes the table; goes on where it stopped."""
    torch.set_num_threads(1)
    kept = out.with_suffix(".json")
    cells = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for seed in range(seeds):
        for algo, sweep in SWEEPS.items():
            for settings in sweep:
                formulation = Formulation(algo, settings=settings, relative="rank")
                key = f"{formulation} @ {STEPS} @ {seed}"
                if key not in cells:
                    cells[key] = trained(formulation, STEPS, seed)
                    write_text(kept, json.dumps(cells))
                    print(key, flush=True)
    order = [str(Formulation(a, settings=s, relative="rank")) for a in SWEEPS for s in SWEEPS[a]]
    in_order = {k: c for name in order for k, c in cells.items() if k.startswith(f"{name} @ ")}
    write_text(out, f"{__doc__}\n{table(in_order, [STEPS])}\n")


if __name__ == "__main__":
    typer.run(main)
