"""Rows of a summary and the comparison over all tasks, against numbers computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.results import run, runs
from scipy.stats import bootstrap

from dynprune_env.benchmark.results import Result
from dynprune_env.report.summary import level_with_best, panels_of, summarize, summarize_tasks


def test_a_row_holds_the_means_over_its_seeds() -> None:
    (row,) = summarize(
        [
            run(0.8, 0, test_loss=0.4, visits=400, scored=300, saved=0.5, seconds={"total": 2.0}),
            run(0.9, 1, test_loss=0.8, visits=500, scored=0, saved=0.6, seconds={"total": 5.0}),
        ]
    )
    assert (row.env, row.variant, row.agent, row.budget) == ("Digits-v0", "", "ucb(c=2.0)", 0.5)
    assert row.seeds == 2
    assert row.accuracy == pytest.approx(0.85)
    assert row.test_loss == pytest.approx(0.6)
    assert (row.visits, row.scored, row.seconds) == (450, 150, 3.5)
    assert row.saved == pytest.approx(0.55)
    assert row.share == pytest.approx(0.45)


def test_the_spread_is_the_sample_standard_deviation() -> None:
    (row,) = summarize(runs([0.7, 0.8, 0.9]))
    assert row.spread == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)


def test_the_interval_of_three_seeds_reaches_from_the_worst_to_the_best() -> None:
    # A resample of three repeats the worst thrice with probability 1/27, more than 2.5 %.
    (row,) = summarize(runs([0.7, 0.9, 0.95]))
    assert (row.low, row.high) == pytest.approx((0.7, 0.95))


def test_the_interval_is_scipys_bootstrap_of_the_mean() -> None:
    accuracies = np.random.default_rng(3).normal(0.9, 0.02, size=10).tolist()
    (row,) = summarize(runs(accuracies))
    rng = np.random.default_rng(17)  # other draws than the module's move the ends a little
    expected = bootstrap((accuracies,), np.mean, method="percentile", random_state=rng)
    assert row.low == pytest.approx(expected.confidence_interval.low, abs=1.5e-3)
    assert row.high == pytest.approx(expected.confidence_interval.high, abs=1.5e-3)
    assert row.low + 0.005 < row.accuracy < row.high - 0.005


def test_the_interval_is_the_same_every_time_and_leaves_the_global_generator_alone() -> None:
    before: Any = np.random.get_state()
    accuracies = [0.7, 0.8, 0.83, 0.85, 0.9, 0.91]
    assert summarize(runs(accuracies)) == summarize(runs(accuracies))
    after: Any = np.random.get_state()
    assert (after[1] == before[1]).all()


def test_the_order_of_the_results_decides_no_number() -> None:
    found = [run for env in ("A", "B") for agent in ("x", "y") for run in seven(env, agent)]
    assert summarize(found[::-1]) == summarize(found)
    assert summarize_tasks(found[::-1]) == summarize_tasks(found)


def seven(env: str, agent: str) -> list[Result]:
    rng = np.random.default_rng([ord(env), ord(agent)])
    return runs(rng.normal(0.9, 0.02, size=7).tolist(), env=env, agent=agent)


@pytest.mark.parametrize("accuracies", [[0.7], [0.7] * 3, [0.1] * 10])
def test_one_seed_or_identical_seeds_have_an_interval_of_width_zero(
    accuracies: list[float],
) -> None:
    (row,) = summarize(runs(accuracies))
    assert row.low == row.high == row.accuracy == pytest.approx(accuracies[0])
    assert row.spread == 0


def test_diverged_seeds_are_counted_and_stay_in_the_means() -> None:
    (row,) = summarize([run(0.9, 0), run(0.1, 1, diverged=True), run(0.8, 2, diverged=True)])
    assert row.diverged == 2
    assert row.accuracy == pytest.approx(0.6)


def test_rows_are_sorted_by_env_variant_budget_and_falling_accuracy() -> None:
    noisy = {"env_kwargs": {"noise": 0.2, "augment": True}}
    rows = summarize(
        [
            run(0.9, env="B", **noisy),
            run(0.7, env="B", budget=0.25, agent="worse"),
            run(0.6, env="B", budget=1.0),
            run(0.8, env="B", budget=0.25, agent="zebra"),
            run(0.5, env="A"),
        ]
    )
    assert [(row.env, row.variant, row.budget, row.accuracy) for row in rows] == [
        ("A", "", 0.5, 0.5),
        ("B", "", 0.25, 0.8),
        ("B", "", 0.25, 0.7),
        ("B", "", 1.0, 0.6),
        ("B", "augment=True, noise=0.2", 0.5, 0.9),
    ]


def test_a_seed_counted_twice_is_refused() -> None:
    # The configurations differ (1 and 1.0 hash apart), so that the loader keeps both files.
    with pytest.raises(ValueError, match="a seed occurs twice"):
        summarize([run(0.9, budget=1), run(0.9, budget=1.0)])


def test_nothing_to_report_is_said_clearly() -> None:
    for function in (summarize, panels_of):
        with pytest.raises(ValueError, match="no results to report"):
            function([])


# -- over tasks --------------------------------------------------------------------------------


def two_tasks() -> list[Result]:
    found: list[Result] = []
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


def test_an_agent_that_lacks_a_task_is_named_and_left_out() -> None:
    over = summarize_tasks([*two_tasks(), run(0.9, agent="thompson", env="A-v0")])
    assert over is not None
    assert over.left_out == ("thompson",)
    assert summarize_tasks(runs([0.5, 0.6])) is None


def uneven(seeds: dict[str, tuple[range, range]]) -> list[Result]:
    """Runs of an easy task, at .9, and of a hard one, at .5, under these seeds."""
    return [
        run(accuracy, seed, agent=agent, budget=budget)
        for agent, played in seeds.items()
        for (budget, accuracy), own in zip(((0.7, 0.9), (0.3, 0.5)), played, strict=True)
        for seed in own
    ]


def test_runs_that_are_missing_on_the_hard_task_make_no_agent_better() -> None:
    all_four = (range(4), range(4))
    found = uneven({"a": all_four, "b": all_four, "c": (range(4), range(1))})
    over = summarize_tasks(found)
    assert over is not None
    assert (over.left_out, over.lack_seeds, over.not_counted) == ((), ("c",), 0)
    assert [(row.agent, row.iqm, row.seeds) for row in over.rows] == [
        ("a", pytest.approx(0.7), 4),
        ("b", pytest.approx(0.7), 4),
    ]


@pytest.mark.parametrize(
    ("seeds", "counted", "dropped"),
    [
        # More seeds of one agent than of the others.
        ({"a": (range(4), range(8)), "b": (range(4), range(4)), "c": (range(4), range(4))}, 4, 4),
        # Of two agents, one was interrupted.
        ({"a": (range(4), range(4)), "b": (range(4), range(1))}, 1, 3),
        # Each lacks one: what all played is left.
        ({"a": (range(3), range(2)), "b": (range(2), range(3)), "c": (range(1, 3),) * 2}, 1, 8),
    ],
)
def test_only_seeds_that_the_compared_agents_share_count(
    seeds: dict[str, tuple[range, range]], counted: int, dropped: int
) -> None:
    over = summarize_tasks(uneven(seeds))
    assert over is not None
    assert (over.lack_seeds, over.not_counted) == ((), dropped)
    assert {row.seeds for row in over.rows} == {counted}
    assert len({row.iqm for row in over.rows}) == 1
    assert {row.rank for row in over.rows} == {(1 + len(seeds)) / 2}


def test_agents_without_a_common_seed_are_not_compared() -> None:
    assert summarize_tasks(uneven({"a": (range(2),) * 2, "b": (range(2, 4),) * 2})) is None


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
