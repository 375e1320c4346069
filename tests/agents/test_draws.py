"""What several rules draw and compute with: properties, and values by hand."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynprune_agents._draws import gumbel, race, shares, top_of_each_class
from dynprune_agents._history import LossHistory
from dynprune_agents.weighted import importance_sampling
from dynprune_agents.weighted.align_prune import correlation
from dynprune_agents.weighted.importance_sampling import inclusion, systematic
from dynprune_env.common.randomness import ReplicaRandom

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=6)

# -- draws without replacement -----------------------------------------------------------------


@pytest.mark.parametrize("draw", ["gumbel", "race"])
def test_scores_draw_in_proportion_and_without_replacement(draw: str) -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    rng = ReplicaRandom(MANY)
    scores = race(np.tile(p, (len(MANY), 1)), rng) if draw == "race" else np.log(p) + gumbel(4, rng)
    first_two = scores >= np.sort(scores, axis=1)[:, -2:-1]
    best = scores >= scores.max(1, keepdims=True)
    assert_frequencies(best, p)
    # In two draws i comes first, or after another j, of which 1 - p_j is left.
    both = [p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(4) if j != i) for i in range(4)]
    assert_frequencies(first_two, both)


def test_a_race_ranks_as_gumbel_noise_does_and_leaves_weights_of_zero_for_last() -> None:
    weights = np.random.default_rng(0).exponential(size=40_000) ** 2
    weights[::7] = 0
    with np.errstate(divide="ignore"):
        expected = np.log(weights) + gumbel(len(weights), ReplicaRandom(1))
    scores = race(weights, ReplicaRandom(1))
    np.testing.assert_array_equal(np.argsort(scores)[6_000:], np.argsort(expected)[6_000:])
    assert (np.isneginf(scores) == (weights == 0)).all()


# -- how many of each class --------------------------------------------------------------------


@given(st.data(), SIZES, st.floats(0, 1))
def test_classes_share_exactly_and_give_no_more_than_they_have(
    data: Any, sizes: list[int], part: float
) -> None:
    wanted = data.draw(st.lists(st.floats(0, 5), min_size=len(sizes), max_size=len(sizes)))
    count = math.floor(part * sum(sizes))
    drawn = shares(np.array(wanted), np.array(sizes), count)
    assert drawn.sum() == count
    assert (drawn >= 0).all()
    assert (drawn <= sizes).all()


@given(SIZES, st.floats(0, 1))
def test_shares_by_size_are_within_one_of_the_even_share(sizes: list[int], part: float) -> None:
    count = math.floor(part * sum(sizes))
    drawn = shares(np.array(sizes), np.array(sizes), count)
    even = np.array(sizes) * count / max(1, sum(sizes))
    assert (np.abs(drawn - even) < 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("wanted", "sizes", "count", "drawn"),
    [
        ([0.8660, 0.5], [6, 2], 4, [3, 1]),  # 2.536 and 1.464
        ([1, 1], [10, 1], 6, [5, 1]),  # what the second cannot give the first does
        ([1, 1, 2], [100, 100, 3], 11, [4, 4, 3]),  # 2.75 2.75 5.5: the third gives its three
        ([0, 1], [5, 5], 3, [0, 3]),
        ([0, 1], [5, 2], 3, [1, 2]),  # a class that wants none gives what no other can
        ([1, 1, 1], [9, 9, 9], 7, [3, 2, 2]),
        ([3, 1], [4, 4], 8, [4, 4]),
    ],
)
def test_shares_by_hand(
    wanted: list[float], sizes: list[int], count: int, drawn: list[int]
) -> None:
    assert shares(np.array(wanted), np.array(sizes), count).tolist() == drawn


@given(st.data(), st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_of_each_class_the_highest_scores_are_kept(data: Any, labels: list[int]) -> None:
    n = len(labels)
    scores = np.array(data.draw(st.permutations(range(n))), dtype=float)
    sizes = np.bincount(labels, minlength=5)
    counts = np.array([data.draw(st.integers(0, size)) for size in sizes])
    mask = top_of_each_class(scores, np.array(labels), counts, sizes)
    for label, count in enumerate(counts):
        own = [i for i in range(n) if labels[i] == label]
        best = sorted(own, key=lambda i: -scores[i])[:count]
        assert {i for i in own if mask[i]} == set(best)


# -- importance sampling -----------------------------------------------------------------------

IMPORTANCE = arrays(np.float64, st.integers(1, 40), elements=st.floats(1e-3, 1e3))


@given(IMPORTANCE, st.floats(0, 1))
@example(np.array([1.9]), 1.0)  # 1.9 / 1.9 rounds to less than one in two steps
@example(np.array([100.0, 1.9]), 1.0)
def test_chances_sum_to_the_count_in_proportion_up_to_certainty(
    importance: np.ndarray, part: float
) -> None:
    count = round(part * len(importance))
    chances = inclusion(importance, count)
    assert chances.sum() == pytest.approx(count, rel=1e-9, abs=1e-12)
    assert (chances >= 0).all()
    assert (chances <= 1).all()
    open_ = chances < 1
    if count and open_.any():
        rate = chances[open_] / importance[open_]
        assert rate == pytest.approx(np.full(len(rate), rate[0]))
        # What is certain would be at least so at the rate of the others.
        assert (importance[~open_] * rate[0] >= 1 - 1e-6).all()
    if count == len(importance):
        assert (chances == 1).all()


def test_chances_by_hand() -> None:
    assert inclusion(np.array([1.0, 1, 2]), 2) == pytest.approx([0.5, 0.5, 1])
    # Twice 10 of 14 is more than one: the first is certain, the others share what is left.
    assert inclusion(np.array([10.0, 1, 1, 2]), 2) == pytest.approx([1, 0.25, 0.25, 0.5])
    assert inclusion(np.array([3.0, 5]), 0) == pytest.approx([0, 0])


@given(IMPORTANCE, st.floats(0, 1), st.integers(0, 99))
def test_a_systematic_draw_has_the_size_of_its_chances_and_keeps_what_is_certain(
    importance: np.ndarray, part: float, seed: int
) -> None:
    count = round(part * len(importance))
    chances = inclusion(importance, count)
    drawn = systematic(chances, np.random.default_rng(seed))
    assert drawn.sum() == count
    assert drawn[chances == 1].all()
    assert not drawn[chances == 0].any()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("many", [True, False])
def test_a_systematic_draw_has_each_samples_own_chance(
    many: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance_sampling, "HAS_NUMBA", compiled)
    monkeypatch.setattr(importance_sampling, "LARGE", 1 if many else 100_000)
    chances = np.array([0.9, 0.05, 0.4, 1.0, 0.65, 0.3, 0.7])
    draws = np.array([systematic(chances, np.random.default_rng(seed)) for seed in MANY])
    assert (draws.sum(1) == 4).all()
    assert_frequencies(draws, chances)
    # In a random order no two samples exclude each other.
    for one, other in combinations(range(7), 2):
        if min(chances[one], chances[other]) > 0.2:
            assert (draws[:, one] & draws[:, other]).any()


# -- trajectories ------------------------------------------------------------------------------


def seen(loss: Any, visits: Any) -> dict[str, np.ndarray]:
    return {"loss": np.float32(loss), "visits": np.float32(visits)}


def test_a_history_keeps_the_last_losses_of_visits_and_their_epochs() -> None:
    history = LossHistory(2)
    history.watch(seen([2.3, 2.3, 2.3], [0, 0, 0]), 0)
    assert history.counts.tolist() == [0, 0, 0]
    history.watch(seen([1.0, 2.0, 2.3], [1, 1, 0]), 1)
    history.watch(seen([0.5, 2.0, 2.3], [2, 1, 0]), 2)
    history.watch(seen([0.25, 1.0, 2.3], [3, 2, 0]), 3)
    nan = np.nan
    np.testing.assert_array_equal(history.losses, [[0.5, 2.0, nan], [0.25, 1.0, nan]])
    np.testing.assert_array_equal(history.epochs, [[2, 1, nan], [3, 3, nan]])
    assert history.counts.tolist() == [2, 2, 0]


@given(arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 5))), st.integers(1, 4))
def test_a_history_is_the_tail_of_what_was_visited(visited: np.ndarray, length: int) -> None:
    losses = np.random.default_rng(0).random(visited.shape).astype(np.float32)
    history = LossHistory(length)
    shown = np.full(visited.shape[1], 9, dtype=np.float32)
    history.watch(seen(shown, np.zeros(len(shown))), 0)
    for epoch, (mask, loss) in enumerate(zip(visited, losses, strict=True), start=1):
        shown = np.where(mask, loss, shown)
        history.watch(seen(shown, visited[:epoch].sum(0)), epoch)
    for i in range(visited.shape[1]):
        epochs = np.flatnonzero(visited[:, i])[-length:]
        known = history.counts[i]
        assert known == len(epochs)
        assert np.isnan(history.losses[: length - known, i]).all()
        assert history.losses[length - known :, i].tolist() == losses[epochs, i].tolist()
        assert history.epochs[length - known :, i].tolist() == (epochs + 1).tolist()


def test_a_history_of_replicas_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    visits = np.cumsum(rng.random((6, 2, 5)) < 0.5, axis=0)
    losses = rng.random((6, 2, 5))
    together, alone = LossHistory(3), [LossHistory(3), LossHistory(3)]
    for epoch in range(6):
        together.watch(seen(losses[epoch], visits[epoch]), epoch)
        for row, history in enumerate(alone):
            history.watch(seen(losses[epoch, row], visits[epoch, row]), epoch)
    for row, history in enumerate(alone):
        np.testing.assert_array_equal(together.losses[:, row], history.losses)
        np.testing.assert_array_equal(together.epochs[:, row], history.epochs)


def test_correlations_by_hand() -> None:
    reference = np.array([2, 1.5, 1.2, 1.0])
    losses = np.array([[1, 0.8, 0.5, 0.4], [0.5, 0.9, 0.7, 1.1], [1, 1, 1, 1]]).T
    found = correlation(losses, np.broadcast_to(reference[:, None], losses.shape))
    assert found == pytest.approx([0.98104, -0.80143, 0], abs=1e-5)


@given(
    arrays(np.float64, (6, 4), elements=st.floats(0, 20)),
    arrays(np.float64, (6, 4), elements=st.floats(0, 20)),
    arrays(np.bool_, (6, 4)),
)
def test_a_correlation_is_that_of_what_both_have(
    left: np.ndarray, right: np.ndarray, gone: np.ndarray
) -> None:
    left, right = (np.where(gone, np.nan, np.round(part, 2)) for part in (left, right))
    found = correlation(left, right)
    assert (np.abs(found) <= 1 + 1e-9).all()
    for i in range(4):
        one, other = (part[~gone[:, i], i] for part in (left, right))
        if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
            assert found[i] == 0
        else:
            assert found[i] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)
