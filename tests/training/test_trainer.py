"""A step is recorded as it was charged, and there may be nothing to evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make_vector, play, random_masks, watch_passes

from dynprune_env import DynPruneVectorEnv
from dynprune_env.selection.budget import batch_count, batch_sizes
from dynprune_env.training import trainer as engine
from dynprune_env.training.trainer import Trainer

NONE = np.zeros(0, dtype=np.int64)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_rows_are_evaluated_as_two_empty_arrays(split: str, back_end: dict[str, Any]) -> None:
    env = make_vector(2, **back_end)
    env.reset(seed=3)
    found = env.trainer.evaluate(split, NONE)
    assert [(each.shape, each.dtype) for each in found] == [((0,), np.dtype(np.float64))] * 2


def test_a_reset_of_no_run_changes_none(back_end: dict[str, Any]) -> None:
    env, other = make_vector(2, **back_end), make_vector(2, **back_end)
    masks = random_masks(env, 3)
    play(env, masks[:2], seed=3)
    expected = play(other, masks, seed=3)[-1]
    env.reset(options={"reset_mask": np.zeros(2, dtype=bool)})
    assert_same(env.step(masks[2]), expected)


def test_a_step_after_all_runs_have_ended_evaluates_none(back_end: dict[str, Any]) -> None:
    env = make_vector(2, **back_end, epochs=1)
    everything = np.ones(env.action_space.shape)
    play(env, [everything], seed=3)
    trainer = env.trainer
    before = trainer.statistics.state()
    orders = trainer.train_epoch(everything.astype(np.float32))
    assert [len(order) for order in orders] == [0, 0]
    assert [each.shape for each in trainer.val] == [(0,), (0,)]
    assert_same(trainer.statistics.state(), before)


def test_passes_are_those_of_each_replica_and_stay_as_they_are() -> None:
    env = make_vector(3)
    env.reset(seed=3)
    seen = watch_passes(env)
    masks = random_masks(env, 2, np.array([[0.2], [0.5], [0.9]]))
    env.step(masks[0])
    passes: Any = seen[0]
    seeds, orders = ([getattr(each, name) for each in passes] for name in ("seed", "order"))
    assert len(passes) == len(passes[:]) == len(set(seeds)) == 3
    np.testing.assert_array_equal(np.concatenate(orders), passes.order)
    for mask, order, rates in zip(masks[0], orders, (each.rates for each in passes), strict=True):
        assert sorted(order.tolist()) == np.flatnonzero(mask).tolist()
        assert len(rates) == len(batch_sizes(len(order), 16)) == batch_count(len(order), 16)
    env.step(masks[1])
    assert [each.seed for each in passes] == seeds
    for row in (-1, 3):
        with pytest.raises(IndexError, match="3 replicas"):
            passes[row]


def started(settings: dict[str, Any]) -> tuple[DynPruneVectorEnv, np.ndarray]:
    env = make_vector(3, **settings, observe="all")
    masks = random_masks(env, 3, 0.6)
    play(env, masks[:1], seed=3)
    return env, masks


def interrupted(*arguments: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["evaluation", "waiting"])
def test_an_interrupted_step_has_recorded_what_it_was_charged_for(
    where: str, back_end: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, masks = started(back_end)
    other, _ = started(back_end)
    other.step(masks[1])
    with monkeypatch.context() as patch:
        if where == "evaluation":
            patch.setattr(env.trainer.learner, "evaluate", interrupted)
        else:
            calls = iter([interrupted, engine.fetch])
            patch.setattr(engine, "fetch", lambda tensors: next(calls)(tensors))
        with pytest.raises(KeyboardInterrupt):
            env.step(masks[1])
    assert_same(env.trainer.statistics.state(), other.trainer.statistics.state())
    assert_same(env.trainer.budget.state(), other.trainer.budget.state())
    np.testing.assert_array_equal(env.trainer.train_loss, other.trainer.train_loss)
    assert (env.trainer.statistics.visits.sum(1) == env.trainer.budget.visits).all()
    expected, found = other.step(masks[2]), env.step(masks[2])
    assert_same(found[0], expected[0])


def test_of_an_interrupted_scoring_what_was_scored_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env, masks = started({})
    other, _ = started({})
    other.step(masks[1])
    score, rows = env.trainer.learner.score, []

    def watched(split: str, ids: torch.Tensor, asked: list[int]) -> torch.Tensor:
        rows.extend(asked)
        return interrupted() if asked == [1] else score(split, ids, asked)

    before = env.trainer.statistics.loss.copy()
    monkeypatch.setattr(env.trainer.learner, "score", watched)
    with pytest.raises(KeyboardInterrupt):
        env.step(masks[1])
    assert rows == [0, 1]
    found, whole = env.trainer.statistics.loss, other.trainer.statistics.loss
    np.testing.assert_array_equal(found[0], whole[0])
    np.testing.assert_array_equal(found[1:], np.where(masks[1], whole, before)[1:])
    assert (found[1:] != whole[1:]).any()


def test_an_error_in_training_is_the_one_that_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    env, masks = started({})
    monkeypatch.setattr(env.trainer.learner, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.step(masks[1])


def test_recording_belongs_to_the_seconds_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    env, masks = started({})
    now = [0.0]
    monkeypatch.setattr(engine.time, "perf_counter", lambda: now[0])

    def lasting(owner: Any, name: str, seconds: float) -> None:
        function = getattr(owner, name)

        def slow(*arguments: Any, **options: Any) -> Any:
            now[0] += seconds
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    lasting(env.trainer.learner, "train", 1)
    lasting(env.trainer.learner, "evaluate", 10)
    lasting(engine, "fetch", 100)
    lasting(Trainer, "_record_step", 1000)
    before = dict(env.trainer.seconds)
    env.trainer.train_epoch(masks[1].astype(np.float32))
    taken = {name: total - before[name] for name, total in env.trainer.seconds.items()}
    assert taken == pytest.approx({"train": 1001, "evaluate": 110})
