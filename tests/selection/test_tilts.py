"""Tilts lean dynamic random towards samples by standardised features, from the first epoch on."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.episodes import assert_same, make, make_vector

from dynprune_env.selection import ranking, tilts
from dynprune_env.selection.budget import VisitBudget
from dynprune_env.selection.context import ActionContext
from dynprune_env.selection.ranking import standardise_among
from dynprune_env.selection.statistics import SampleStatistics, SampleValues
from dynprune_env.selection.tilts import PacedTilts, Tilts, WeightedTilts, tilt_features

KINDS = [Tilts, WeightedTilts, PacedTilts]
every_kind = pytest.mark.parametrize("kind", KINDS)


def runs(num_replicas: int = 1, n: int = 6, visited: int = 4, classes: int = 2) -> Any:
    """Statistics of runs that have visited the first samples once, in the first of two epochs.

    Sample i has a loss of i nats, a margin of -i² and the label i mod C.
    """
    statistics = SampleStatistics(num_replicas, np.arange(n) % classes, classes)
    ids = np.arange(visited)
    where = np.concatenate([r * n + ids for r in range(num_replicas)])
    if visited:
        loss = np.tile(ids, num_replicas).astype(np.float32)
        zeros = np.zeros_like(loss)
        values = SampleValues(loss, zeros, -(loss**2), zeros, zeros)
        statistics.record(where, values, np.ones(len(where), dtype=np.int64))
    return statistics


def context(statistics: SampleStatistics, count: float, seed: int = 0) -> ActionContext:
    rows, n = statistics.loss.shape
    budget = VisitBudget(rows, n, epochs=1002, share=1.0)
    budget.total_visits = 10**7
    budget.epoch[:], budget.visits[:] = 2, 10**7 - round(1000 * count)
    return ActionContext(statistics, budget, np.arange(seed, seed + rows))


def action(kind: type[Tilts], rows: int = 1, **numbers: float) -> np.ndarray:
    chosen = np.zeros((rows, len(kind.NAMES)), dtype=np.float32)
    for name, value in numbers.items():
        chosen[:, kind.NAMES.index(name)] = value
    return chosen


def test_the_actions_have_the_length_and_the_names_that_they_say() -> None:
    assert Tilts().space(10).shape == Tilts().space(50_000).shape == (8,)
    assert WeightedTilts().space(10).shape == (11,)
    assert Tilts.NAMES[-1] == "temperature"
    assert WeightedTilts.NAMES[8:] == ("loss_weight", "loss_squared_weight", "unvisited_weight")
    assert PacedTilts.NAMES[11:] == ("margin_weight", "pace")


def test_features_are_those_computed_by_hand() -> None:
    found = tilt_features(context(runs(), 3))
    deviation = math.sqrt(1.25)
    loss = [(i - 1.5) / deviation for i in range(4)]
    assert found["loss"][0] == pytest.approx([*loss, 0, 0])
    assert found["loss_squared"][0] == pytest.approx([0.8, -0.8, -0.8, 0.8, 0, 0])
    margins = np.array([0, -1, -4, -9.0])
    assert found["margin"][0, :4] == pytest.approx((margins + 3.5) / margins.std())
    # Ages are 1, 1, 1, 1, 2, 2.
    assert found["age"][0] == pytest.approx([-math.sqrt(0.5)] * 4 + [math.sqrt(2)] * 2)
    assert found["unvisited"][0].tolist() == [False] * 4 + [True] * 2
    # The unvisited have the loss of a uniform prediction.
    means = [(0 + 2 + math.log(2)) / 3, (1 + 3 + math.log(2)) / 3]
    inside = np.array([i - means[i % 2] for i in range(4)])
    expected = (inside - inside.mean()) / inside.std()
    assert found["loss_in_class"][0] == pytest.approx([*expected, 0, 0], rel=1e-6)
    assert not found["deviation"].any()
    assert tuple(found) == Tilts.FEATURES


def test_the_squared_loss_is_limited() -> None:
    statistics = runs(n=100, visited=100, classes=2)
    found = tilt_features(context(statistics, 3))
    assert found["loss_squared"].min() >= -1
    assert found["loss_squared"].max() <= 3


@pytest.mark.parametrize("visited", [0, 1])
@every_kind
def test_before_the_first_visits_all_is_finite_and_nothing_leans(
    kind: type[Tilts], visited: int
) -> None:
    found = tilt_features(context(runs(visited=visited), 3))
    assert all(np.isfinite(value).all() for value in found.values())
    known = ("loss", "margin", "loss_in_class", "deviation")
    assert not any(found[name].any() for name in known)
    ones = action(kind, **dict.fromkeys(set(kind.NAMES) - {"pace"}, 1.0))
    weights = kind().decode(ones, context(runs(visited=visited), 3))
    assert np.isfinite(weights).all()
    assert np.count_nonzero(weights) == 3


@every_kind
def test_zeros_are_dynamic_random(kind: type[Tilts]) -> None:
    rows, n, count = 4000, 6, 2
    weights = kind().decode(action(kind, rows), context(runs(rows), count))
    assert set(np.unique(weights)) == {0, 1}
    assert (weights.sum(1) == count).all()
    share = weights.mean(0)
    error = math.sqrt(count / n * (1 - count / n) / rows)
    assert np.abs(share - count / n).max() < 4 * error
    pairs = weights.T @ weights / rows  # without replacement: pairs are uniform too
    expected = count / n * (count - 1) / (n - 1)
    assert np.abs(pairs[np.triu_indices(n, 1)] - expected).max() < 4 * math.sqrt(expected / rows)


@pytest.mark.parametrize("name", Tilts.FEATURES)
def test_more_of_a_feature_is_kept_the_higher_its_number(name: str) -> None:
    rows, n = 400, 24
    statistics = runs(rows, n, visited=18, classes=3)
    table = statistics._table["loss_var"]
    table[:, :18] = np.arange(18)[::-1]
    feature = tilt_features(context(statistics, 8))[name].astype(float)
    found = []
    for number in (-1, -0.3, 0, 0.3, 1):
        kept = Tilts().decode(action(Tilts, rows, **{name: number}), context(statistics, 8))
        assert (kept.sum(1) == 8).all()
        found.append(float((kept * feature).sum() / kept.sum()))
    assert np.ptp(feature) > 0
    assert all(low + 0.02 < high for low, high in pairwise(found))
    assert abs(found[2] - feature.mean()) < 0.1


def test_a_small_number_of_what_visits_tell_does_not_set_the_unvisited_apart() -> None:
    statistics = runs(2000, n=20, visited=10)
    for name in ("loss", "margin", "loss_in_class", "deviation"):
        kept = Tilts().decode(action(Tilts, 2000, **{name: 0.1}), context(statistics, 8))
        assert kept[:, 10:].mean() == pytest.approx(0.4, abs=0.03)


def test_the_inclusion_of_one_sample_is_the_softmax_of_the_scores() -> None:
    rows = 20_000
    numbers = {"loss": 0.4, "unvisited": -0.3, "temperature": -0.2}
    weights = Tilts().decode(action(Tilts, rows, **numbers), context(runs(rows), 1))
    features = tilt_features(context(runs(), 1))
    scores = 2 * (0.4 * features["loss"][0] - 0.3 * features["unvisited"][0]) / 10**-0.2
    expected = np.exp(scores) / np.exp(scores).sum()
    assert weights.mean(0) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / rows))


def test_a_low_temperature_keeps_the_top_and_a_high_one_nearly_any() -> None:
    rows = 2000
    statistics = runs(rows, n=12, visited=12, classes=2)
    shares = []
    for temperature in (-1, 0, 1):
        numbers = action(Tilts, rows, loss=1, temperature=temperature)
        shares.append(Tilts().decode(numbers, context(statistics, 4))[:, 8:].mean())
    assert shares[0] > 0.95
    assert shares[0] > shares[1] + 0.1 > shares[2] + 0.2
    assert shares[2] == pytest.approx(1 / 3, abs=0.1)


def test_weights_are_powers_of_two_of_the_features_within_a_half_and_twice() -> None:
    numbers = action(WeightedTilts, loss_weight=0.5, unvisited_weight=-0.3, loss_squared_weight=0.1)
    weights = WeightedTilts().decode(numbers, context(runs(), 6))[0]
    features = {name: value[0] for name, value in tilt_features(context(runs(), 6)).items()}
    logs = 0.5 * features["loss"] - 0.3 * features["unvisited"] + 0.1 * features["loss_squared"]
    assert weights == pytest.approx(2**logs, rel=1e-6)
    extreme = action(WeightedTilts, loss_weight=1)
    assert WeightedTilts().decode(extreme, context(runs(), 6))[0, [0, 3]].tolist() == [0.5, 2]


def test_weighted_tilts_keep_what_tilts_keep() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.uniform(-1, 1, (5, 11)).astype(np.float32)
    weights = WeightedTilts().decode(numbers, context(runs(5, 30, 20), 9))
    kept = Tilts().decode(numbers[:, :8], context(runs(5, 30, 20), 9))
    assert_same(weights > 0, kept > 0)
    assert len(np.unique(weights)) > 10


@pytest.mark.parametrize(("pace", "kept"), [(-1, 2), (-0.5, 4), (0, 8), (0.5, 16), (1, 20)])
def test_a_pace_is_a_power_of_four_of_the_even_one_and_all_samples_at_most(
    pace: float, kept: int
) -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, (5, 13)).astype(np.float32)
    numbers[:, -1] = pace
    weights = PacedTilts().decode(numbers, context(runs(5, 20, 15), 8))
    assert np.count_nonzero(weights, axis=1).tolist() == [kept] * 5
    if pace == 0:
        numbers[:, -2] = 0
        weights = PacedTilts().decode(numbers, context(runs(5, 20, 15), 8))
        expected = WeightedTilts().decode(numbers[:, :-2], context(runs(5, 20, 15), 8))
        assert_same(weights, expected)


def test_small_margins_may_weigh_more() -> None:
    weights = PacedTilts().decode(action(PacedTilts, margin_weight=-0.5), context(runs(), 6))[0]
    margins = np.array([0, -1, -4, -9.0])
    octaves = 0.5 * (3.5 + margins) / margins.std()
    assert weights[:4] == pytest.approx(2.0**-octaves, rel=1e-6)
    assert weights[4:].tolist() == [1, 1]


def test_a_run_may_begin_with_a_full_epoch_and_spends_the_rest_evenly() -> None:
    env = make(action="paced_tilts", budget=0.4)  # 0.4 * 4 * 48 = 77 visits
    env.reset(seed=0)
    numbers = np.zeros(env.action_space.shape, dtype=np.float32)
    kept = []
    for pace in (0.9, 0, 0, 0):
        numbers[-1] = pace
        *_, ended, _, info = env.step(numbers)
        kept.append(info["kept"])
    assert kept == [48, 10, 10, 9]
    assert ended


@every_kind
def test_a_row_is_the_same_alone_and_in_company(kind: type[Tilts]) -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, (5, len(kind.NAMES))).astype(np.float32)
    numbers[2] = 0
    together = kind().decode(numbers, context(runs(5, 30, 20), 9))
    for row in range(5):
        alone = kind().decode(numbers[row : row + 1], context(runs(1, 30, 20), 9, seed=row))
        assert_same(alone[0], together[row])


@every_kind
@pytest.mark.parametrize("pace", [0.0, 0.2, 1.4, 99.0])
def test_at_least_one_and_at_most_all_are_kept(kind: type[Tilts], pace: float) -> None:
    weights = kind().decode(action(kind), context(runs(), pace))
    assert np.count_nonzero(weights) == {0.0: 1, 0.2: 1, 1.4: 1, 99.0: 6}[pace]


@pytest.mark.parametrize("value", [1.1, -1.1])
@pytest.mark.parametrize("kind", ["tilts", "weighted_tilts", "paced_tilts"])
def test_numbers_out_of_range_are_refused(kind: str, value: float) -> None:
    env = make(action=kind)
    env.reset(seed=0)
    numbers = np.zeros(env.action_space.shape)
    numbers[-1] = value
    with pytest.raises(ValueError, match=r"numbers in \[-1, 1\]"):
        env.step(numbers)


@pytest.mark.parametrize("kind", ["tilts", "weighted_tilts"])
def test_whole_runs_spend_the_budget_evenly(kind: str) -> None:
    env = make_vector(3, action=kind)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(4):
        *_, ended, _, infos = env.step(env.action_space.sample())
        assert infos["kept"].tolist() == [24] * 3
    assert ended.all()


@pytest.mark.parametrize("numbers", [np.float32, np.float64])
def test_the_compiled_z_scores_are_the_plain_ones(numbers: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 40)).astype(numbers) ** 3
    among = rng.random((6, 40)) < 0.5
    among[0], among[1], values[2] = False, np.arange(40) == 3, 7
    found = standardise_among(values, among)
    assert found == pytest.approx(ranking.plain_standardise_among(values, among), abs=1e-12)
    assert not found[~among].any()
    assert not found[:3].any()
    one = values[4, among[4]].astype(np.float64)
    expected = np.clip((one - one.mean()) / one.std(), -3, 3)
    assert found[4, among[4]] == pytest.approx(expected)


def test_runs_are_the_same_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, (3, 11))
    expected = WeightedTilts().decode(numbers, context(runs(3, 30, 20), 9))
    monkeypatch.setattr(ranking, "HAS_NUMBA", False)
    assert tilts.standardise_among is standardise_among
    found = WeightedTilts().decode(numbers, context(runs(3, 30, 20), 9))
    assert found == pytest.approx(expected, rel=1e-6)
