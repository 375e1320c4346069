"""The report's statistics against numbers computed by hand, scipy, and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.results import run, runs
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, trim_mean

from dynprune_env.report.metrics import (
    interquartile_mean,
    mean_interval,
    mean_ranks,
    probability_of_improvement,
    stratified_interval,
)
from dynprune_env.report.overall import overall_csv, overall_table, summarize_tasks
from dynprune_env.report.summary import level_with_best, summarize

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


# -- over tasks --------------------------------------------------------------------------------


def two_tasks() -> list:
    found = []
    for env, shift in (("A-v0", 0.0), ("B-v0", 0.2)):
        for agent, best in (("ucb", 0.7), ("dynamic_random", 0.6), ("infobatch", 0.5)):
            values = [best + shift + 0.01 * seed for seed in range(4)]
            found += runs(values, agent=agent, env=env, saved=0.4)
        found += runs([0.99] * 4, agent="full_data", env=env, budget=1.0)
    return found


def test_agents_are_compared_over_all_tasks_and_full_runs_are_none() -> None:
    over = summarize_tasks(two_tasks())
    assert over is not None
    assert (over.tasks, over.baseline, over.left_out) == (2, "dynamic_random", ())
    assert [row.agent for row in over.rows] == ["ucb", "dynamic_random", "infobatch"]
    assert [row.rank for row in over.rows] == [1, 2, 3]
    assert [row.improvement for row in over.rows] == [1, 0.5, 0]
    # Of 0.7 ... 0.73 and 0.9 ... 0.93 the middle half is the upper and the lower two of them.
    assert over.rows[0].iqm == pytest.approx((0.72 + 0.73 + 0.9 + 0.91) / 4)
    assert over.rows[0].low < over.rows[0].iqm < over.rows[0].high
    assert (over.rows[0].nominal, over.rows[0].saved) == pytest.approx((0.5, 0.4))
    text = overall_table(over).to_markdown()
    assert "| ucb | 81.50 |" in text
    assert "2 tasks" in text
    assert overall_csv(over).startswith("agent,seeds,iqm,")


def test_an_agent_that_lacks_a_task_is_named_and_left_out() -> None:
    over = summarize_tasks([*two_tasks(), run(0.9, agent="thompson", env="A-v0")])
    assert over is not None
    assert over.left_out == ("thompson",)
    assert "lack a task: thompson" in overall_table(over).caption
    assert summarize_tasks(runs([0.5, 0.6])) is None


def test_few_seeds_are_warned_of() -> None:
    found = [*runs([0.5, 0.6], agent="a"), *runs([0.4, 0.3], agent="b")]
    over = summarize_tasks(found)
    assert over is not None
    assert "the intervals say little" in overall_table(over).caption


def test_overlapping_intervals_are_marked_and_separate_ones_are_not() -> None:
    rows = summarize(
        [
            *runs([0.90, 0.92, 0.94], agent="best"),
            *runs([0.89, 0.91, 0.93], agent="near"),
            *runs([0.70, 0.72, 0.74], agent="far"),
            run(0.93, agent="alone"),
        ]
    )
    assert [row.agent for row in level_with_best(rows)] == []  # the best has one seed
    rows = [row for row in rows if row.agent != "alone"]
    assert [row.agent for row in level_with_best(rows)] == ["near"]
