"""SIGKILL at twenty moments: convolutional nets go on in the middle, to the same numbers."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import dynprune_agents
from dynprune_env.benchmark import runner
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.results import Result, load_failures, load_results
from dynprune_env.benchmark.runner import RUNNING, run_sweep

KILLS = 20
EPOCHS = 60
AGENTS = """
import time
from dataclasses import dataclass
from dynprune_agents.dynamic.ucb import UCB
from dynprune_agents.weighted.infobatch import InfoBatch

class Logging:
    def select(self, observation):
        if self.log:
            with open(self.log, "a") as file:
                run = f"{type(self).__name__}{self.episode.seeds}"
                file.write(f"{run} {self.epoch(observation)}\\n")
            time.sleep(0.02)  # so that even on a busy machine the last kill comes in time
        return super().select(observation)

@dataclass
class LoggedUCB(Logging, UCB):
    log: str = ""

@dataclass
class LoggedInfoBatch(Logging, InfoBatch):
    log: str = ""
"""
FORK = multiprocessing.get_context("fork")


class ForkedWorker:
    """A process like one of loky's, but forked with all that is loaded: loky's take seconds."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future[Any]:
        self._pool = self._pool or ProcessPoolExecutor(1, FORK)
        return self._pool.submit(call, item)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def refusal(self, error: BaseException) -> None:
        return None


def sweep(groups: list[RunGroup], out: Path) -> None:
    """What the killed process does, in a process group of its own."""
    os.setsid()
    list(run_sweep(groups, dynprune_agents.make, out, jobs=2, save_every=0, device="cpu"))


def saves(out: Path) -> dict[Path, int]:
    """When each state was written last."""
    found = {}
    for path in out.glob(f"{RUNNING}/*.state"):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # its run has just ended
            continue
    return found


def await_saves(count: int, out: Path, process: Any) -> None:
    """Waits until as many states have been written."""
    last, seen = saves(out), 0
    while seen < count and process.is_alive():
        time.sleep(0.002)
        now = saves(out)
        seen += sum(now[path] != last.get(path) for path in now)
        last = now


def workers_of(process: Any) -> list[int]:
    """The processes below the one that runs the sweep."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(word) for path in tasks for word in path.read_text().split()]


def numbers(folder: Path) -> dict[str, Any]:
    """By key, all that results say but the seconds and the commit."""
    found = {}
    for result in load_results([folder]):
        content = asdict(result)
        del content["seconds"], content["history"]["seconds"], content["commit"]
        found[result.config.key] = content
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the workers in /proc")
def test_runs_killed_at_twenty_moments_go_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logged_agents.py").write_text(AGENTS)
    monkeypatch.syspath_prepend(tmp_path)
    import_module("logged_agents")
    log, out = tmp_path / "log.txt", tmp_path / "out"
    kwargs = {"train_size": 90, "epochs": EPOCHS, "budget": 0.6, "precision": "fp32"}
    groups = [
        RunGroup("DynPrune-Clutter-v0", kwargs, f"logged_agents:{name}(log={str(log)!r})", (seed,))
        for name in ("LoggedUCB", "LoggedInfoBatch")
        for seed in (0, 1)
    ]
    whole = [outcome.error for outcome in run_sweep(groups, dynprune_agents.make, tmp_path / "all")]
    assert whole == [None] * 4
    log.unlink()

    monkeypatch.setattr(runner, "local_workers", lambda jobs: [ForkedWorker() for _ in range(jobs)])
    rng = random.Random(0)
    kills, texts = 0, {}
    while kills < KILLS:
        process = FORK.Process(target=sweep, args=(groups, out))
        process.start()
        for victims in rng.choice(("all", "a worker and all")).split(" and "):
            await_saves(rng.randint(1, 8), out, process)
            time.sleep(rng.uniform(0, 0.03))
            assert process.is_alive(), "the sweep was over before it was killed"
            if victims == "all":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(rng.choice(workers_of(process)), signal.SIGKILL)
            kills += 1
        process.join()
        before = dict(texts)
        for path in out.glob("*.json"):
            Result.load(path)  # none is torn
            texts[path.name] = path.read_bytes()
        assert texts.items() >= before.items()
    assert len(texts) < 4, "all runs had ended before the last kill"

    outcomes = list(run_sweep(groups, dynprune_agents.make, out, save_every=0, device="cpu"))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert all((out / name).read_bytes() == text for name, text in texts.items())
    assert numbers(out) == numbers(tmp_path / "all")
    assert not list(out.glob(f"{RUNNING}/*.state"))
    assert not load_failures([out])

    chosen = defaultdict(list)
    for line in log.read_text().splitlines():
        run, _, epoch = line.rpartition(" ")
        chosen[run].append(int(epoch))
    for epochs in chosen.values():
        assert epochs == sorted(epochs)  # none that was saved is played again
        assert sorted(set(epochs)) == list(range(len(set(epochs))))
    repeated = sum(len(epochs) - len(set(epochs)) for epochs in chosen.values())
    assert 0 < repeated <= 2 * kills  # one under way in each of two workers
