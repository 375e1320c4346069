"""What a learned policy does, read from its choices: keep probability against what it sees.

Plays it on Digits (32 runs a setting) and pools all decisions. A keep ratio of 1 is the even pace:
as likely as under dynamic random.

    python -m benchmarks.learned.reading
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import typer
from gymnasium.vector import AutoresetMode
from matplotlib.figure import Figure

import dynprune_agents
from dynprune_env.common.palette import LINES, MUTED, PALE
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import rank

ENV = "DynPrune-Digits-v0"
SETTINGS = [(noise, budget) for noise in (0.0, 0.4) for budget in (0.1, 0.3, 0.5)]
PHASES = 5
COLOURS = LINES[:3]


def begin(spec: str, noise: float, budget: float, seeds: range) -> tuple[Any, Any, Any]:
    """An agent, its environments with one run per seed, and their first observation."""
    agent = dynprune_agents.make(spec)
    envs = gym.make_vec(
        f"dynprune_env:{ENV}",
        num_envs=len(seeds),
        autoreset_mode=AutoresetMode.DISABLED,
        **{**dict(agent.env_kwargs), "budget": budget, "label_noise": noise, "data_seed": 100},
    )
    observation, _ = envs.reset(seed=list(seeds))
    agent.reset(envs.unwrapped.episode(list(seeds)))
    return agent, envs, observation


def watch(spec: str, noise: float, budget: float, seeds: range) -> dict[str, np.ndarray]:
    """All decisions of some runs, (D,) each: what was seen of a sample, and whether it was kept."""
    agent, envs, observation = begin(spec, noise, budget, seeds)
    ties, seen, ended = ReplicaRandom(list(seeds)), [], np.zeros(len(seeds), dtype=bool)
    wrong = envs.unwrapped.dataset.corrupted
    while not ended.all():
        action = agent.select(observation)
        running = ~ended
        n = action.shape[1]
        progress = progress_entries(observation["progress"])["progress"][:, None]
        rows = {
            "ratio": (action > 0) / np.maximum(agent.keep_count(observation)[:, None] / n, 1e-9),
            "loss": (rank(observation["loss_mean"], ties) + 0.5) / n,
            "confidence": observation["confidence"],
            "age": observation["age"] / agent.episode.epochs,
            "visits": observation["visits"],
            "progress": np.broadcast_to(progress, action.shape),
            "wrong": np.broadcast_to(wrong, action.shape),
            "weight": action.astype(np.float32),
        }
        seen.append({name: column[running].ravel() for name, column in rows.items()})
        observation, _, ended, _, _ = envs.step(action)
    return {name: np.concatenate([each[name] for each in seen]) for name in seen[0]}


def curve(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of y in each bin of x; NaN where a bin has under a hundred decisions."""
    bins = np.clip(np.digitize(x, edges) - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    sums = np.bincount(bins, weights=y, minlength=len(edges) - 1)
    return np.where(counts >= 100, sums / np.maximum(counts, 1), np.nan)


def main(
    agent: Annotated[str, typer.Option("--agent")] = "learned",
    seeds: int = 32,
    picture: Path = Path("docs/learned_policy.png"),
) -> None:
    """Draws the picture and prints its numbers."""
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    grid = figure.subplots(2, 5, sharey="row")
    for row, noise in enumerate((0.0, 0.4)):
        played = {
            budget: watch(agent, noise, budget, range(2000, 2000 + seeds))
            for each, budget in SETTINGS
            if each == noise
        }
        middle = played[0.3]
        for axes, (name, label, edges) in zip(
            grid[row],
            [
                ("loss", "quantile of the mean loss", np.linspace(0, 1, 11)),
                ("confidence", "last confidence in the label", np.linspace(0, 1, 11)),
                ("age", "epochs since its last visit / T", (np.arange(11) - 0.5) / 20),
                ("visits", "visits so far", np.arange(-0.5, 10.5)),
                ("progress", "progress", np.linspace(0, 1, 11)),
            ],
            strict=True,
        ):
            centres = (edges[1:] + edges[:-1]) / 2
            if name == "progress":
                for colour, (budget, decisions) in zip(COLOURS, played.items(), strict=True):
                    ours = curve(decisions[name], decisions["ratio"], edges)
                    axes.plot(centres, ours, color=colour, label=f"all, budget {100 * budget:g} %")
                    if noise:
                        wrong = decisions["wrong"]
                        theirs = curve(decisions[name][wrong], decisions["ratio"][wrong], edges)
                        axes.plot(
                            centres, theirs, color=colour, linestyle="--", label="wrong labels"
                        )
                        share = decisions["ratio"][wrong].sum() / decisions["ratio"].sum()
                        print(f"{noise:.0%} noise, {budget}: wrong among the kept {share:.1%}")
            elif name == "loss":
                for phase in range(PHASES):
                    here = (middle["progress"] * PHASES).astype(int).clip(0, PHASES - 1) == phase
                    shade = str(0.75 - 0.75 * phase / (PHASES - 1))
                    ours = curve(middle[name][here], middle["ratio"][here], edges)
                    text = f"progress {phase / PHASES:.1f} to {(phase + 1) / PHASES:.1f}"
                    axes.plot(centres, ours, color=shade, label=text)
                    print(f"{noise:.0%} noise, {text}, by loss decile: {np.round(ours, 2)}")
            else:
                for colour, (budget, decisions) in zip(COLOURS, played.items(), strict=True):
                    ours = curve(decisions[name], decisions["ratio"], edges)
                    axes.plot(centres, ours, color=colour, label=f"budget {100 * budget:g} %")
                    print(f"{noise:.0%} noise, budget {budget}, by {name}: {np.round(ours, 2)}")
            axes.axhline(1, color=MUTED, linewidth=0.8)
            axes.set_xlabel(label)
            axes.grid(color=PALE, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0 or name == "progress":
                axes.legend(frameon=False, fontsize=7)
        title = "clean labels" if not noise else f"{noise:.0%} of the labels redrawn"
        _, top = grid[row][0].get_ylim()
        grid[row][0].set_ylim(-0.4, min(top, 8.5))  # a few samples with many visits lie far above
        grid[row][0].set_ylabel(f"{title}\nkeep probability / even pace")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    typer.run(main)
