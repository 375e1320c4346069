"""Where the time of a small step and of the slow selections goes: the profile behind the misses."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable

import numpy as np

import dynprune_agents
from benchmarks.speed.selection import EPOCHS, RandomRuns, observe
from benchmarks.speed.tasks import make_env, masks
from dynprune_env.selection.agent import Episode

MOST = 8


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
    """A Digits step that keeps half, and slow selections; with what profiling itself costs."""
    env = make_env("Digits", None)
    half = masks(1000, 0.5)
    parts = [profiled("A Digits step that keeps half", lambda: env.step(half), 300)]
    observation = observe(samples, 51, np.random.default_rng(0))
    for name in ("dyn_impt", "align_prune", "selective_backprop", "rcap"):
        agent = dynprune_agents.make(name)
        runs = RandomRuns(samples)
        agent.reset(Episode(samples, 10, EPOCHS, 0.5, 0, runs))  # type: ignore[arg-type]
        agent.select(observation)
        title = f"`{name}` selects from {samples:,} samples"
        parts.append(profiled(title, lambda agent=agent: agent.select(observation), 3))  # type: ignore[misc]
    return "\n\n".join(parts)
