"""What is known of a budget follows its counters, however they are moved."""

from __future__ import annotations

import numpy as np

from dynprune_env.selection.budget import VisitBudget


def test_what_is_left_follows_counters_that_are_moved_in_place() -> None:
    budget = VisitBudget(2, 30, 4, 0.5)
    assert budget.remaining.tolist() == [60, 60]
    budget.visits[0] += 15
    budget.scored += 9
    assert budget.remaining.tolist() == [42, 57]
    np.testing.assert_allclose(budget.spent, [0.3, 0.05])
    budget.epoch[1] = 2
    np.testing.assert_allclose(budget.progress, [0.3, 0.5])
    budget.visits = np.array([60, 0])
    assert budget.spent.tolist() == [1, 0.05]
    budget.reset(np.array([0]))
    assert budget.progress.tolist() == [0, 0.5]


def test_what_is_handed_out_is_the_callers_own() -> None:
    budget = VisitBudget(2, 30, 4, 0.5)
    for name in ("remaining", "spent", "progress"):
        getattr(budget, name)[:] = 7
    assert budget.remaining.tolist() == [60, 60]
    assert budget.spent.tolist() == budget.progress.tolist() == [0, 0]
