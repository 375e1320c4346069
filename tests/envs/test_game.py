"""The rules of the game: visits, budget, schedule, settings and actions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from helpers.episodes import (
    assert_same,
    go_on,
    make,
    make_vector,
    play,
    random_masks,
    watch_passes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynprune_env.selection.budget import batch_sizes
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.training import module_learner, trainer

FULL = np.ones(48)

# -- visits and budget ----------------------------------------------------------------------------


@given(
    masks=arrays(bool, (4, 3, 24)),
    budget=st.floats(0.02, 1),
    observe=st.sampled_from(["visited", "all"]),
)
@settings(max_examples=40)
def test_what_is_trained_is_what_is_charged(masks: np.ndarray, budget: float, observe: str) -> None:
    env = make_vector(3, train_size=24, budget=budget, observe=observe)
    env.reset(seed=0)
    passes = watch_passes(env)
    times = np.zeros((3, 24))
    ended = np.zeros(3, dtype=bool)
    for mask in masks:
        observations, _, terminations, _, infos = env.step(mask)
        for row, each in enumerate(passes[-1]):
            trained = each.order.numpy()
            assert mask[row, trained].all()
            assert infos["kept"][row] == len(trained) == len(set(trained))
            assert not (ended[row] and len(trained))
            times[row, trained] += 1
        np.testing.assert_array_equal(observations["visits"], times)
        np.testing.assert_array_equal(infos["run_visits"], times.sum(1))
        charged = infos["run_visits"] + infos["scored"] / 3
        assert (charged <= max(1, round(budget * 4 * 24)) + 1e-9).all()
        np.testing.assert_allclose(infos["saved"], 1 - charged / (4 * 24))
        ended = terminations
    full = masks.all(axis=(0, 2))
    assert ended[full].all()


@pytest.mark.parametrize("budget", [0.1, 0.3, 0.5, 1.0])
def test_full_data_end_after_the_budgets_share_of_the_epochs(budget: float) -> None:
    steps = play(make(epochs=10, budget=budget), [FULL] * 20, seed=0)
    assert len(steps) - 1 == budget * 10
    assert steps[-1][-1]["run_visits"] == budget * 10 * 48
    assert steps[-1][-1]["spent"] == steps[-1][-1]["run_progress"] == 1


@pytest.mark.parametrize("budget", [0.25, 0.5, 0.75])
def test_even_spending_ends_exactly_with_the_last_epoch(budget: float) -> None:
    mask = np.arange(48) < 48 * budget
    infos = [step[-1] for step in play(make(budget=budget), [mask] * 9, seed=0)]
    assert [info["spent"] for info in infos] == [0, 0.25, 0.5, 0.75, 1]
    assert [info["run_progress"] for info in infos] == [0, 0.25, 0.5, 0.75, 1]


def test_the_pass_stops_where_the_budget_ends(back_end: dict[str, Any]) -> None:
    cut, whole = make(budget=0.35, **back_end), make(budget=1.0, **back_end)
    orders = []
    for env in (cut, whole):
        env.reset(seed=0)
        passes = watch_passes(env)
        steps = go_on(env, [FULL, FULL])
        orders.append(passes[1][0].order.tolist())
        if env is cut:
            (_, _, first, _, _), (observation, _, last, _, info) = steps
            assert (first, last) == (False, True)
    left = round(0.35 * 4 * 48) - 48
    assert orders[0] == orders[1][:left]
    assert (info["kept"], info["run_visits"], info["spent"]) == (left, 48 + left, 1)
    np.testing.assert_array_equal(np.flatnonzero(observation["visits"] == 2), sorted(orders[0]))


@pytest.mark.parametrize("kept", [0, 1, 48])
def test_any_number_of_samples_can_be_kept(kept: int, back_end: dict[str, Any]) -> None:
    env = make(budget=1.0, **back_end)
    infos = [step[-1] for step in play(env, [np.arange(48) < kept] * 9, seed=0)]
    assert [info["kept"] for info in infos] == [0] + [kept] * 4


def test_an_empty_mask_changes_only_the_time(back_end: dict[str, Any]) -> None:
    env = make(**back_end)
    env.reset(seed=0)
    before = env.step(FULL)
    logits = env.vector.trainer.learner.score("val", torch.arange(10), [0])
    observation, reward, _, _, info = env.step(0 * FULL)
    assert_same(env.vector.trainer.learner.score("val", torch.arange(10), [0]), logits)
    assert reward == 0
    assert (info["epoch"], info["kept"], info["run_visits"]) == (2, 0, 48)
    np.testing.assert_array_equal(observation["age"], before[0]["age"] + 1)
    for name in set(observation) - {"age", "progress"}:
        np.testing.assert_array_equal(observation[name], before[0][name])


# -- the schedule ---------------------------------------------------------------------------------


def test_the_cycle_starts_at_4_percent_peaks_after_the_warmup_and_ends_at_0() -> None:
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.5, warmup=0.2)
    rates = recipe.rate(np.array([0.0, 0.1, 0.2, 0.6, 1.0]))
    np.testing.assert_allclose(rates, [0.02, 0.26, 0.5, 0.25, 0.0], atol=1e-15)


@pytest.mark.parametrize(
    ("budget", "share", "observe", "progress"),
    [
        (1.0, 1.0, "visited", [0, 0.25, 0.5, 0.75, 1]),  # a full run
        (0.5, 1.0, "visited", [0, 0.5, 1]),  # spends twice as fast: half the epochs
        (0.35, 1.0, "visited", [0, 48 / 67, 1]),  # the last pass is cut
        (0.5, 0.25, "visited", [0, 0.25, 0.5, 0.75, 1]),  # spends little: time passes anyway
        (0.25, 0.25, "all", [0, 0.5, 1]),  # 12 + 36 / 3 of 48: what is scored is spent as well
    ],
)
def test_the_learning_rate_follows_progress_within_each_epoch(
    budget: float, share: float, observe: str, progress: list[float]
) -> None:
    env = make(budget=budget, observe=observe)
    env.reset(seed=0)
    passes = watch_passes(env)
    infos = [step[-1] for step in go_on(env, [np.arange(48) < share * 48] * 9)]
    np.testing.assert_allclose([0, *(info["run_progress"] for info in infos)], progress)
    spans = pairwise(progress)
    for (each,), info, (start, end) in zip(passes, infos, spans, strict=True):
        batches = max(1, (info["kept"] + 8) // 16)  # the last one of 8 to 23
        middles = [start + (end - start) * (batch + 0.5) / batches for batch in range(batches)]
        np.testing.assert_allclose(each.rates, env.settings.recipe.rate(np.array(middles)))


@given(count=st.integers(1, 400), batch_size=st.integers(1, 90))
def test_a_pass_is_cut_into_full_batches_and_a_last_one_of_half_to_one_and_a_half(
    count: int, batch_size: int
) -> None:
    *full, last = batch_sizes(count, batch_size)
    assert full == [batch_size] * len(full)
    assert sum(full) + last == count
    assert last < 1.5 * batch_size
    assert last >= min(count, batch_size / 2)


def test_two_samples_more_than_whole_batches_do_not_ruin_batch_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = make(task="Clutter", train_size=1000, epochs=12, batch_size=64, budget=0.5)
    draws = np.random.default_rng(0).random((12, 1000)).argsort()

    def accuracy(kept: int) -> float:
        last = [play(env, draws < kept, seed=seed)[-1][-1] for seed in range(3)]
        return float(np.mean([info["val_accuracy"] for info in last]))

    def plain(count: int, size: int) -> list[int]:
        return [min(size, count - start) for start in range(0, count, size)]

    whole, joined = accuracy(448), accuracy(450)
    monkeypatch.setattr(module_learner, "batch_sizes", plain)
    monkeypatch.setattr(trainer, "batch_count", lambda count, size: -(-count // size))
    apart = accuracy(450)
    assert whole > 0.25
    assert joined > 0.8 * whole
    assert apart < 0.8 * whole


def test_a_pass_over_one_sample_trains_a_net_with_batch_norm() -> None:
    env = make(task="Clutter", train_size=100, budget=1.0)  # pools down to one pixel: no variance
    infos = [step[-1] for step in play(env, [np.arange(100) < 1] * 2, seed=0)]
    assert [info["kept"] for info in infos] == [0, 1, 1]
    assert infos[0]["val_loss"] != infos[1]["val_loss"] != infos[2]["val_loss"]


def test_the_rates_of_a_full_run_are_these() -> None:
    env = make(budget=1.0, epochs=5, learning_rate=0.2)  # three batches, the peak after one epoch
    env.reset(seed=0)
    passes = watch_passes(env)
    go_on(env, [FULL] * 5)
    rates = np.concatenate([each.rates for (each,) in passes])
    assert len(rates) == 15
    # progress 1/30, 1/10 and 1/6 of a rise from 0.008 to 0.2 that ends at 1/5
    np.testing.assert_allclose(rates[:3], [0.04, 0.104, 0.168])
    # progress 29/30: 0.1 (1 + cos(π 23/24))
    np.testing.assert_allclose(rates[-1], 0.0008555139)
    assert rates.argmax() == 3


# -- settings -------------------------------------------------------------------------------------

NO_GAME = [
    {"budget": 0.0},
    {"budget": 1.01},
    {"budget": float("nan")},
    {"epochs": 0},
    {"epochs": 2.5},
    {"batch_size": 0},
    {"batch_size": 2.5},
    {"learning_rate": 0.0},
    {"learning_rate": float("nan")},
    {"learning_rate": float("inf")},
    {"train_size": 0},
    {"train_size": 20.5},
    {"train_size": 1001},
    {"reward": "loss"},
    {"observation": "sample"},
    {"action": "masks"},
    {"observe": "some"},
    {"precision": "fp16"},
    {"task": "digits"},
    {"model": "mlp(size=3)"},
]


@pytest.mark.parametrize("settings", NO_GAME, ids=str)
def test_settings_that_make_no_game_are_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        make(**settings)


# -- actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64, list])
def test_masks_may_be_bools_or_zeros_and_ones_of_any_type(dtype: Any) -> None:
    masks = random_masks(make(), 4)
    others = masks.astype(int).tolist() if dtype is list else masks.astype(dtype)
    assert_same(play(make(), others, seed=0), play(make(), masks, seed=0))


BAD = {
    "too short": ("mask", np.ones(47)),
    "too long": ("mask", np.ones(49)),
    "a number": ("mask", 1),
    "one axis too many": ("mask", np.ones((1, 48))),
    "not 0 or 1": ("mask", np.full(48, 0.5)),
    "2": ("mask", np.full(48, 2)),
    "-1": ("mask", np.full(48, -1)),
    "NaN": ("mask", np.where(np.arange(48), 1, np.nan)),
    "text": ("mask", np.full(48, "1")),
    "objects": ("mask", np.full(48, None)),
    "complex": ("mask", np.ones(48, dtype=complex)),
    "negative weight": ("weights", np.where(np.arange(48), 1, -0.1)),
    "NaN weight": ("weights", np.where(np.arange(48), 1, np.nan)),
    "infinite weight": ("weights", np.where(np.arange(48), 1, np.inf)),
    "huge weight": ("weights", np.full(48, 1000.0)),
    "missing tilt": ("tilts", np.zeros(7)),
    "tilt beyond 1": ("tilts", np.full(8, 1.1)),
    "NaN quantile": ("quantiles", np.full(10, np.nan)),
    "quantile beyond -1": ("quantiles", np.full(10, -1.1)),
    "no such strategy": ("strategy", 7),
    "a negative strategy": ("strategy", -1),
    "half a strategy": ("strategy", 1.5),
    "two strategies": ("strategy", [1, 2]),
}


@pytest.mark.parametrize(("action", "bad"), BAD.values(), ids=BAD)
def test_a_bad_action_is_refused_and_the_episode_goes_on(action: str, bad: Any) -> None:
    env, other = make(action=action), make(action=action)
    good = np.zeros(env.action_space.shape) if action != "mask" else FULL
    steps = play(env, [good], seed=0)
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        env.step(bad)
    assert_same([*steps, env.step(good)], play(other, [good] * 2, seed=0))


@pytest.mark.parametrize(
    "bad",
    [np.ones(48), np.ones((2, 48)), np.ones((3, 47)), np.where(np.eye(3, 48), np.nan, 1)],
    ids=["no replica axis", "a replica too few", "too short", "NaN in each row"],
)
def test_a_bad_action_of_one_row_is_refused_for_all(bad: np.ndarray) -> None:
    env, other = make_vector(3), make_vector(3)
    good = np.ones((3, 48))
    steps = play(env, [good], seed=0)
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        env.step(bad)
    assert_same([*steps, env.step(good)], play(other, [good] * 2, seed=0))


@pytest.mark.parametrize("env", [make(), make_vector(2)], ids=["single", "vector"])
def test_the_game_begins_with_a_reset(env: Any) -> None:
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.ones(env.action_space.shape))
    with pytest.raises(ResetNeeded, match="reset"):
        env.evaluate("test")


def test_an_ended_episode_needs_a_reset() -> None:
    env = make()
    assert play(env, [FULL] * 9, seed=0)[-1][2]
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(FULL)
    env.reset()
    assert env.step(FULL)[-1]["epoch"] == 1
