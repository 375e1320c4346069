"""Memory and import time, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.speed.selection import run_bytes

PEAK = """
def megabytes():
    # Not getrusage's: a child starts with its parent's peak.
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
"""

RUN = (
    PEAK
    + """
import gymnasium as gym, numpy as np, dynprune_env
env = gym.make("DynPrune-CIFAR10Small-v0", budget=0.5, epochs=2)
env.reset(seed=0)
env.step(np.ones(45_000, dtype=bool))
print(megabytes())
"""
)

RESETS = (
    PEAK
    + """
import gymnasium as gym, numpy as np, dynprune_env
env = gym.make("DynPrune-Digits-v0", budget=0.5)
for reset in range(111):
    env.reset(seed=reset)
    env.step(np.ones(1000, dtype=bool))
    if reset == 10:
        before = megabytes()
print(megabytes() - before)
"""
)

IMPORT = """
import time, gymnasium
start = time.perf_counter()
import dynprune_env
print(time.perf_counter() - start)
"""


def run(script: str) -> float:
    """The number that a script prints in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    return float(done.stdout.split()[-1])


def footprint_text(bytes_per_sample: float) -> str:
    """What was measured, with what it should be."""
    lines = [
        f"Peak resident set of a CIFAR10Small run: {run(RUN):,.0f} MB (target 2,500).",
        f"Growth over 100 resets of Digits: {run(RESETS):.1f} MB (target: none).",
        f"Statistics: {bytes_per_sample:.0f} bytes a sample, {bytes_per_sample * 10:,.0f} MB for "
        "ten million (target 600).",
        _kept_line(("dynamic_random", "epsilon_greedy", "linucb", "learned", "sb3")),
        f"`import dynprune_env` beyond gymnasium's own: {run(IMPORT):.3f} s (target 0.5).",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _kept_line(specs: tuple[str, ...]) -> str:
    """What runs of agents keep of the statistics."""
    each = [
        f"`{spec}` {run_bytes(spec, True):.0f} ({run_bytes(spec, False):.0f})" for spec in specs
    ]
    return (
        "Of these bytes every replica of a benchmark run has of its own (in brackets where nothing "
        f"is recorded, as in a `PruningSampler`; target at most 49): {', '.join(each)}."
    )
