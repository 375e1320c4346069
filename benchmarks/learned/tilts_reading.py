"""What a policy on `tilts` does, read from its choices: the eight numbers over a run.

Plays it on Digits (32 runs a setting) and averages what it chooses at the same progress.

    python -m benchmarks.learned.tilts_reading
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure

from benchmarks.learned.reading import COLOURS, SETTINGS, begin
from dynprune_env.common.palette import MUTED, PALE
from dynprune_env.selection.tilts import Tilts


def watch(spec: str, noise: float, budget: float, seeds: range) -> np.ndarray:
    """Mean choices in each epoch that all runs reached, (epochs, 8)."""
    agent, envs, observation = begin(spec, noise, budget, seeds)
    chosen, ended = [], np.zeros(len(seeds), dtype=bool)
    while not ended.any():
        action = agent.select(observation)
        chosen.append(action.mean(0))
        observation, _, ended, _, _ = envs.step(action)
    return np.stack(chosen)


def main(
    agent: Annotated[str, typer.Option("--agent")] = "sb3",
    seeds: int = 32,
    picture: Path = Path("docs/ppo_policy.png"),
) -> None:
    """Draws the picture and prints its numbers."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    grid = figure.subplots(2, len(Tilts.NAMES), sharex=True, sharey=True)
    for noise, budget in SETTINGS:
        row, colour = int(noise > 0), COLOURS[(0.1, 0.3, 0.5).index(budget)]
        chosen = watch(agent, noise, budget, range(2000, 2000 + seeds))
        for axes, name, values in zip(grid[row], Tilts.NAMES, chosen.T, strict=True):
            place = (np.arange(len(values)) + 0.5) / len(values)
            axes.plot(place, values, color=colour, label=f"budget {budget:.0%}")
            axes.set_title(name if row == 0 else "", fontsize=9)
            axes.axhline(0, color=MUTED, linewidth=0.8)
            axes.set_axisbelow(True)
            axes.grid(color=PALE, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            thirds = " ".join(f"{part.mean():.2f}" for part in np.array_split(values, 3))
            print(f"{noise:.0%} noise, budget {budget}, {name}, thirds of the run: {thirds}")
    for row, title in enumerate(("clean labels", "40% of the labels redrawn")):
        grid[row][0].set_ylabel(title)
    grid[1][4].set_xlabel("share of the epochs")
    grid[0][-1].legend(frameon=False, fontsize=7)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    typer.run(main)
