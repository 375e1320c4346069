"""A table that keeps some columns holds the same numbers in them, and no memory for the others."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from helpers.episodes import assert_same
from hypothesis import given
from hypothesis import strategies as st

from dynprune_env.selection.statistics import SampleStatistics

COLUMNS = SampleStatistics.COLUMNS
R, N, C = 2, 700, 5  # more samples than are recorded together

some_columns = st.lists(st.sampled_from(COLUMNS), unique=True)


def table(**kept: Any) -> SampleStatistics:
    return SampleStatistics(R, np.arange(N) % C, C, **kept)


def recorded(statistics: SampleStatistics, seed: int) -> list[np.ndarray]:
    """Four epochs of values of which some are broken, one of them only scored; the mean losses."""
    rng, means = np.random.default_rng(seed), []
    for epoch in range(1, 5):
        orders = [rng.permutation(N)[:count] for count in rng.integers(0, N + 1, R)]
        ids, starts = np.concatenate(orders), np.cumsum([0, *map(len, orders)])
        values = rng.normal(0, 20, (5, len(ids))).astype(np.float32)
        values[4] = values[4] > 0
        values[rng.random(values.shape) < 0.01] = np.nan
        trained = None if epoch == 3 else np.full(R, epoch)
        means.append(statistics.record_rows(ids, starts, values, trained))
    return means


def held(statistics: SampleStatistics) -> int:
    """Bytes a sample."""
    return sum(array.numpy().nbytes for array in statistics.state().values()) // (R * N)


@pytest.mark.parametrize("has_numba", [True, False])
@given(some_columns, st.integers(0, 99))
def test_what_is_kept_is_what_a_table_of_all_columns_holds(
    has_numba: bool, columns: list[str], seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynprune_env.selection.statistics.HAS_NUMBA", has_numba)
        some, everything = table(columns=columns), table()
        assert_same(recorded(some, seed), recorded(everything, seed))
    epoch = np.full(R, 4)
    found, whole = some.columns(epoch), everything.columns(epoch)
    assert tuple(found) == tuple(some.lend(epoch)) == some.kept
    assert {*columns} <= found.keys()
    assert_same(found, {name: whole[name] for name in found})
    some.reset(np.array([1]))
    everything.reset(np.array([1]))
    found, whole = some.columns(epoch), everything.columns(epoch)
    assert_same(found, {name: whole[name] for name in found})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (COLUMNS, 7 * 4 + 3 * 4 + 1),  # seven floats, three counts, whether it was scored
        ((), 0),
        (("label",), 0),  # the labels are the same for all replicas
        (("loss",), 4),
        (("age",), 4),
        (("loss_mean",), 4 + 1),  # with the flag: the first loss counts whole
        (("loss_var",), 4 + 4 + 1),  # deviations are those from the mean
        (("forgetting",), 4 + 4),  # of what was correct before
        (("loss", "visits"), 4 + 4),
    ],
)
def test_memory_is_held_for_what_is_wanted_and_what_it_is_made_from(
    columns: tuple[str, ...], expected: int
) -> None:
    assert held(table(columns=columns)) == expected


def test_what_is_not_kept_is_refused_and_what_is_kept_is_named() -> None:
    statistics = table(columns=["loss_var", "age"])
    assert statistics.kept == ("loss_mean", "loss_var", "age", "label")
    lent, words = statistics.lend(np.zeros(R)), "is not kept, only loss_mean, loss_var, age, label:"
    for ask in (
        lambda: lent["margin"],
        lambda: statistics.columns(np.zeros(R), ["margin"]),
        lambda: statistics.loss,
        lambda: statistics.visits,
    ):
        with pytest.raises(KeyError, match=words):
            ask()
    for names in (["margins"], [["margin"]], [3]):
        with pytest.raises(ValueError, match=r"no column is called .*; there are loss, loss_mean"):
            table(columns=names)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))])
def test_a_copy_goes_on_alone(copied: Any) -> None:
    first = table(columns=["loss_var", "visits"])
    recorded(first, 0)
    before, other = first.state(), copied(first)
    recorded(other, 1)
    assert_same(first.state(), before)
    recorded(first, 1)
    assert_same(other.columns(np.full(R, 4)), first.columns(np.full(R, 4)))
    assert_same(other.state(), first.state())


@given(some_columns, some_columns)
def test_a_state_is_taken_where_it_holds_what_is_kept(one: list[str], other: list[str]) -> None:
    saved, loaded = table(columns=one), table(columns=other)
    recorded(saved, 0)
    before, state = loaded.state(), saved.state()
    if before.keys() <= state.keys():
        loaded.load_state(state)
        assert_same(loaded.state(), {name: state[name] for name in before})
    else:
        with pytest.raises(ValueError, match="of a run that did not keep"):
            loaded.load_state(state)
        assert_same(loaded.state(), before)
