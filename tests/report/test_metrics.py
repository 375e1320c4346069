"""The report's statistics against numbers computed by hand, scipy, and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, mannwhitneyu, trim_mean

from dynprune_env.report.metrics import (
    bootstrap_interval,
    interquartile_mean,
    mean_band,
    mean_interval,
    mean_ranks,
    probability_of_improvement,
    stratified_interval,
)

SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=8).map(np.array)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 2, 3, 100], 2.5),  # one cut off at each end
        ([100, 1, 3, 2], 2.5),
        ([0, 1, 2, 3, 4, 5, 6, 90], 3.5),  # two at each end
        ([1, 2, 9], 4),  # a quarter of three, rounded down, is none
        ([7], 7),
    ],
)
def test_the_interquartile_mean_of_small_samples_by_hand(
    scores: list[float], expected: float
) -> None:
    assert interquartile_mean(np.array(scores, dtype=float)) == pytest.approx(expected)


def test_the_interquartile_mean_works_along_the_last_axis() -> None:
    table = np.random.default_rng(0).random((3, 11))
    expected = [trim_mean(row, 0.25) for row in table]
    assert interquartile_mean(table) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 20])
def test_the_interval_of_a_mean_is_scipys_bootstrap(seeds: int) -> None:
    for trial in range(5):
        values = np.random.default_rng([seeds, trial]).normal(0.9, 0.02, size=seeds).tolist()
        rng = np.random.default_rng(0)
        expected = bootstrap((values,), np.mean, method="percentile", random_state=rng)
        # Older scipys round the last bit otherwise.
        assert mean_interval(values) == pytest.approx(expected.confidence_interval, rel=1e-15)


def test_numbers_of_recorded_tables_stay_bit_for_bit() -> None:
    scores = [0.81251, 0.8337, 0.7921, 0.8447, 0.8019]
    others = [0.7913, 0.81251, 0.81, 0.83]
    assert mean_interval(scores) == (0.8001020000000001, 0.8338620000000001)
    strata = [np.array(scores), np.array(others)]
    assert stratified_interval(strata) == (0.7997620000000001, 0.827242)
    expected = (0.5, (0.21250000000000002, 0.7749999999999999))
    assert probability_of_improvement(strata, strata[::-1]) == expected


def test_a_band_holds_the_interval_of_the_mean_at_each_place() -> None:
    curves = np.random.default_rng(0).normal([0, 1, 2], size=(8, 3))
    low, high = mean_band(curves)
    assert low.shape == high.shape == (3,)
    for place in range(3):
        ends = mean_interval(curves[:, place].tolist())
        assert (low[place], high[place]) == pytest.approx(ends, abs=0.1)


def test_all_intervals_are_quantiles_of_what_is_resampled() -> None:
    assert bootstrap_interval(lambda rng: np.arange(201.0)) == pytest.approx((5, 195))
    drawn = [bootstrap_interval(lambda rng: rng.random(9), seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_an_interval_redraws_seeds_within_tasks_only() -> None:
    # Each task has constant scores: whatever is redrawn, the statistic stays the same.
    strata = [np.full(4, 0.2), np.full(4, 0.8)]
    assert stratified_interval(strata) == pytest.approx((0.5, 0.5))
    # Of two seeds 0 and 1 the mean of two draws is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4.
    low, high = stratified_interval([np.array([0.0, 1.0])], lambda scores: scores.mean(-1))
    assert (low, high) == (0, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([[2, 3]], [[1, 1]], 1),
        ([[1, 1]], [[1, 1]], 0.5),  # ties count half
        ([[1, 3]], [[2, 2]], 0.5),
        ([[1, 2, 3]], [[2, 4]], 1.5 / 6),  # 2 = 2, 3 > 2
        ([[1, 1], [5, 5]], [[0, 0], [9, 9]], 0.5),  # one task won, one lost
    ],
)
def test_the_probability_of_improvement_by_hand(
    ours: list[list[float]], theirs: list[list[float]], expected: float
) -> None:
    found, _ = probability_of_improvement(
        [np.array(each, dtype=float) for each in ours],
        [np.array(each, dtype=float) for each in theirs],
    )
    assert found == pytest.approx(expected)


@given(SCORES, SCORES)
def test_the_probability_of_improvement_is_mann_whitney_over_the_pairs(
    ours: np.ndarray, theirs: np.ndarray
) -> None:
    found, (low, high) = probability_of_improvement([ours], [theirs], draws=50)
    expected = mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
    assert found == pytest.approx(expected)
    assert 0 <= low <= high <= 1
    opposite, _ = probability_of_improvement([theirs], [ours], draws=50)
    assert found + opposite == pytest.approx(1)


def test_mean_ranks_by_hand() -> None:
    # Task by task: ranks 1, 2, 3 and then, with a tie of the first two, 1.5, 1.5, 3.
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.1, 0.4]])
    assert mean_ranks(scores) == pytest.approx([1.25, 1.75, 3])


def test_intervals_cover_the_truth_nearly_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    trials, hits = 400, np.zeros(3)
    for trial in range(trials):
        ours = [rng.normal(centre, 0.1, size=20) for centre in (0.0, 0.1)]
        theirs = [rng.normal(centre, 0.1, size=20) for centre in (0.0, 0.1)]
        low, high = stratified_interval(ours, draws=400, seed=trial)
        hits[0] += low <= 0.05 <= high  # symmetric: the middle half has the mean of all
        _, (low, high) = probability_of_improvement(ours, theirs, draws=400, seed=trial)
        hits[1] += low <= 0.5 <= high  # equal distributions
        if trial < 150:
            low, high = mean_interval(ours[0].tolist())
            hits[2] += low <= 0 <= high
    coverage = hits / [trials, trials, 150]
    # Percentile intervals of twenty seeds are a little too narrow.
    assert (coverage > 0.9).all(), coverage
    assert (coverage < 0.99).all(), coverage
