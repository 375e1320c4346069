"""What a report of many results costs: CPU seconds of the whole command, and its peak memory.

The results are made up from a seed. The first report reads every file and leaves an index, the
second reads the index.

    python -m benchmarks.report_cost                 # 10,000 results, under a minute
    python -m benchmarks.report_cost --count 1000
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.masks import pack
from dynprune_env.benchmark.results import HISTORY, Result, RunConfig

VARIANTS: tuple[dict[str, float], ...] = ({}, {"label_noise": 0.2}, {"label_noise": 0.4})
BUDGETS = (0.1, 0.3, 0.5, 0.7)
AGENTS = ("dynamic_random", "static_random", *(f"rule_{place:02}" for place in range(40)))
SAMPLES, EPOCHS = 1000, 20
COMMAND = "from dynprune_agents.cli.app import main; main()"
# A process begins with the peak memory of the one that starts it: a small one has to.
MEASURE = """
import os, sys
child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv[1:]])
_, status, used = os.wait4(child, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def made_up(config: RunConfig, rng: np.random.Generator) -> Result:
    """A finished run of random numbers, with all that a real one has."""
    count = round(config.budget * SAMPLES)
    masks = rng.random((EPOCHS, SAMPLES)).argsort(axis=1) < count
    history = {name: rng.random(EPOCHS).tolist() for name in HISTORY}
    history["kept"] = [count] * EPOCHS
    history["visits"] = [count * epoch for epoch in range(1, EPOCHS + 1)]
    history["spent"] = [epoch / EPOCHS for epoch in range(1, EPOCHS + 1)]
    return Result(
        config=config,
        num_samples=SAMPLES,
        epochs=EPOCHS,
        history=history,
        test_loss=float(rng.random()),
        test_accuracy=float(rng.uniform(0.8, 1)),
        visits=count * EPOCHS,
        scored=0,
        preparation=0.0,
        saved=1 - config.budget,
        seconds={"train": 0.5, "total": float(rng.random())},
        diverged=bool(rng.random() < 0.001),
        replicas=1,
        device="cpu",
        threads=1,
        versions={"python": "3.12.0", "numpy": "2.0.0"},
        selections=pack(masks),
        commit="0" * 40,
        machine="x86_64",
        replica_seeds=[config.seed],
        fingerprint=Fingerprint("0" * 16, data="0" * 16, engine={"device": "cpu"}),
    )


def make_results(folder: Path, count: int, seed: int = 0) -> None:
    """Saves so many results, seed by seed, of all AGENTS at all BUDGETS in all VARIANTS."""
    rng = np.random.default_rng(seed)
    groups = [(noise, b, agent) for noise in VARIANTS for b in BUDGETS for agent in AGENTS]
    for place in range(count):
        run_seed, group = divmod(place, len(groups))
        noise, budget, agent = groups[group]
        config = RunConfig("DynPrune-Digits-v0", {"budget": budget, **noise}, agent, run_seed)
        made_up(config, rng).save(folder)


@dataclass(frozen=True)
class Cost:
    """Of a command.

    Attributes:
        seconds: CPU seconds, user's and system's, imports included.
        megabytes: peak of the resident memory.
    """

    seconds: float
    megabytes: float


def report(folder: Path, out: Path) -> Cost:
    """Reports a folder in a process of its own.

    Raises:
        RuntimeError: the report failed.
    """
    command = [sys.executable, "-c", MEASURE]
    command += ["-c", COMMAND, "report", str(folder), "--out", str(out)]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"the report failed: {done.stderr}")
    return Cost(*map(float, done.stderr.split()[-2:]))


def main(
    count: Annotated[int, typer.Option(min=1, help="How many results.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of what is made up.")] = 0,
) -> None:
    """Prints a table of two reports of the same folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "results")
        make_results(folder, count, seed)
        print(f"| {count:,} results | CPU s | MB |\n| :--- | ---: | ---: |")
        for name in ("first report", "second report"):
            cost = report(folder, Path(place, "out"))
            print(f"| {name} | {cost.seconds:.1f} | {cost.megabytes:.0f} |")


if __name__ == "__main__":
    typer.run(main)
