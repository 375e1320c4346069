"""Compiled loops over many samples choose what the plain code chooses."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

import dynprune_agents
from benchmarks.speed.selection import EPOCHS, RandomRuns, observe
from dynprune_agents import _draws
from dynprune_agents._history import LossHistory
from dynprune_agents._percentiles import drawn_by_rank
from dynprune_agents.weighted import importance_sampling
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection import drawing, ranking
from dynprune_env.selection.agent import Episode

MODULES = [
    "_draws",
    "_history",
    "_losses",
    "bandits._linear",
    "dynamic.dyn_impt",
    "dynamic.es",
    "dynamic.molpeg",
    "dynamic.selective_backprop",
    "weighted.align_prune",
    "weighted.importance_sampling",
    "weighted.infobatch",
    "weighted.repb",
]

RULES = [
    "align_prune",
    "dyn_impt",
    "emp",
    "epsilon_greedy",
    "es",
    "eswp",
    "exp3",
    "importance_sampling",
    "infobatch",
    "linear_thompson",
    "linucb",
    "molpeg",
    "orderdp",
    "random_control",
    "random_infobatch",
    "rcap",
    "repb",
    "selective_backprop",
    "seta",
    "small_loss",
]


def set_paths(patch: pytest.MonkeyPatch, compiled: bool) -> None:
    """Compiled loops for as few as 20 samples, or none at all (but for ranks: ties are theirs)."""
    for name in MODULES:
        module = import_module(f"dynprune_agents.{name}")
        patch.setattr(module, "HAS_NUMBA", compiled)
        if hasattr(module, "LARGE"):
            patch.setattr(module, "LARGE", 20)
    patch.setattr(ranking, "_LARGE", 20 if compiled else 10**9)
    patch.setattr(drawing, "LARGE", 20 if compiled else 10**9)
    patch.setattr(ranking, "_SAMPLE", 16)


def played(rule: str, n: int, replicas: int, compiled: bool) -> list[np.ndarray]:
    """What a rule chooses in twelve epochs of random observations."""
    runs, rng = RandomRuns(n * replicas), np.random.default_rng(0)
    losses = runs.losses
    runs.losses = lambda *_, **__: losses().reshape(replicas, n)  # type: ignore[method-assign]
    visits: Any = 0
    agent, actions = dynprune_agents.make(rule), []
    with pytest.MonkeyPatch.context() as patch:
        set_paths(patch, compiled)
        agent.reset(Episode(n, 10, EPOCHS, 0.5, tuple(range(replicas)), runs))  # type: ignore[arg-type]
        before = None
        for epoch in range(13):
            flat = observe(n * replicas, epoch, rng)
            progress = np.tile(flat.pop("progress"), (replicas, 1))
            after = {name: column.reshape(replicas, n) for name, column in flat.items()}
            visits = visits + (rng.random((replicas, n)) < 0.7 if epoch else 0)
            after |= {"visits": np.float32(visits) * np.ones_like(after["loss"])}
            after["progress"] = progress
            if before is not None:
                actions.append(agent.select(before))
                agent.update(before, actions[-1], 0.1, after)
            before = after
    return actions


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("n", "replicas"), [(700, 2), (65, 1)])
def test_a_rule_chooses_the_same_compiled_and_plain(rule: str, n: int, replicas: int) -> None:
    pairs = zip(played(rule, n, replicas, True), played(rule, n, replicas, False), strict=True)
    for compiled, plain in pairs:
        assert compiled.dtype == plain.dtype
        np.testing.assert_allclose(compiled.astype(float), plain.astype(float), rtol=1e-6)


def test_values_are_chosen_as_numpy_chooses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_LARGE", 2)
    mask = np.array([[True, False, True], [False, False, True]])
    for kind in (np.float32, np.float64):
        values = np.arange(6, dtype=kind).reshape(2, 3)
        for other in (-np.inf, 3.0, -values):
            found, expected = ranking.where(mask, values, other), np.where(mask, values, other)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("values", [5, 1000])
def test_the_same_lies_between_two_bounds_compiled_and_plain(values: int) -> None:
    scores = np.float64(np.random.default_rng(0).integers(values, size=300))
    low, high = np.float64(values // 5), np.float64(values // 2)
    between, above, equal = ranking._split(scores, low, high)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "HAS_NUMBA", False)
        plain = ranking._split(scores, low, high)
    assert between.tolist() == plain[0].tolist()
    assert (above, equal) == plain[1:]


def test_the_first_of_equal_scores_are_the_top_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels = np.float64(rng.integers(6, size=400)), rng.integers(5, size=400)
    labels[labels == 3] = 2  # a class without samples
    sizes = np.bincount(labels, minlength=6)
    counts = np.array([0, sizes[1], 30, 0, 7, 0])
    plain = _draws.top_of_each_class(scores, labels, counts, sizes)
    monkeypatch.setattr(_draws, "LARGE", 1)
    found = _draws.top_of_each_class(scores, labels, counts, sizes)
    np.testing.assert_array_equal(found, plain)
    assert np.bincount(labels, found, 6).tolist() == counts.tolist()


def test_a_class_of_many_has_its_highest_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels = (
        rng.normal(size=20_000),
        rng.choice(6, 20_000, p=[0.5, 0.2, 0.2, 0.08, 0.02, 0]),
    )
    scores[labels == 1] = 3.0  # bounds of a sample do not help where all are equal
    sizes = np.bincount(labels, minlength=6)
    counts = (sizes * [0.5, 0.3, 0.01, 1, 0, 0]).astype(np.int64)
    plain = _draws.top_of_each_class(scores, labels, counts, sizes)
    monkeypatch.setattr(_draws, "LARGE", 1)
    monkeypatch.setattr(_draws, "SAMPLE", 2_000)
    for kind in (np.int64, np.float32):
        found = _draws.top_of_each_class(scores, labels.astype(kind), counts, sizes)
        np.testing.assert_array_equal(found, plain)


def test_sums_by_class_are_the_same_compiled_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    given = rng.random(200), np.float32(rng.integers(4, size=200)), rng.random(200) < 0.5, 5
    compiled = _draws.class_sums(*given)
    monkeypatch.setattr(_draws, "HAS_NUMBA", False)
    for found, plain in zip(compiled, _draws.class_sums(*given), strict=True):
        assert found == pytest.approx(plain)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("values", [1, 3, 2_000, 10**9])
def test_draws_against_ranks_need_not_all_of_them(values: int, beta: float) -> None:
    scores = np.float32(np.random.default_rng(0).integers(-values, values, size=5_000)) / 7
    ours, theirs = ReplicaRandom(3), ReplicaRandom(3)
    percentiles = ranking.rank(scores, theirs) / len(scores)
    expected = theirs.random(len(scores)) < percentiles ** np.float64(beta)
    np.testing.assert_array_equal(drawn_by_rank(scores, np.float64(beta), ours), expected)
    assert ours.random(1) == theirs.random(1)


def test_draws_that_differ_in_their_last_bits_are_put_in_order() -> None:
    draws = 0.5 + np.random.default_rng(0).integers(2**12, size=3000) * 2.0**-53
    draws[::7] = np.random.default_rng(1).random(len(draws[::7]))
    order = _draws.rising(draws)
    assert sorted(order) == list(range(3000))
    assert (np.diff(draws[order]) >= 0).all()
    assert _draws.rising(draws[:0]).tolist() == []


@pytest.mark.parametrize("count", [0, 1, 150, 299, 300])
def test_chances_are_the_same_compiled_and_plain(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    importance = np.random.default_rng(0).exponential(size=300) ** 3 + 1e-3
    plain = importance_sampling.inclusion(importance, count)
    monkeypatch.setattr(importance_sampling, "LARGE", 1)
    found = importance_sampling.inclusion(importance, count)
    assert found == pytest.approx(plain, rel=1e-12)
    assert found.sum() == pytest.approx(count)


def test_a_history_holds_eight_bytes_a_loss_and_twelve_a_sample() -> None:
    history = LossHistory(20)
    history.watch({"loss": np.ones(50, np.float32), "visits": np.ones(50, np.float32)}, 1)
    held = sum(value.nbytes for value in vars(history).values() if isinstance(value, np.ndarray))
    assert held == 50 * (20 * 8 + 12)


def test_histories_give_the_same_compiled_and_plain() -> None:
    rng, n, progress = np.random.default_rng(0), 1_100, np.zeros(7, np.float32)
    rules: Any = [dynprune_agents.make(rule) for rule in ("dyn_impt(window=5)", "align_prune")]
    visits = np.zeros(n, np.float32)
    for rule in rules:
        rule.reset(Episode(n, 10, 20, 0.5, 0, RandomRuns(n)))  # type: ignore[arg-type]
    for epoch in range(12):  # until some rings are full, and some are not
        loss = (5 + 1e-3 * rng.random(n)).astype(np.float32)
        loss[:100] = 0.1  # nothing varies
        progress[:] = 0.3 * epoch
        seen = {"loss": loss, "visits": visits.copy(), "progress": progress.copy()}
        for rule in rules:
            rule._history.watch(seen, epoch)
        rules[1]._reference.append(np.float32(rng.random()))
        visits += rng.random(n) < np.linspace(0, 1, n)
    deviations, slopes = (found[0] for found in rules[0]._trajectories())
    plain = rules[0]._plain_trajectories()
    np.testing.assert_allclose(deviations, plain[0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(slopes, plain[1], rtol=1e-12)
    assert (deviations[:100] == 0).all()
    expected = np.where(rules[1]._history.counts >= 4, rules[1]._plain_aligned(), 0)
    np.testing.assert_allclose(rules[1]._aligned()[0], expected, atol=1e-9)


def test_masks_of_many_samples_are_those_that_a_sort_gives() -> None:
    scores = np.random.default_rng(0).normal(size=200_000)
    mask = ranking.keep_top(scores, 70_000, ReplicaRandom(0))
    expected = np.zeros(len(scores), dtype=bool)
    expected[np.argsort(scores)[-70_000:]] = True
    np.testing.assert_array_equal(mask, expected)
