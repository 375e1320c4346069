"""Where learned policies were compared before they shipped: val accuracy, in runs of many kinds.

Short runs of Digits, long ones of a wide net on few samples, nets too small to fit, classes that
overlap, a hundred classes, and shifted images of ten and of a hundred classes; up to 40 % of the
labels redrawn. Leads are over dynamic random in points, of sixteen paired runs a setting, on data
seeds and run seeds that no training and no table of test accuracy uses; test data play no part.
Intervals are over runs, not over data seeds: on four others the same policy's mean lead over the
short runs differed by up to 0.6.

    python -m benchmarks.learned.choice       # half an hour on one core
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import dynprune_agents
from benchmarks.learned.digits import LONGER_PPO, SEEDS_OF_PPO, VARIANTS
from benchmarks.learned.tables import Setting, val_accuracies
from dynprune_env.common.files import write_text

DATA_SEEDS, SEEDS = tuple(range(60, 64)), tuple(range(600, 604))
AGENTS = (
    *("sb3", "learned", *VARIANTS, SEEDS_OF_PPO[0], LONGER_PPO),
    *("kakurenbo", "small_loss", "full_data"),
)


def kind(
    task: str, budgets: tuple[float, ...], noise: tuple[float, ...], **env_kwargs: Any
) -> list[Setting]:
    """The settings of one kind of run."""
    return [
        Setting(f"DynPrune-{task}-v0", b, {"label_noise": share, **env_kwargs}, DATA_SEEDS, SEEDS)
        for share in noise
        for b in budgets
    ]


KINDS = {
    "short, Digits, T = 20": kind("Digits", (0.1, 0.3, 0.5), (0.0, 0.2, 0.4)),
    "long, T = 100, 128 hidden units, 700 samples": kind(
        "Digits", (0.3, 0.5), (0.0, 0.2, 0.4), epochs=100, train_size=700, model="mlp(width=128)"
    ),
    "underfit, T = 40, 8 hidden units": kind(
        "Digits", (0.3, 0.5), (0.0, 0.4), epochs=40, model="mlp(width=8)", learning_rate=0.05
    ),
    "overlapping classes, T = 60": kind("Overlap", (0.3, 0.5), (0.0, 0.4), epochs=60),
    "a hundred classes, T = 40": kind("Crowd", (0.3, 0.5), (0.0,), epochs=40),
    "shifted images, T = 60": kind("Shifts", (0.3, 0.5), (0.0, 0.2, 0.4)),
    "shifted images of a hundred classes, T = 60": kind("Pairs", (0.3, 0.5), (0.0, 0.4)),
}


def main(
    agents: Annotated[list[str] | None, typer.Option("--agents", help="Repeatable.")] = None,
    table: Path = Path("benchmarks/results/choice.md"),
) -> None:
    """Plays the agents and writes one table a kind of run."""
    torch.set_num_threads(1)
    pieces = [__doc__ or ""]
    for name, settings in KINDS.items():
        base = val_accuracies(dynprune_agents.make("dynamic_random"), settings)
        heads = [f"{100 * s.env_kwargs['label_noise']:.0f} %, {s.budget:g}" for s in settings]
        lines = [
            f"| {name} | mean lead | {' | '.join(heads)} |",
            "|---|---:|" + "---:|" * len(settings),
            "| val accuracy of `dynamic_random`, % |  | "
            + " | ".join(f"{mean:.1f}" for mean in base.mean(1))
            + " |",
        ]
        for spec in agents or AGENTS:
            lead = val_accuracies(dynprune_agents.make(spec), settings) - base
            errors = lead.std(1, ddof=1) / np.sqrt(lead.shape[1])
            half = 1.96 * np.sqrt((errors**2).sum()) / len(errors)
            cells = " | ".join(f"{mean:+.1f}" for mean in lead.mean(1))
            lines.append(f"| `{spec}` | {lead.mean():+.2f} ± {half:.2f} | {cells} |")
        pieces.append("\n".join(lines))
        print(pieces[-1], flush=True)
        write_text(table, "\n\n".join(pieces) + "\n")


if __name__ == "__main__":
    typer.run(main)
