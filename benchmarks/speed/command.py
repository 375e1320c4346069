"""The main job as a user runs it: `dynprune bench` with every agent, from start to page."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.speed.clock import Row
from dynprune_env.benchmark.results import load_results

COMMAND = "from dynprune_agents.cli.app import main; main()"
WITHIN = ("prepare", "train", "evaluate", "select")
"""What results say of their seconds."""


def command_rows(rounds: int) -> list[Row]:
    """Wall-clock seconds of the command with two processes, and what they are made of."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for what, seconds in timed_bench(["--jobs", "2"]).items():
            found[what].append(seconds)
    return [
        Row(
            f"`dynprune bench`, all agents, two processes: {what}",
            f"{np.median(seconds):.3g} s",
            "",
            float(np.median(seconds)),
            min(seconds),
            max(seconds),
            "" if place else "<= 30",
        )
        for place, (what, seconds) in enumerate(found.items())
    ]


def timed_bench(options: list[str]) -> dict[str, float]:
    """Seconds of one benchmark into an empty folder, the whole first."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "results"
        before, began = _cpu_of_children(), time.time()
        arguments = [sys.executable, "-c", COMMAND, "bench", *options, "--out", str(folder)]
        subprocess.run(arguments, check=True, capture_output=True)
        ended, cpu = time.time(), _cpu_of_children() - before
        written = [path.stat().st_mtime for path in folder.glob("*.json")]
        within = dict.fromkeys(WITHIN, 0.0)
        for result in load_results([folder]):
            for part in WITHIN:
                within[part] += result.seconds[part]
    return {
        "seconds": ended - began,
        "until the first result": min(written) - began,
        "after the last result": ended - max(written),
        "CPU seconds of all processes": cpu,
        **{f"of which {part}": seconds for part, seconds in within.items()},
    }


def _cpu_of_children() -> float:
    """CPU seconds of the processes that have ended, and of those that they waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
