"""What takes long on a processor says so before it begins, and tells how far it is."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest
from helpers.episodes import make

from dynprune_env.envs import env as single
from dynprune_env.envs import long_steps
from dynprune_env.envs.long_steps import LongSteps, in_words, seconds_of_step


def cnn(monkeypatch: pytest.MonkeyPatch, task: str = "Clutter", **settings: Any) -> Any:
    """A convolutional task whose steps are taken for long ones."""
    monkeypatch.setattr(long_steps, "WORTH_TIMING", 0)
    kwargs = {"train_size": 300, "device": "cpu", **settings}
    return single.DynPruneEnv(task=task, **kwargs)


def test_a_long_step_is_told_before_the_first_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_steps, "LONG", 0.0)
    env = cnn(monkeypatch)
    begun: list[Any] = []
    monkeypatch.setattr(
        "dynprune_env.training.trainer.Trainer.reset", lambda *a: begun.append(a) or 1 / 0
    )
    said = r"Clutter on a CPU \(small_cnn.*300 samples\)"
    with pytest.warns(LongSteps, match=said) as told, pytest.raises(ZeroDivisionError):
        env.reset(seed=0)
    (warning,) = told
    assert "a step that keeps everything takes about" in str(warning.message)
    assert "train_size, epochs and threads make it shorter" in str(warning.message)


def test_the_small_task_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_steps, "LONG", 0.0)
    monkeypatch.setattr(long_steps, "task_names", lambda: ["Clutter", "ClutterSmall"])
    with pytest.warns(LongSteps, match="DynPrune-ClutterSmall-v0 is its small task"):
        cnn(monkeypatch).reset(seed=0)


def test_short_steps_and_plain_nets_are_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cnn(monkeypatch).reset(seed=0)
        monkeypatch.setattr(long_steps, "LONG", 0.0)
        make(train_size=60).reset(seed=0)


def test_the_estimate_is_of_the_order_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    env = cnn(monkeypatch, train_size=700)
    env.reset(seed=0)
    guesses = [seconds_of_step(env.trainer) for _ in range(5)]
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        env.step(np.ones(700, dtype=bool))
        taken.append(time.perf_counter() - start)
    assert 1 / 8 < np.median(guesses) / np.median(taken) < 8


def test_timing_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for worth in (0.0, 1e8):
        env = cnn(monkeypatch)
        monkeypatch.setattr(long_steps, "WORTH_TIMING", worth)
        env.reset(seed=0)
        losses.append(env.step(np.ones(300, dtype=bool))[-1]["val_loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42, "40 seconds"), (130, "2 minutes"), (5400, "2 hours"), (800_000, "9 days")],
)
def test_times_are_told_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_window_tells_how_far_an_epoch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Pane:
        """Stands in for a window on a display."""

        def show(self, rgb: np.ndarray) -> None:
            """Nothing to see."""

        def tell(self, text: str) -> None:
            """Notes it."""
            told.append(text)

        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setattr(single, "Window", Pane)
    env = cnn(monkeypatch, render_mode="human")
    env.reset(seed=0)
    env.step(np.ones(300, dtype=bool))
    assert "epoch 1, 0%" in told
    assert any(text.startswith("epoch 1: evaluation on val") for text in told)
    assert len([text for text in told if text.startswith("epoch 1, ")]) >= 4
