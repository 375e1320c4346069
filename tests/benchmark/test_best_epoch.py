"""Test accuracy at the best epoch by val is recorded beside a run, and touches nothing of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dynprune_agents
from dynprune_env import Result, run_episodes
from dynprune_env.benchmark.best_epoch import BestEpoch
from dynprune_env.benchmark.checkpoints import Checkpoint, Stopped
from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.replay import validate
from dynprune_env.benchmark.runner import run_sweep
from dynprune_env.envs.vector_env import DynPruneVectorEnv

DIGITS = "DynPrune-Digits-v0"
NOISY: dict[str, Any] = {"train_size": 200, "epochs": 8, "label_noise": 0.4, "budget": 0.5}


def play(best_epoch: bool = True, **others: Any) -> list[Result]:
    agent = dynprune_agents.make(others.pop("agent", "dynamic_random"))
    kwargs = {**NOISY, **others.pop("env_kwargs", {})}
    return run_episodes(
        DIGITS, agent, [0, 1, 2], env_kwargs=kwargs, device="cpu", best_epoch=best_epoch, **others
    )


def test_the_test_accuracy_is_that_of_the_first_epoch_of_best_val_accuracy() -> None:
    curves: list[np.ndarray] = []
    results = play()
    agent = dynprune_agents.make("dynamic_random")
    env = DynPruneVectorEnv(num_envs=3, autoreset_mode="Disabled", device="cpu", **NOISY)
    observation, _ = env.reset(seed=[0, 1, 2])
    agent.reset(env.episode((0, 1, 2)))
    while not env.ended.all():
        observation, *_ = env.step(agent.select(observation))
        curves.append(env.evaluate("test").accuracy)
    for row, result in enumerate(results):
        val = result.history["val_accuracy"]
        best = int(np.argmax(val))
        assert result.best_epoch == BestEpoch(best + 1, val[best], curves[best][row])
        assert result.test_accuracy == curves[-1][row]
    assert any(result.best_epoch.epoch < 8 for result in results if result.best_epoch)


@pytest.mark.parametrize("agent", ["dynamic_random", "ucb", "small_loss"])
def test_recording_it_changes_no_other_number(agent: str) -> None:
    def numbers(result: Result) -> dict[str, Any]:
        content = asdict(result)
        del content["seconds"], content["history"]["seconds"], content["best_epoch"]
        return content

    with_it, without = play(agent=agent), play(False, agent=agent)
    assert list(map(numbers, with_it)) == list(map(numbers, without))
    assert all(result.best_epoch is None for result in without)


def test_a_run_that_goes_on_remembers_the_best_epoch_before_the_stop(tmp_path: Path) -> None:
    whole = play()
    checkpoint = Checkpoint(tmp_path / "state", every=0, stop=tmp_path / "stop")
    epochs = 0

    def stop_after_five(progress: np.ndarray) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 5:
            (tmp_path / "stop").touch()

    with pytest.raises(Stopped):
        play(checkpoint=checkpoint, on_epoch=stop_after_five)
    (tmp_path / "stop").unlink()
    gone_on = play(checkpoint=checkpoint, on_epoch=stop_after_five)
    assert epochs == 8
    assert [each.best_epoch for each in gone_on] == [each.best_epoch for each in whole]
    assert any(each.best_epoch.epoch <= 5 for each in whole if each.best_epoch)


def test_a_state_without_it_is_not_gone_on_with(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", every=0)
    play(False, checkpoint=checkpoint)  # leaves what has ended
    assert all(result.best_epoch is not None for result in play(checkpoint=checkpoint))


def test_a_sweep_plays_again_what_lacks_it_and_then_leaves_it_alone(tmp_path: Path) -> None:
    group = RunGroup(DIGITS, {**NOISY, "epochs": 3}, "dynamic_random", (0, 1))

    def sweep(best_epoch: bool) -> int:
        outcomes = run_sweep(
            [group], dynprune_agents.make, tmp_path, device="cpu", best_epoch=best_epoch
        )
        return sum(len(outcome.results) for outcome in outcomes)

    assert [sweep(False), sweep(True), sweep(True), sweep(False)] == [2, 2, 0, 0]


def test_it_is_saved_read_and_replayed_and_a_file_without_it_is_as_it_ever_was(
    tmp_path: Path,
) -> None:
    result, plain = play()[0], play(False)[0]
    assert Result.load(result.save(tmp_path)) == result
    assert [verdict.identical for verdict in validate([result], dynprune_agents.make)] == [True]
    assert "best_epoch" not in json.loads(plain.save(tmp_path).read_text())


@pytest.mark.parametrize(
    "wrong", [BestEpoch(9, 0.5, 0.5), BestEpoch(-1, 0.5, 0.5), BestEpoch(1, 0.5, 1.5)]
)
def test_a_file_with_an_impossible_best_epoch_is_no_result(tmp_path: Path, wrong: Any) -> None:
    path = replace(play()[0], best_epoch=wrong).save(tmp_path)
    with pytest.raises(ValueError, match="best epoch"):
        Result.load(path)


def test_the_seconds_are_those_of_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynprune_env.training.trainer import Trainer

    evaluate = Trainer.evaluate
    slept = 0.0

    def slow(self: Trainer, split: str, rows: Any = None) -> Any:
        nonlocal slept
        found = evaluate(self, split, rows)
        if split == "test" and rows is not None:  # of a best epoch
            self.seconds["evaluate"] += 100.0
            slept += 100.0
        return found

    monkeypatch.setattr(Trainer, "evaluate", slow)
    result = play()[0]
    assert slept > 0
    assert result.seconds["evaluate"] < 100
