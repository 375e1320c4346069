"""The tables of speeds say no more than was measured."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.episodes import make

from benchmarks.speed import __main__ as table
from benchmarks.speed import command, floor, gpu


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1 + 1e-5, 1.5, 4.0), "met"),
        ((1.01, 1.0, 1.0), "missed"),
        ((np.nan, 1.0, 1.0), "missed"),
    ],
)
def test_the_first_epoch_is_to_agree_with_the_cpu_and_the_third_is_shown(
    factors: tuple[float, ...], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(device: str, task: str, size: int) -> np.ndarray:
        here = np.full((3, 3), 2.0)
        return here if device == "cpu" else here * np.array(factors)[:, None]

    monkeypatch.setattr(gpu, "_val_losses", losses)
    first, third = gpu.agreement_rows("cuda", "Digits", 1000)
    assert (first.verdict, third.verdict) == (verdict, "")
    np.testing.assert_allclose((first.ratio, third.ratio), np.array(factors)[[0, 2]] - 1)


def test_waits_are_those_within_the_step() -> None:
    def event(name: str, start: int, end: int) -> Any:
        return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))

    events = [
        event("cudaDeviceSynchronize", 1, 2),
        event("a step", 5, 50),
        event("aten::mm", 6, 7),
        event("cudaStreamSynchronize", 40, 49),
        event("cudaDeviceSynchronize", 51, 60),  # the profiler's own
    ]
    assert gpu.count_waits(events) == 1
    assert gpu.count_waits([*events, event("cudaEventSynchronize", 8, 9)]) == 2
    with pytest.raises(ValueError, match="'a step' is not among 1 profiled events"):
        gpu.count_waits(events[:1])


def test_off_cuda_waits_have_no_verdict() -> None:
    row = gpu.waits_row("cpu", gpu.DRY)
    assert (row.ours, row.verdict) == ("not measured", "")


@pytest.mark.parametrize("has_cuda", [True, False])
def test_a_part_is_measured_where_it_is_said(
    has_cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table.torch.cuda, "is_available", lambda: has_cuda)
    assert table.place("gpu", None) == ("cuda" if has_cuda else "cpu")
    assert table.place("steps", None) == "cpu"
    for part in ("gpu", "steps"):
        for device in ("cpu", "cuda:1", "mps"):
            assert table.place(part, device) == device


def test_the_floor_is_what_the_kernels_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])

    def lasting(owner: Any, name: str, seconds: float) -> None:
        function = getattr(owner, name)

        def slow(*arguments: Any) -> Any:
            now[0] += seconds
            return function(*arguments)

        monkeypatch.setattr(owner, name, slow)

    env = make(learner="numba", epochs=40)
    env.reset(seed=0)
    trainer = env.vector.trainer
    lasting(floor.numba_learner, "train_passes", 1)
    lasting(floor.numba_learner, "evaluate_rows", 10)
    lasting(trainer.learner, "train", 100)  # its Python
    lasting(trainer, "train_epoch", 1000)
    before = floor.numba_learner.train_passes
    mask = np.ones(48, dtype=bool)
    for owner, names, expected in (
        (floor.numba_learner, floor.KERNELS, 11),
        (trainer.learner, ("train", "evaluate"), 111),
    ):
        steps, within = floor.seconds_within(env, mask, 3, owner, names)
        assert steps.tolist() == [1111] * 3
        assert within.tolist() == [expected] * 3
    assert floor.numba_learner.train_passes is before


def test_a_whole_benchmark_is_timed_from_its_start_to_its_end() -> None:
    options = ["--agents", "dynamic_random", "--budgets", "0.3", "--seeds", "2", "--jobs", "1"]
    began = time.perf_counter()
    found = command.timed_bench([*options, "--env-kwargs", "epochs=3"])
    lasted = time.perf_counter() - began
    whole, first, last = (
        found[name] for name in ("seconds", "until the first result", "after the last result")
    )
    assert first > 0 and last > 0 and first + last <= whole <= lasted
    within = [found[f"of which {part}"] for part in command.WITHIN]
    assert 0 < sum(within) < found["CPU seconds of all processes"]
