"""Runs that were stopped or killed go on from their last saved epoch, to the same numbers."""

from __future__ import annotations

import logging
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import dynprune_agents
from dynprune_agents import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_env.benchmark import identity
from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.benchmark.episodes import RunGroup, run_episodes
from dynprune_env.benchmark.results import Result, load_failures, load_results
from dynprune_env.benchmark.runner import RUNNING, run_sweep
from dynprune_env.tasks import registry

DIGITS = "DynPrune-Digits-v0"
SMALL: dict[str, Any] = {"train_size": 60, "epochs": 4, "budget": 0.7}


def numbers(results: Any) -> dict[str, Any]:
    """By key, all that a result says but the seconds and the commit."""
    found = {}
    for result in results:
        content = asdict(result)
        del content["seconds"], content["history"]["seconds"], content["commit"]
        found[result.config.key] = content
    return found


def play(agent: Agent | str, checkpoint: Checkpoint | None = None, **kwargs: Any) -> list[Result]:
    player = dynprune_agents.make(agent) if isinstance(agent, str) else agent
    return run_episodes(
        kwargs.pop("env", DIGITS),
        player,
        kwargs.pop("seeds", (3, 4)),
        on_epoch=kwargs.pop("on_epoch", None),
        env_kwargs={**SMALL, **kwargs},
        device="cpu",
        checkpoint=checkpoint,
    )


def stop_after(count: int, agent: str, path: Path, **kwargs: Any) -> None:
    """Plays as many epochs and leaves the state in `path`."""
    stop = path.with_suffix(".stop")

    class Counting(Checkpoint):
        left = count

        def pause(self, state: Any) -> None:
            self.left -= 1
            if self.left == 0:
                stop.touch()
            super().pause(state)

    with pytest.raises(Stopped):
        play(agent, Counting(path, 1e9, stop), **kwargs)
    stop.unlink()


# -- one state ---------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", dynprune_agents.names())
def test_every_agent_goes_on_to_the_same_numbers(agent: str, tmp_path: Path) -> None:
    longer = {"epochs": 10} if agent == "ies" else {}  # which begins with six full epochs
    expected = numbers(play(agent, **longer))
    path = tmp_path / "run.state"
    stop_after(6 if longer else 1, agent, path, **longer)
    assert path.stat().st_size > 0
    assert numbers(play(agent, Checkpoint(path), **longer)) == expected


@pytest.mark.usefixtures("pictures")
def test_a_convolutional_net_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs: dict[str, Any] = {"train_size": 90, "task": "Pictures", "precision": "fp32"}
    expected = numbers(play("ucb", seeds=(3,), **kwargs))
    stop_after(2, "ucb", tmp_path / "run.state", seeds=(3,), **kwargs)
    again = numbers(play("ucb", Checkpoint(tmp_path / "run.state"), seeds=(3,), **kwargs))
    assert again == expected


def test_a_run_goes_on_and_does_not_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.state"
    stop_after(3, "dynamic_random", path)
    monkeypatch.setattr(DynamicRandom, "reset", None)  # nobody resets the agent
    (one, _) = play("dynamic_random", Checkpoint(path))
    assert len(one.history["kept"]) == 4


def test_states_are_saved_as_often_as_asked(tmp_path: Path) -> None:
    saved: list[str] = []

    class Watched(Checkpoint):
        def save(self, state: Any) -> None:
            saved.append("results" if "results" in state() else "state")
            super().save(state)

    play("full_data", Watched(tmp_path / "a", every=0), budget=1.0)
    assert saved == ["state"] * 3 + ["results"]  # after the fourth epoch there are results
    saved.clear()
    play("full_data", Watched(tmp_path / "b", every=1e9), budget=1.0, seeds=(1,))
    assert saved == []


def test_seconds_before_the_interruption_count(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    stop_after(2, "full_data", path)
    state = Checkpoint(path).load()
    assert state is not None
    state["seconds"]["total"] += 1000
    Checkpoint(path).save(lambda: state)
    results = play("full_data", Checkpoint(path))
    assert sum(result.seconds["total"] for result in results) > 1000


@pytest.mark.parametrize("what", ["torn", "of other code", "of other seeds"])
def test_a_state_that_does_not_fit_is_ignored(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.state"
    stop_after(2, "ucb", path, seeds=(8, 9) if what == "of other seeds" else (3, 4))
    if what == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    if what == "of other code":
        monkeypatch.setattr(identity, "package_hash", lambda: "another")
    asked = []
    results = run_episodes(
        DIGITS,
        dynprune_agents.make("ucb"),
        (3, 4),
        env_kwargs=SMALL,
        device="cpu",
        on_epoch=asked.append,
        checkpoint=Checkpoint(path),
    )
    assert len(asked) == len(results[0].history["kept"])
    assert ("run starts again" in caplog.text) == (what == "torn")


@dataclass
class Unpicklable(DynamicRandom):
    """Holds a generator."""

    def reset(self, episode: Any) -> None:
        super().reset(episode)
        self.draws = (number for number in range(9))


def test_an_agent_that_cannot_be_saved_plays_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        results = play(Unpicklable(), Checkpoint(tmp_path / "run.state", every=0), seeds=(1,))
    assert len(results) == 1
    assert caplog.text.count("a run cannot be saved, and begins again if it is stopped") == 1
    assert not list(tmp_path.iterdir())


def test_that_it_cannot_be_saved_is_said_before_anything_is_played(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[bool] = []
    checkpoint = Checkpoint(tmp_path / "run.state", every=1e9)
    play(Unpicklable(), checkpoint, on_epoch=lambda _: said.append("be saved" in caplog.text))
    assert said[0]


# -- a sweep -----------------------------------------------------------------------------------


def cells_of(*agents: str, seeds: tuple[int, ...] = (0, 1), **kwargs: Any) -> list[RunGroup]:
    return [RunGroup(DIGITS, {**SMALL, **kwargs}, agent, seeds) for agent in agents]


def test_a_kill_between_the_files_of_a_cell_leaves_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = cells_of("ucb", seeds=(0, 1, 2))
    list(run_sweep(groups, dynprune_agents.make, tmp_path / "whole"))
    save, saved = Result.save, []

    def save_one(self: Result, folder: Path) -> Path:
        if saved:
            raise OSError("killed")
        saved.append(self)
        return save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Result, "save", save_one)
        (outcome,) = run_sweep(groups, dynprune_agents.make, tmp_path / "cut")
    assert outcome.error == "OSError: killed"
    monkeypatch.setattr(DynamicRandom, "select", None)
    (outcome,) = run_sweep(groups, dynprune_agents.make, tmp_path / "cut")
    assert outcome.error is None
    found, expected = (numbers(load_results([tmp_path / name])) for name in ("cut", "whole"))
    assert found == expected
    assert not (tmp_path / "cut" / RUNNING).exists()


def test_the_state_of_a_cell_that_was_killed_at_its_very_end_is_swept_up(tmp_path: Path) -> None:
    groups = cells_of("ucb")
    list(run_sweep(groups, dynprune_agents.make, tmp_path))
    (tmp_path / RUNNING).mkdir()
    (tmp_path / RUNNING / f"{groups[0].key}.state").touch()
    list(run_sweep(groups, dynprune_agents.make, tmp_path))
    assert not (tmp_path / RUNNING).exists()


SLOW = '''
import os, time
from dataclasses import dataclass
from dynprune_agents.dynamic.ucb import UCB

@dataclass
class Slow(UCB):
    """UCB that takes its time, and writes a line whenever it is asked."""
    log: str = ""
    wait: float = 0.02
    label: int = 0

    def select(self, observation):
        with open(self.log, "a") as file:
            file.write(f"{self.label}\\n")
        time.sleep(self.wait)
        return super().select(observation)
'''


def slow_groups(folder: Path, epochs: int, count: int) -> list[RunGroup]:
    log = str(folder / "log.txt")
    agents = [f"slow_agent:Slow(log={log!r}, label={label})" for label in range(1, count + 1)]
    return cells_of(*agents, epochs=epochs, train_size=200)


def sweep_slowly(folder: Path, groups: list[RunGroup]) -> None:
    """What the killed process does."""
    sys.path.insert(0, str(folder))
    list(run_sweep(groups, dynprune_agents.make, folder / "out", jobs=2, save_every=0))


@pytest.mark.slow
def test_ten_kills_lose_nothing_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_agent.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    epochs, count, kills = 40, 6, 10
    groups = slow_groups(tmp_path, epochs, count)
    out, log = tmp_path / "out", tmp_path / "log.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dynprune_agents", "dynprune_env.benchmark.runner"])
    rng = random.Random(0)
    texts: dict[str, bytes] = {}
    for _ in range(kills):
        lines = len(log.read_text()) if log.exists() else 0
        process = context.Process(target=sweep_slowly, args=(tmp_path, groups))
        process.start()
        while process.is_alive() and (not log.exists() or len(log.read_text()) == lines):
            time.sleep(0.01)  # until something is under way
        time.sleep(rng.uniform(0, 0.25))
        assert process.is_alive(), "the sweep was over before it was killed"
        process.kill()
        process.join()
        before = dict(texts)
        for path in out.glob("*.json"):
            Result.load(path)  # none is torn
            texts[path.name] = path.read_bytes()
        assert texts.items() >= before.items()
    outcomes = list(run_sweep(groups, dynprune_agents.make, out, save_every=0))
    assert [outcome.error for outcome in outcomes] == [None] * count
    assert all((out / name).read_bytes() == text for name, text in texts.items())
    asked = len(log.read_text().split())

    (whole := tmp_path / "whole").mkdir()
    list(run_sweep(groups, dynprune_agents.make, whole))
    undisturbed = len(log.read_text().split()) - asked
    assert numbers(load_results([out])) == numbers(load_results([whole]))
    assert {path.name for path in out.glob("*.json")} == {
        f"{config.key}.json" for group in groups for config in group.configs()
    }
    # Each kill costs each of two processes the epoch under way, and one not saved yet; the log
    # has one line an epoch.
    assert undisturbed == count * epochs
    assert undisturbed < asked <= undisturbed + kills * 2 * 2
    assert not list(out.glob(f"{RUNNING}/*.state"))


STOPPED = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import dynprune_agents
from dynprune_env.benchmark.runner import run_sweep
from test_resume import slow_groups
folder = Path(sys.argv[1])
try:
    list(run_sweep(
        slow_groups(folder, 40, 3), dynprune_agents.make, folder / "out", jobs=int(sys.argv[3])
    ))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_saves_the_epochs_done(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_agent.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    command = [sys.executable, "-c", STOPPED, str(tmp_path), str(Path(__file__).parent), str(jobs)]
    log = tmp_path / "log.txt"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 5):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert out.decode().strip() == "interrupted", err.decode()
    assert "once more stops at once" in err.decode()
    done = log.read_text().count("\n")
    states = list((tmp_path / "out" / RUNNING).iterdir())
    assert 1 <= len(states) <= jobs
    assert {path.suffix for path in states} == {".state"}
    groups = slow_groups(tmp_path, 40, 3)
    outcomes = list(run_sweep(groups, dynprune_agents.make, tmp_path / "out"))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    # Nothing was played twice.
    assert log.read_text().count("\n") == 3 * 40
    assert 5 <= done < 3 * 40
    assert not load_failures([tmp_path / "out"])


@pytest.mark.parametrize("edited", [False, True])
def test_a_state_is_gone_on_with_unless_the_task_was_edited(
    edited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / f"task_edited_{edited}.py"
    register = f"register_task('Edited{edited}', own_words)"
    module.write_text(
        f"from helpers import own\nfrom dynprune_env import register_task\n"
        f"def own_words(): return own.own_words()\n{register}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_OWN", dict(registry._OWN))
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    import_module(module.stem)
    task = {"env": f"DynPrune-Edited{edited}-v0", "train_size": None}
    full = len(play("ucb", **task)[0].history["kept"])
    stop_after(1, "ucb", tmp_path / "run.state", **task)
    if edited:
        module.write_text(module.read_text() + "# edited\n")
        sys.modules.pop(module.stem)  # as a new process would read it
        invalidate_caches()
        import_module(module.stem)
    epochs: list[Any] = []
    play("ucb", Checkpoint(tmp_path / "run.state"), on_epoch=epochs.append, **task)
    gym.registry.pop(task["env"])
    assert len(epochs) == full - (not edited)
