"""The table of per-sample statistics holds what was computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynprune_env.selection.statistics import SampleStatistics, plain_sample_values, sample_values

NAMES = ("loss", "confidence", "margin", "el2n", "correct")
EVERYTHING_WRONG = {"loss": 20, "confidence": 0, "margin": -50, "el2n": math.sqrt(2), "correct": 0}


def table(num_replicas: int = 1, num_samples: int = 3, num_classes: int = 4) -> SampleStatistics:
    return SampleStatistics(num_replicas, np.arange(num_samples) % num_classes, num_classes)


def record(
    statistics: SampleStatistics, where: list[int], epoch: int | None, **values: float
) -> None:
    """Records the same values at some flat positions."""
    defaults = {"loss": 0.1, "confidence": 0.9, "margin": 2.0, "el2n": 0.2, "correct": 1}
    rows = np.repeat([[{**defaults, **values}[name]] for name in NAMES], len(where), axis=1)
    epochs = None if epoch is None else np.full(len(where), epoch)
    statistics.record(np.array(where), rows.astype(np.float32), epochs)


def seen(statistics: SampleStatistics, epoch: int, row: int = 0) -> dict[str, list[float]]:
    columns = statistics.columns(np.full(len(statistics.loss), epoch))
    assert tuple(columns) == SampleStatistics.COLUMNS
    assert {(c.shape, c.dtype.name) for c in columns.values()} == {
        (statistics.loss.shape, "float32")
    }
    return {name: column[row].tolist() for name, column in columns.items()}


def test_unvisited_samples_carry_the_values_of_a_uniform_prediction() -> None:
    assert seen(table(), epoch=5) == {
        "loss": pytest.approx([math.log(4)] * 3),
        "loss_mean": pytest.approx([math.log(4)] * 3),
        "loss_var": [0] * 3,
        "confidence": [0.25] * 3,
        "margin": [0] * 3,
        "el2n": pytest.approx([math.sqrt(0.75)] * 3),  # |(1/4, 1/4, 1/4, 1/4) - (1, 0, 0, 0)|
        "correct": [0] * 3,
        "forgetting": [0] * 3,
        "visits": [0] * 3,
        "age": [5] * 3,
        "label": [0, 1, 2],
    }


def test_every_column_after_each_visit_is_the_one_computed_by_hand() -> None:
    statistics, nats = table(), pytest.approx(math.log(4))
    wrong = {"confidence": 0.1, "margin": -1.0, "el2n": 1.1, "correct": 0}

    record(statistics, [0, 2], epoch=1, loss=1.0)
    after = seen(statistics, epoch=1)
    assert after["loss"] == after["loss_mean"] == [1, nats, 1]  # the first loss directly
    assert after["loss_var"] == [0, 0, 0]
    assert after["confidence"] == pytest.approx([0.9, 0.25, 0.9])
    assert (after["visits"], after["age"]) == ([1, 0, 1], [0, 1, 0])

    record(statistics, [2], epoch=2, loss=1.0)
    record(statistics, [0], epoch=3, loss=2.0, **wrong)
    after = seen(statistics, epoch=3)
    assert after["loss"] == [2, nats, 1]
    assert after["loss_mean"] == [1.5, nats, 1]
    assert after["loss_var"] == [0.5, 0, 0]  # half of (2 - 1)²
    assert after["confidence"] == pytest.approx([0.1, 0.25, 0.9])
    assert after["margin"] == [-1, 0, 2]
    assert after["el2n"] == pytest.approx([1.1, math.sqrt(0.75), 0.2])
    assert (after["correct"], after["forgetting"]) == ([0, 0, 1], [1, 0, 0])
    assert (after["visits"], after["age"]) == ([2, 0, 2], [0, 3, 1])

    record(statistics, [0, 1], epoch=4, loss=0.5, **wrong)
    record(statistics, [0], epoch=5, loss=0.5)
    record(statistics, [0], epoch=6, loss=0.5, **wrong)
    after = seen(statistics, epoch=6)
    # Sample 0: 1.5, 1, .75, .625 and .5, .75, .5 · .75 + .5 · .5², .25 + .5 · .25²
    assert after["loss_mean"] == [0.625, 0.5, 1]
    assert after["loss_var"] == [0.28125, 0, 0]
    # Wrong twice in a row is not forgotten twice; never right is not forgotten.
    assert after["forgetting"] == [2, 0, 0]
    assert (after["visits"], after["age"]) == ([5, 1, 2], [0, 2, 4])
    assert after["label"] == [0, 1, 2]


def test_a_sample_that_was_only_scored_is_no_younger_and_not_visited() -> None:
    statistics = table()
    record(statistics, [0], epoch=1, loss=1.0)
    record(statistics, [0, 1], epoch=None, loss=3.0)
    after = seen(statistics, epoch=2)
    assert (after["visits"], after["age"]) == ([1, 0, 0], [1, 2, 2])
    assert after["loss"][:2] == [3, 3]
    assert (after["loss_mean"][:2], after["loss_var"][:2]) == ([2, 3], [2, 0])


def test_rows_know_nothing_of_each_other() -> None:
    together, alone = table(2), table(1)
    for epoch, loss in enumerate([1.0, 4.0, 0.5], start=1):
        record(together, [3, 5], epoch, loss=loss)  # samples 0 and 2 of row 1
        record(alone, [0, 2], epoch, loss=loss)
    assert seen(together, 3, row=1) == seen(alone, 3)
    assert seen(together, 3, row=0) == seen(table(1), 3)
    together.reset(np.array([1]))
    assert seen(together, 3, row=1) == seen(table(1), 3)


def test_a_reset_row_leaves_the_other_as_it_was() -> None:
    statistics = table(2)
    record(statistics, [1, 4], epoch=1)
    before = seen(statistics, 2, row=0)
    statistics.reset(np.array([1]))
    assert seen(statistics, 2, row=0) == before


def test_columns_are_fresh_copies() -> None:
    statistics = table()
    for column in statistics.columns(np.array([1])).values():
        column[:] = 7
    assert seen(statistics, 1) == seen(table(), 1)


def test_a_state_goes_on_where_it_was_taken() -> None:
    original, restored = table(2), table(2)
    record(original, [0, 4], epoch=1, loss=1.0)
    state = original.state()
    record(original, [0, 5], epoch=2, loss=3.0, correct=0)
    restored.load_state(state)
    assert seen(restored, 1) != seen(original, 1)
    record(restored, [0, 5], epoch=2, loss=3.0, correct=0)
    for row in range(2):
        assert seen(restored, 2, row) == seen(original, 2, row)


# -- one forward pass --------------------------------------------------------------------------


def plain(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """As on a GPU, or without numba."""
    return plain_sample_values(logits, labels).numpy()


BOTH = pytest.mark.parametrize("values_of", [sample_values, plain])


@BOTH
@given(
    array=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(2, 5)),
        elements=st.floats(-30, 30, width=32),
    ),
    data=st.data(),
)
def test_the_values_of_a_forward_pass_are_torchs(
    values_of: Any, array: np.ndarray, data: st.DataObject
) -> None:
    logits = torch.from_numpy(array)
    n, classes = logits.shape
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    values = dict(zip(NAMES, values_of(logits, labels), strict=True))
    p, one_hot = torch.softmax(logits, 1), F.one_hot(labels, classes)
    best_other = logits.masked_fill(one_hot.bool(), -math.inf).max(1).values
    expected = {
        "loss": F.cross_entropy(logits, labels, reduction="none"),
        "confidence": (p * one_hot).sum(1),
        "margin": (logits * one_hot).sum(1) - best_other,
        "el2n": torch.linalg.vector_norm(p - one_hot, dim=1),
        "correct": ((logits * one_hot).sum(1) > best_other).float(),
    }
    for name in NAMES:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-4, atol=1e-3, err_msg=name)


@BOTH
def test_a_tie_for_the_largest_logit_is_not_correct(values_of: Any) -> None:
    assert values_of(torch.ones(1, 3), torch.tensor([0]))[-1] == [0]


@BOTH
@pytest.mark.parametrize("logits", [[1, math.nan, 0], [1, 0, math.nan], [math.nan, 0, 1]], ids=str)
def test_a_logit_that_is_no_number_makes_a_val_sample_wrong(
    values_of: Any, logits: list[float]
) -> None:
    _, _, margin, _, correct = values_of(torch.tensor([logits]), torch.tensor([0]))
    assert np.isnan(margin).all()
    assert correct == [0]


@BOTH
@pytest.mark.parametrize(
    "logits",
    [[math.nan] * 3, [0, math.nan, 0], [math.inf, 0, 0], [0, math.inf, 0], [-math.inf, 0, 0]],
    ids=str,
)
def test_logits_that_are_not_finite_count_as_entirely_wrong(
    values_of: Any, logits: list[float]
) -> None:
    statistics = table(num_samples=1, num_classes=3)
    values = values_of(torch.tensor([logits]), torch.tensor([0]))
    statistics.record(np.array([0]), values, np.array([1]))
    after = seen(statistics, epoch=1)
    assert {name: after[name][0] for name in NAMES} == pytest.approx(EVERYTHING_WRONG)


def test_values_are_clipped_into_their_bounds() -> None:
    statistics = table(num_samples=1)
    values = sample_values(torch.tensor([[-900.0, 900, 0, 0]]), torch.tensor([0]))
    for epoch in (1, 2):
        statistics.record(np.array([0]), values, np.array([epoch]))
    after = seen(statistics, epoch=2)
    assert {name: after[name][0] for name in NAMES} == pytest.approx(EVERYTHING_WRONG)
    assert (after["loss_mean"], after["loss_var"]) == ([20], [0])


ANY_LOGITS = hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32))


@given(st.lists(st.tuples(ANY_LOGITS, st.sampled_from([[0], [1], [0, 1]])), max_size=5))
def test_every_column_stays_finite_and_in_its_bounds(visits: list[Any]) -> None:
    statistics = table(num_samples=2, num_classes=3)
    for epoch, (logits, where) in enumerate(visits, start=1):
        ids = np.array(where)
        values = sample_values(torch.from_numpy(logits)[ids], torch.from_numpy(ids))
        statistics.record(ids, values, np.full(len(ids), epoch))
    for name, values in seen(statistics, epoch=len(visits)).items():
        low, high = SampleStatistics.bounds(name, epochs=5, num_classes=3)
        assert np.isfinite(values).all()
        assert np.float32(low) <= min(values) <= max(values) <= np.float32(high)


def test_rows_are_recorded_as_their_positions_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 4
    both = SampleStatistics(3, labels, 4), SampleStatistics(3, labels, 4)
    for epoch in range(1, 6):
        orders = [rng.permutation(30)[:count] for count in rng.integers(0, 31, 3)]
        visits = sum(map(len, orders))
        logits = rng.normal(0, 10 ** rng.uniform(-1, 2), (visits, 4)).astype(np.float32)
        broken = rng.random(visits) < 0.05
        logits[broken, rng.integers(4)] = rng.choice([np.nan, np.inf, -np.inf])
        ids, starts = np.concatenate(orders), np.cumsum([0, *map(len, orders)])
        mine = torch.from_numpy(labels[ids])
        table = np.stack(sample_values(torch.from_numpy(logits), mine))
        epochs = None if epoch == 3 else np.full(3, epoch)
        means = []
        for statistics, has_numba in zip(both, (True, False), strict=True):
            monkeypatch.setattr("dynprune_env.selection.statistics.HAS_NUMBA", has_numba)
            means.append(statistics.record_rows(ids, starts, table, epochs))
        np.testing.assert_array_equal(*means)
        for name, column in both[0].state().items():
            np.testing.assert_array_equal(column, both[1].state()[name], err_msg=name)


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        (["visits"], (0, 4)),
        (["loss_var", "forgetting"], (0, 4)),
        (["margin"], (0, 2, 4)),
        (SampleStatistics.COLUMNS, (0, 1, 2, 3, 4)),
    ],
)
def test_loss_and_correct_are_looked_at_and_what_columns_hold(
    columns: list[str], fields: tuple[int, ...]
) -> None:
    statistics = SampleStatistics(1, np.zeros(3, dtype=np.int64), 2, columns=columns)
    assert statistics.fields == fields
