"""Where the time of a small step and of the slow selections goes: the profile behind the misses."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterator

import dynprune_agents
from benchmarks.speed.selection import EPOCHS, SETTLED, RandomRuns, seen_by_epoch
from benchmarks.speed.tasks import make_env, masks
from benchmarks.speed.vector import LONG, kept
from dynprune_agents import PeriodicAgent
from dynprune_agents.static._static import StaticAgent
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.agent import Episode

MOST = 8
SLOW = (
    *("dyn_impt", "align_prune", "selective_backprop", "rcap", "ccs", "dual", "cover", "emp"),
    "molpeg",
)
"""Rules that take more than 20 ms for a choice among 1.28 million samples."""


def profiled(title: str, call: Callable[[], object], times: int) -> str:
    """The functions with the largest own time, in microseconds a call of `call`."""
    profiler = cProfile.Profile()
    profiler.runcall(lambda: [call() for _ in range(times)])
    stats = pstats.Stats(profiler)
    found = [(own, name, calls) for name, (_, calls, own, _, _) in stats.stats.items()]  # type: ignore[attr-defined]
    total = sum(own for own, _, _ in found)
    count = sum(calls for _, _, calls in found) / times
    head = f"{title}: {1e6 * total / times:,.0f} µs, {count:,.0f} calls"
    lines = [
        f"| `{name[0].rpartition('/')[2]}:{name[2]}` | {1e6 * own / times:,.0f} "
        f"| {100 * own / total:.0f} % |"
        for own, name, _ in sorted(found, reverse=True)[:MOST]
    ]
    return "\n".join([f"| {head} | µs | share |", "|---|---:|---:|", *lines])


def profile_text(samples: int = 1_280_000) -> str:
    """Steps that keep half, and slow selections; with what profiling itself costs."""
    env, pictures = make_env("Digits", None), make_env("CIFAR10Small", 5_000, 500)
    stacked = DynPruneVectorEnv(64, **LONG)
    stacked.reset(seed=0)
    half, few, rows = masks(1000, 0.5), masks(5_000, 0.5), kept(64, True)
    steps: dict[str, tuple[Callable[[], object], int]] = {
        "A Digits step that keeps half": (lambda: env.step(half), 300),
        "The same of 64 runs": (lambda: stacked.step(rows), 50),
        "A CIFAR10Small step, 5,000 images, that keeps half": (lambda: pictures.step(few), 2),
    }
    parts = []
    for title, (step, times) in steps.items():
        step()
        parts.append(profiled(title, step, times))
    for name in SLOW:
        title = f"`{name}`, an epoch of {samples:,} samples that chooses"
        epochs = _epochs(name, samples)
        next(epochs)  # what is prepared, and the epochs before
        parts.append(profiled(title, epochs.__next__, 3))
    return "\n\n".join(parts)


def _epochs(name: str, samples: int) -> Iterator[None]:
    """Epochs of a rule one after another, static rules beginning anew each time."""
    agent = dynprune_agents.make(name)
    runs = RandomRuns(samples)
    episode = Episode(samples, 10, EPOCHS, 0.5, 0, runs)  # type: ignore[arg-type]
    agent.prepare(runs)  # type: ignore[arg-type]
    agent.reset(episode)
    if isinstance(agent, PeriodicAgent):
        agent.period = 1
    for epoch, (before, after) in enumerate(seen_by_epoch(samples)):
        agent.update(before, agent.select(before), 0.1, after)
        if epoch >= SETTLED:
            yield
        if isinstance(agent, StaticAgent):
            agent.reset(episode)
