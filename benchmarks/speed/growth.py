"""How the cost of a visit grows with the samples, the replicas and the model, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.clock import take_turns, wall_clock
from dynprune_env.common.palette import BLUE, PALE
from dynprune_env.envs.vector_env import DynPruneVectorEnv


def per_visit(replicas: int, rounds: int = 5, **settings: object) -> float:
    """Microseconds of a step, its val evaluation included, per kept sample; half are kept."""
    envs = DynPruneVectorEnv(replicas, budget=1.0, epochs=100_000, **settings)
    envs.reset(seed=0)
    n = envs.settings.num_samples
    mask = np.random.default_rng(0).random((replicas, n)) < 0.5
    seconds = take_turns({"step": lambda: envs.step(mask)}, rounds, wall_clock)["step"]
    return 1e6 * float(np.median(seconds)) / mask.sum()


def measure() -> dict[str, dict[int, float]]:
    """Microseconds per visit by what grows."""
    torch.set_num_threads(1)
    fashion = {"task": "FashionMNIST"}
    return {
        "n, Digits": {n: per_visit(1, 20, task="Digits", train_size=n) for n in (100, 300, 1000)},
        "n, Fashion-MNIST": {
            n: per_visit(1, 3, train_size=n, **fashion) for n in (5_000, 20_000, 55_000)
        },
        "R, Digits": {r: per_visit(r, 10, task="Digits") for r in (1, 4, 16, 64, 256)},
        "width, Digits": {
            w: per_visit(16, 5, task="Digits", model=f"mlp(width={w})") for w in (16, 64, 256, 1024)
        },
    }


def plot(found: dict[str, dict[int, float]], path: Path) -> None:
    """One panel for each thing that grows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        axes.loglog(list(points), list(points.values()), "o-", color=BLUE)
        for x, y in points.items():
            axes.annotate(f"{y:.2g}", (x, y), (0, 6), textcoords="offset points", ha="center")
        axes.set_xlabel(name)
        axes.margins(x=0.15)
        axes.set_xticks(list(points), [f"{x:,}" for x in points])
        axes.minorticks_off()
        axes.set_ylim(min(points.values()) / 2, max(points.values()) * 2)
        axes.grid(color=PALE, linewidth=0.6)
    figure.axes[0].set_ylabel("µs per visit")
    figure.savefig(path, dpi=120)


def growth_text(path: Path) -> str:
    """Measures, draws, and says what came out."""
    found = measure()
    plot(found, path)
    lines = [
        f"- {name}: " + ", ".join(f"{x:,}: {y:.3g}" for x, y in points.items())
        for name, points in found.items()
    ]
    head = "Microseconds per visit, val evaluation included, half of the samples kept:"
    return "\n\n".join([head, "\n".join(lines), f"![{head}]({path.name})"])
