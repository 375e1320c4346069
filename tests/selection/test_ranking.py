"""Scores become masks of exact size: higher is kept, ties fall evenly, rows stand alone."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynprune_env.common.randomness import Purpose, ReplicaRandom, stream_seed
from dynprune_env.selection import ranking as selection
from dynprune_env.selection.ranking import (
    count_true,
    draws_among,
    keep_top,
    rank,
    rank_sum,
    standardise,
)

SCORES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.sampled_from([-math.inf, -1.5, 0.0, 0.0, 1e-9, 2.0, math.inf]),
)
COUNTS = st.integers(-2, 15)


def random(rows: int = 1) -> ReplicaRandom:
    return ReplicaRandom(range(rows))


@given(SCORES, st.lists(COUNTS, min_size=4, max_size=4))
def test_each_row_keeps_exactly_its_count_of_the_highest_scores(
    scores: np.ndarray, each: list[int]
) -> None:
    rows, n = scores.shape
    mask = keep_top(scores, np.array(each[:rows]), random(rows))
    assert mask.dtype == bool
    assert mask.shape == scores.shape
    for row, count in enumerate(each[:rows]):
        kept, dropped = scores[row, mask[row]], scores[row, ~mask[row]]
        assert len(kept) == min(max(count, 0), n)
        assert min(kept, default=math.inf) >= max(dropped, default=-math.inf)


@given(SCORES, COUNTS)
def test_a_row_is_the_same_alone_without_an_axis_and_in_company(
    scores: np.ndarray, count: int
) -> None:
    together = keep_top(scores, count, ReplicaRandom([5, 6, 7, 8]))
    for row, seed in enumerate([5, 6, 7, 8][: len(scores)]):
        one_row = keep_top(scores[row][None], count, ReplicaRandom([seed]))
        no_axis = keep_top(scores[row], count, ReplicaRandom(seed))
        assert np.array_equal(together[row], one_row[0])
        assert np.array_equal(together[row], no_axis)


@given(
    hnp.arrays(
        np.float64,
        st.integers(20, 200),
        elements=st.sampled_from([-math.inf, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, math.inf]),
    ),
    st.data(),
)
def test_many_scores_have_the_threshold_that_sorting_finds(
    scores: np.ndarray, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(scores)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_LARGE", 20)
        patch.setattr(selection, "_SAMPLE", 8)
        assert selection._kth_highest(scores, count) == np.sort(scores)[-count]


@pytest.mark.parametrize("distribution", ["random", "standard_exponential", "standard_normal"])
def test_a_million_scores_have_the_threshold_that_sorting_finds(distribution: str) -> None:
    scores = getattr(np.random.default_rng(0), distribution)(1_000_000).astype(np.float32)
    for count in (1, 10, 300_000, 999_990, 1_000_000):
        assert selection._kth_highest(scores, count) == np.sort(scores)[-count]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, bool])
def test_any_numbers_can_be_scores(kind: type) -> None:
    mask = keep_top(np.array([[0, 1, 0], [1, 0, 0]], dtype=kind), 1, random(2))
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_the_scores_are_left_as_they_were() -> None:
    scores = np.array([3.0, 1, 2])
    keep_top(scores, 1, random())
    assert scores.tolist() == [3, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_score_that_is_no_number_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="NaN"):
        keep_top(np.array([[1, 2, 3], [1, math.nan, 3]]), count, random(2))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("count", [0, 1, 90, 100])
def test_a_score_among_many_that_is_no_number_is_refused(
    count: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "HAS_NUMBA", compiled)
    monkeypatch.setattr(selection, "_LARGE", 20)
    monkeypatch.setattr(selection, "_SAMPLE", 8)
    scores = np.random.default_rng(0).random((2, 700))
    for place in (0, 5, 699):
        broken = scores.copy()
        broken[1, place] = math.nan
        with pytest.raises(ValueError, match="NaN"):
            keep_top(broken, count, random(2))


def test_minus_infinity_is_kept_last_but_kept_if_there_is_nothing_else() -> None:
    scores = np.array([-math.inf, -1e300, -math.inf, 0])
    assert keep_top(scores, 2, random()).tolist() == [False, True, False, True]
    assert keep_top(scores, 4, random()).all()


def test_ties_fall_evenly_on_all_positions_and_pairs() -> None:
    draws, n, count = 4000, 8, 3
    mask = keep_top(np.zeros((draws, n)), count, random(draws))
    for positions, share in ((1, count / n), (2, count * (count - 1) / (n * (n - 1)))):
        tolerance = 5 * math.sqrt(share * (1 - share) / draws)
        for together in combinations(range(n), positions):
            found = mask[:, together].all(axis=1).mean()
            assert found == pytest.approx(share, abs=tolerance), together


def test_only_the_ties_at_the_threshold_are_left_to_chance() -> None:
    scores = np.tile([2.0, 1, 0, 1, 1, 3], (3000, 1))
    share = keep_top(scores, 4, random(3000)).mean(axis=0)
    assert share == pytest.approx([1, 2 / 3, 0, 2 / 3, 2 / 3, 1], abs=0.045)
    assert share[[0, 2, 5]].tolist() == [1, 0, 1]


def test_the_draws_go_on_from_call_to_call() -> None:
    rng = random()
    masks = {keep_top(np.zeros(30), 15, rng).tobytes() for _ in range(5)}
    assert len(masks) == 5


def test_draws_among_some_are_theirs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).random((2, 50)) < 0.4
    expected = np.where(mask, ReplicaRandom([0, 1]).random(50), -math.inf)
    for large in (10, 1_000):
        monkeypatch.setattr(selection, "_LARGE", large)
        np.testing.assert_array_equal(draws_among(mask, ReplicaRandom([0, 1])), expected)
    assert count_true(mask).tolist() == mask.sum(1).tolist()
    assert count_true(mask[0]) == mask[0].sum()


# -- ranks and z-scores ------------------------------------------------------------------------


@given(SCORES)
def test_ranks_number_each_row_in_rising_order(scores: np.ndarray) -> None:
    ranks = rank(scores, random(len(scores)))
    for row, places in zip(scores, ranks, strict=True):
        assert sorted(places) == list(range(len(row)))
        assert np.array_equal(row[np.argsort(places)], np.sort(row))


def test_ranks_of_ties_fall_evenly() -> None:
    ranks = rank(np.tile([1.0, 0, 1, 1], (3000, 1)), random(3000))
    assert (ranks[:, 1] == 0).all()
    assert ranks.mean(axis=0) == pytest.approx([2, 0, 2, 2], abs=0.075)
    alone = rank(np.array([1.0, 0, 1, 1]), ReplicaRandom(17))
    assert np.array_equal(ranks[17], alone)


def test_z_scores_are_those_computed_by_hand() -> None:
    values = np.array([[1.0, 2, 3, 6], [0, 0, 0, 4]])
    spread = np.array([math.sqrt(3.5), math.sqrt(3)])
    expected = np.array([[-2.0, -1, 0, 3], [-1, -1, -1, 3]]) / spread[:, None]
    assert standardise(values) == pytest.approx(expected)
    assert standardise(values, limit=1.0) == pytest.approx(expected.clip(-1, 1))
    assert standardise(values[0]) == pytest.approx(expected[0])


@given(st.floats(0, 400, width=32), st.sampled_from([1, 60, 1000, 45_000]))
@example(math.log(10), 45_000)  # the mean of equal float32 numbers is not that number
def test_equal_values_have_z_scores_of_zero(value: float, n: int) -> None:
    assert np.abs(standardise(np.full((1, n), value, dtype=np.float32))).max() < 1e-5


# -- explicit randomness -----------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=4), st.integers(0, 5))
def test_a_rows_draws_depend_on_its_own_seed_alone(seeds: list[int], count: int) -> None:
    together = ReplicaRandom(seeds).random(count)
    assert together.shape == (len(seeds), count)
    for row, seed in enumerate(seeds):
        assert np.array_equal(together[row], ReplicaRandom(seed).random(count))


@pytest.mark.parametrize("varied", ["run_seed", "epoch", "purpose"])
def test_streams_that_differ_in_anything_have_other_seeds(varied: str) -> None:
    def seed(**parts: Any) -> int:
        return stream_seed(**{"run_seed": 3, "epoch": 5, "purpose": Purpose.ORDER, **parts})

    values = list(Purpose) if varied == "purpose" else range(1000)
    seeds = {seed(**{varied: value}) for value in values}
    low = {each % 2**32 for each in seeds}  # all that torch's generator reads
    assert len(seeds) == len(low) == len(values)
    assert all(0 <= each < 2**63 for each in seeds)


@given(SCORES.filter(lambda scores: np.isfinite(scores).all()))
def test_compiled_ranks_and_z_scores_are_the_plain_ones(scores: np.ndarray) -> None:
    assert selection.HAS_NUMBA
    ranks, z_scores = rank(scores, random(len(scores))), standardise(scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "HAS_NUMBA", False)
        plain = rank(scores, random(len(scores)))
        np.testing.assert_allclose(z_scores, standardise(scores), atol=1e-9)
    # Ties fall differently; the scores in rising order are the same.
    for row, values in enumerate(scores.astype(np.float32)):
        assert sorted(ranks[row]) == list(range(len(values)))
        assert (values[np.argsort(ranks[row])] == values[np.argsort(plain[row])]).all()


def test_a_sum_of_ranks_breaks_the_ties_of_one_column_after_the_other() -> None:
    columns = np.random.default_rng(0).integers(5, size=(3, 2, 200)).astype(float)
    ours, theirs = ReplicaRandom([0, 1]), ReplicaRandom([0, 1])
    expected = sum(rank(column, theirs) for column in columns)
    np.testing.assert_array_equal(rank_sum(list(columns), ours), expected)
