"""One number of threads wherever a run is played: a setting, recorded with the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, make_vector, play, random_masks, run_script
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn

import dynprune_agents
from dynprune_env import Recipe, Result, own_task, run_episodes
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.replay import validate
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.common.threads import allowed_threads, one_blas_thread, torch_threads
from dynprune_env.envs.settings import Settings
from dynprune_env.tasks.registry import TASKS

CALLER = 3


@pytest.fixture(params=[1, CALLER])
def caller(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many threads torch has where the environment is used."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers of threads in which a model of the task "Watched" is built and run."""
    seen: set[int] = set()

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            seen.add(torch.get_num_threads())
            return self.out(x)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 6)).astype(np.float32), np.arange(80) % 2
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.1)
    monkeypatch.setitem(TASKS, "Watched", own_task((x, y), (x, y), Watch, recipe))
    return seen


@pytest.mark.parametrize("threads", [1, 2])
def test_all_that_computes_on_a_model_takes_the_threads_of_the_settings(
    threads: int, caller: int, watched: set[int]
) -> None:
    env = make_vector(2, task="Watched", train_size=None, epochs=2, threads=threads, observe="all")
    env.reset(seed=0)
    fork, mask = env.fork(), random_masks(env, 1)[0]
    probe, runs = env.episode([0, 1]).probe, env.scoring_runs([0, 1])
    running = runs.run(0, 2)
    next(running)
    for call in (
        lambda: env.evaluate("test"),
        lambda: env.step(mask),
        lambda: env.reset(seed=1),
        lambda: fork.step(mask),
        probe.losses,
        probe.features,
        lambda: next(running),
        runs.values,
        runs.probabilities,
        runs.gradient_norms,
    ):
        watched.clear()
        call()
        assert watched == {threads}
        assert torch.get_num_threads() == caller
    assert env.trainer.threads == threads


@pytest.mark.parametrize("failing", ["step", "probe"])
def test_the_callers_threads_come_back_after_an_error(
    failing: str, caller: int, watched: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make(task="Watched", train_size=None, epochs=2, threads=2)
    env.reset(seed=0)

    def fail(*arguments: Any) -> Any:
        raise RuntimeError("broken")

    probe = env.episode(0).probe
    call = probe.losses if failing == "probe" else lambda: env.step(np.ones(72))
    monkeypatch.setattr(torch.nn.Linear, "forward", fail)
    with pytest.raises(RuntimeError, match="broken"):
        call()
    assert torch.get_num_threads() == caller


def test_who_draws_batches_from_a_probe_keeps_its_own_threads(caller: int) -> None:
    env = make(threads=2, learner="modules")
    env.reset(seed=0)
    for _ in env.episode(0).probe.batches(16):
        assert torch.get_num_threads() == caller
    for _ in env.scoring_runs(0).run(0, 2):
        assert torch.get_num_threads() == caller


@pytest.mark.parametrize("learner", ["auto", "numba", "stacked"])
def test_plain_nets_always_take_one_thread_and_round_alike(learner: str, caller: int) -> None:
    found = []
    for threads in (1, 4):
        env = make_vector(3, learner=learner, threads=threads)
        found.append(play(env, random_masks(env, 3), seed=1))
        assert env.trainer.threads == 1
    assert_same(*found)


def test_numba_deals_its_replicas_out_to_the_threads_of_the_caller(caller: int) -> None:
    with torch_threads(1), torch_threads(2):
        env = make_vector(3, learner="numba")
        env.reset(seed=1)
        assert env.trainer.learner.threads == allowed_threads() == caller
    assert allowed_threads() == caller


def test_a_convolutional_net_gives_the_same_numbers_whatever_the_caller_has(
    pictures: dict[str, Any],
) -> None:
    settings = {**pictures, "model": "small_cnn(width=16)"}
    found, before = [], torch.get_num_threads()
    try:
        for caller in (1, 2, 4):
            torch.set_num_threads(caller)
            env = make(**settings)
            found.append(play(env, random_masks(env, 2), seed=1))
    finally:
        torch.set_num_threads(before)
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def results_of(caller: int, **settings: Any) -> list[Result]:
    before = torch.get_num_threads()
    torch.set_num_threads(caller)
    try:
        return run_episodes(
            "DynPrune-Digits-v0",
            dynprune_agents.make("dynamic_random"),
            [0, 1],
            env_kwargs={"train_size": 48, "epochs": 2, **settings},
            device="cpu",
        )
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("settings", "recorded"),
    [
        ({}, 1),
        ({"threads": 2}, 1),
        ({"learner": "modules"}, 1),
        ({"learner": "modules", "threads": 2}, 2),
    ],
)
def test_a_result_records_the_threads_of_its_training(
    settings: dict[str, Any], recorded: int
) -> None:
    found = [results_of(caller, **settings) for caller in (1, CALLER)]
    assert {result.threads for results in found for result in results} == {recorded}
    for one, other in zip(*found, strict=True):
        assert (one.test_loss, one.selections) == (other.test_loss, other.selections)


def test_agents_compute_in_the_threads_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    agent_type = type(dynprune_agents.make("dynamic_random"))

    def watched_call(call: Any) -> Any:
        def watch(self: Any, *arguments: Any) -> Any:
            seen.add(torch.get_num_threads())
            return call(self, *arguments)

        return watch

    for name in ("prepare", "reset", "select", "update"):
        monkeypatch.setattr(agent_type, name, watched_call(getattr(agent_type, name)))
    results_of(CALLER)
    assert seen == {1}
    seen.clear()
    results_of(CALLER, threads=2)
    assert seen == {2}


@pytest.mark.slow
def test_the_same_sweep_gives_the_same_numbers_in_this_process_and_in_workers(
    tmp_path: Path,
) -> None:
    kwargs = {"train_size": 200, "epochs": 2, "budget": 0.5, "task": "Clutter"}
    group = RunGroup("DynPrune-Clutter-v0", kwargs, repr(dynprune_agents.make("full_data")), (0, 1))
    found, before = [], torch.get_num_threads()
    try:
        for jobs in (1, 2):
            torch.set_num_threads(4)
            outcomes = list(
                run_sweep([group], dynprune_agents.make, tmp_path / str(jobs), jobs=jobs)
            )
            assert [outcome.error for outcome in outcomes] == [None]
            files = sorted((tmp_path / str(jobs)).glob("*.json"))
            found.append([json.loads(path.read_text()) for path in files])
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) == 2
    for one, other in zip(*found, strict=True):
        for content in (one, other):
            del content["seconds"], content["history"]["seconds"]
        assert one == other


@pytest.mark.parametrize("settings", [{"learner": "modules", "threads": 2}, {"learner": "modules"}])
def test_a_replay_takes_the_recorded_threads(settings: dict[str, Any]) -> None:
    (result, _) = results_of(CALLER, **settings)
    (verdict,) = validate([result], dynprune_agents.make, device="cpu")
    assert verdict.replay.threads == result.threads
    assert verdict.identical and verdict.reproduced


def test_an_old_result_is_replayed_in_the_threads_that_it_had() -> None:
    """Before there was a setting, results took what the process had."""
    (result, _) = results_of(1, learner="modules", threads=2)
    kwargs = {k: v for k, v in result.config.env_kwargs.items() if k != "threads"}
    old = replace(result, config=replace(result.config, env_kwargs=kwargs))
    same = replace(result, threads=1)
    verdicts = list(validate([old, same], dynprune_agents.make, device="cpu"))
    assert [verdict.replay.threads for verdict in verdicts] == [2, 1]
    assert verdicts[0].identical


@pytest.mark.parametrize("wrong", [0, -1, 1025, 100_000])
def test_there_are_one_to_1024_threads(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"threads is a whole number in \[1, 1024\], got {wrong}"):
        Settings(threads=wrong)


@pytest.mark.parametrize("wrong", [1.0, "2", True, None])
def test_threads_are_a_whole_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="threads is int"):
        Settings(threads=wrong)


def test_a_state_belongs_to_a_number_of_threads() -> None:
    env = make(threads=2, learner="modules")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="settings"):
        make(threads=1, learner="modules").set_state(env.get_state())


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_numpys_linear_algebra_can_be_held_to_one_thread() -> None:
    before = blas_threads()
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_any_thread_can_hold_it_and_the_last_one_puts_the_number_back() -> None:
    found: dict[str, set[int]] = {}
    entered, left = Event(), Event()

    def leaves_last() -> None:
        with one_blas_thread():
            found["inside"] = blas_threads()
            entered.set()
            left.wait(60)
            found["first has left"] = blas_threads()

    other = Thread(target=leaves_last)
    with threadpool_limits(CALLER, user_api="blas"):  # set by this thread, which lives on
        with one_blas_thread():
            other.start()
            entered.wait(60)
        left.set()
        other.join()
        found["after"] = blas_threads()
    assert found == {"inside": {1}, "first has left": {1}, "after": {CALLER}}


def test_a_thread_holds_it_while_another_that_set_it_lives() -> None:
    found: list[set[int]] = []

    def hold() -> None:
        with one_blas_thread():
            found.append(blas_threads())
        found.append(blas_threads())

    with threadpool_limits(CALLER, user_api="blas"):
        other = Thread(target=hold)
        other.start()
        other.join()
    assert found == [{1}, {CALLER}]


def test_libraries_that_are_loaded_later_use_one_thread_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    script = """
from threadpoolctl import threadpool_info
from dynprune_env.common.threads import one_blas_thread
with one_blas_thread():
    import scipy.linalg
    print({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"})
"""
    assert run_script(script) == "{1}"
