"""Memory stays where it is, and an import costs little."""

from __future__ import annotations

import resource

import numpy as np
from helpers.cpu_seconds import slowness
from helpers.episodes import make, run_script

from benchmarks.speed.selection import statistics_bytes


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_ten_million_samples_have_statistics_of_less_than_600_megabytes() -> None:
    assert statistics_bytes() * 10 < 600


def test_a_hundred_resets_need_no_more_memory() -> None:
    env = make(train_size=1000)
    everything = np.ones(1000, dtype=bool)

    def play(resets: int) -> None:
        for seed in range(resets):
            env.reset(seed=seed)
            env.step(everything)

    play(10)
    before = megabytes()
    play(100)
    assert megabytes() - before < 5


def test_importing_the_environments_costs_less_than_half_a_second() -> None:
    script = """
import time, gymnasium
start = time.process_time()
import dynprune_env
print(time.process_time() - start)
"""
    assert float(run_script(script)) < 0.5 * slowness()
