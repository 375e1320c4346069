"""The rules that score by histories, classes and features, against numbers computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies, episode, kept, observed, selected
from helpers.results import play

import dynprune_agents
from dynprune_agents.dynamic.cover import spread

# -- IES ---------------------------------------------------------------------------------------

SETTLING = [1.0, 0.5, 0.3, 0.2, 0.15, 0.13]  # second differences .3 .1 .05 .03


def ies(delta: float, losses: list[float]) -> list[bool]:
    """Whether the one sample is kept after each of these losses; before them it is."""
    agent, game = dynprune_agents.make(f"ies(delta={delta})"), episode(1, 20, 1.0)
    agent.reset(game)
    assert agent.select(observed(game, 0, visits=0)).all()
    return [
        bool(agent.select(observed(game, epoch, loss=loss)).all())
        for epoch, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(("delta", "stays"), [(0.1, False), (0.061, False), (0.059, True)])
def test_ies_stops_a_sample_by_the_mean_of_three_second_differences(
    delta: float, stays: bool
) -> None:
    # (.1 + .05 + .03) / 3 = .06, after six losses and no sooner.
    assert ies(delta, SETTLING) == [True] * 5 + [stays]


def test_ies_takes_a_sample_back_whose_loss_moves_again() -> None:
    # The next differences are .01 (mean .03), then .01 - .48 + ...: 2 * .12 - .13 - .6 = -.49.
    found = ies(0.1, [*SETTLING, 0.12, 0.6])
    assert found == [True] * 5 + [False, False, True]
    assert all(ies(0.0, [1.0] * 12)), "nothing is below 0"


# -- RCAP --------------------------------------------------------------------------------------


def test_rcaps_classes_share_by_the_root_of_their_size_at_first() -> None:
    # Roots of .75 and .25: 4 * (.634, .366) = 2.54 and 1.46, by largest remainder 3 and 1.
    game = replace(episode(8, budget=0.5, seeds=MANY), num_classes=2)
    mask = selected("rcap", game, 0, loss=math.log(2), label=np.repeat([0, 1], [6, 2]))
    assert (mask[:, :6].sum(1) == 3).all()
    assert (mask[:, 6:].sum(1) == 1).all()
    assert_frequencies(mask, 0.5)


@pytest.mark.parametrize(("beta", "p"), [(1.0, [0.2, 0.4, 0.4]), (0.5, [1 / 9, 4 / 9, 4 / 9])])
def test_rcap_draws_by_the_softmax_of_clipped_losses(beta: float, p: list[float]) -> None:
    # exp(l / beta) is 1 and 2 (or 4), and no loss counts more than ln C.
    game = replace(episode(3, budget=1 / 3, seeds=MANY), num_classes=2)
    loss = [0, math.log(2), math.log(4)]
    mask = selected(f"rcap(beta={beta})", game, 0, loss=loss, label=0)
    assert_frequencies(mask, p)


@pytest.mark.parametrize(
    ("ratio", "drawn"),
    [
        # The kept two of class 0 have twice the importance of the other two, those of class 1 half
        # of it: they held 2/3 and 1/3, and share four by the roots, 2.34 and 1.66.
        (2, [2, 2]),
        (5, [3, 1]),  # held 5/6 and 1/6: 2.76 and 1.24
    ],
)
def test_rcaps_classes_share_by_what_the_last_epoch_held_of_their_importance(
    ratio: float, drawn: list[int]
) -> None:
    game = replace(episode(8, budget=0.5), num_classes=2)
    label = np.repeat([0, 1], 4)
    agent = dynprune_agents.make(f"rcap(beta={math.log(2) / math.log(ratio)!r})")
    agent.reset(game)
    first = agent.select(observed(game, 0, loss=math.log(2), label=label))
    assert np.bincount(label[first]).tolist() == [2, 2]
    loss = np.where(np.where(label == 0, first, ~first), math.log(2), 0)
    second = agent.select(observed(game, 1, loss=loss, label=label))
    assert np.bincount(label[second]).tolist() == drawn


# -- DynImpt -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(1, [3]), (2, [1, 3]), (3, [0, 1, 3])])
def test_dyn_impt_adds_ranks_of_loss_deviation_and_trend(count: int, expected: list[int]) -> None:
    # Last losses 1 1.1 .25 .6 rank 2 3 0 1; deviations .41 .08 .02 .99 rank 2 1 0 3; slopes
    # -.5 .05 .025 -1.2 are .09 .46 .43 .79 from their mean of -.406: 0 2 1 3. Sums: 4 6 1 7.
    losses = [[2.0, 1.0, 0.2, 3.0], [1.5, 1.2, 0.2, 2.0], [1.0, 1.1, 0.25, 0.6]]
    game = episode(4, budget=count / 4)
    agent = dynprune_agents.make("dyn_impt(window=3)")
    agent.reset(game)
    assert agent.select(observed(game, 0, loss=2.3, visits=0)).all()
    for epoch, loss in enumerate(losses, start=1):
        mask = agent.select(observed(game, epoch, loss=loss, visits=epoch))
    assert kept(mask) == expected


def test_dyn_impt_goes_by_the_epochs_of_visits_alone() -> None:
    # Sample 1 was not visited in epoch 2: from 2 to 1 in two epochs is a slope of -.5, as that of
    # sample 0; sample 2 falls by 1 per epoch. Mean -.667: .167 .167 .333. Deviations .41 .5 .82.
    game = episode(3, budget=1 / 3)
    agent = dynprune_agents.make("dyn_impt(window=3)")
    agent.reset(game)
    agent.select(observed(game, 0, loss=2.3, visits=0))
    agent.select(observed(game, 1, loss=[2, 2, 3], visits=[1, 1, 1]))
    agent.select(observed(game, 2, loss=[1.5, 2, 2], visits=[2, 1, 2]))
    mask = agent.select(observed(game, 3, loss=[0.9, 1, 1.1], visits=[3, 2, 3]))
    assert kept(mask) == [2]


# -- EMP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("other", "first"), [(0.6620, [0]), (0.6622, [1])])
def test_emp_adds_half_of_the_entropy_to_the_loss(other: float, first: list[int]) -> None:
    # -ln .7 = .35667 and the entropy of (.7, .3) is .61086: .66211. The other is sure: no entropy.
    columns = {"loss": [-math.log(0.7), other], "confidence": [0.7, 1.0]}
    assert kept(selected("emp", episode(2, budget=0.5), 1, **columns)) == first


def test_emp_keeps_all_at_first_and_beta_weighs_the_entropy() -> None:
    columns = {"loss": [0.70, 0.66, 0.10], "confidence": [0.99, 0.5, 0.0]}
    game = episode(3, budget=1 / 3)
    assert selected("emp", game, 0, **columns).all()
    assert kept(selected("emp", game, 1, **columns)) == [1]  # .73 1.01 .1
    assert kept(selected("emp(beta=0.0)", game, 1, **columns)) == [0]


# -- evolved sampling --------------------------------------------------------------------------

ES_WEIGHTS = [[1.7, 0.9], [0.93, 0.91]]
ES_SCORES = [[0.65, 0.55], [0.685, 0.595]]


@pytest.mark.parametrize(
    ("spec", "budget", "expected"),
    [
        # A third of a visit for the one that is left out: 4/3 for one of two.
        ("es(b1=0.2, b2=0.9, full=0.0)", 2 / 3, ES_WEIGHTS),
        ("eswp(b1=0.2, b2=0.9, full=0.0)", 1 / 2, ES_SCORES),
    ],
)
def test_evolved_sampling_draws_by_weights_or_by_scores(
    spec: str, budget: float, expected: list[list[float]]
) -> None:
    agent, game = dynprune_agents.make(spec), episode(2, budget=budget, seeds=MANY)
    agent.reset(game)
    mask = agent.select(observed(game, 0, loss=2.3, visits=0))
    assert (mask.sum(1) == 1).all()
    assert_frequencies(mask, 0.5)  # scores start alike
    for epoch, loss in enumerate([[2, 1], [1, 1]]):
        mask = agent.select(observed(game, epoch + 1, loss=loss))
        p = np.array(expected[epoch])
        assert (mask.sum(1) == 1).all()
        assert_frequencies(mask, p / p.sum())


def test_what_evolved_sampling_did_not_see_keeps_its_weight_and_score() -> None:
    agent, game = dynprune_agents.make("eswp(b2=0.9, full=0.0)"), episode(2, seeds=MANY)
    agent.reset(game)
    agent.select(observed(game, 0, loss=2.3, visits=0))
    mask = agent.select(observed(game, 1, loss=[2, 2.3], age=[0, 1]))
    assert_frequencies(mask, np.array([0.65, 0.5]) / 1.15)


@pytest.mark.parametrize("spec", ["es", "eswp", "es(full=0.2)"])
def test_evolved_sampling_is_full_at_both_ends_and_spends_the_budget(spec: str) -> None:
    result = play(spec, budget=0.7)
    counts = result.history["kept"]
    ends = 2 if "full" in spec else 1
    assert counts[:ends] == counts[-ends:] == [60] * ends
    assert max(counts[ends:-ends]) - min(counts[ends:-ends]) <= 2
    assert 420 - 5 <= result.visits + result.scored / 3 <= 420 + 1e-6
    assert (result.scored > 0) == (spec != "eswp")


# -- AlignPrune --------------------------------------------------------------------------------


def aligned(visits: list[Any], losses: list[Any], seeds: Any = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and weights after four epochs in which val loss was 2, 1.5, 1.2 and 1."""
    n = len(losses[0])
    game = episode(n, seeds=seeds)
    agent = dynprune_agents.make("align_prune(window=4)")
    agent.reset(game)
    agent.select(observed(game, 0, loss=2.3, visits=0, val_loss=2.3))
    known = zip([2, 1.5, 1.2, 1.0], visits, losses, strict=True)
    for epoch, (val_loss, visit, loss) in enumerate(known, start=1):
        seen = observed(game, epoch, loss=loss, visits=visit, val_loss=val_loss)
        scores = []
        original = agent.scores

        def watched(observation: Any, original: Any = original, into: Any = scores) -> np.ndarray:
            into.append(original(observation))
            return into[-1]

        agent.scores = watched
        weights = agent.select(seen)
        del agent.scores
    return scores[0], weights


GOOD, BAD = [1, 0.8, 0.5, 0.4], [0.5, 0.9, 0.7, 1.1]


def test_align_prune_scores_by_the_correlation_with_val_loss() -> None:
    losses = np.array([GOOD, BAD, GOOD, BAD, BAD]).T
    scores, weights = aligned([1, 2, 3, 4], list(losses), seeds=MANY)
    assert scores[0] == pytest.approx([0.98104, -0.80143, 0.98104, -0.80143, -0.80143], abs=1e-5)
    # Three are below the mean of -.089: int(.5 * 3) of them is dropped, the others weigh double.
    assert (weights[:, [0, 2]] == 1).all()
    assert set(np.unique(weights[:, [1, 3, 4]])) == {0, 2}
    assert_frequencies(weights == 0, [0, 1 / 3, 0, 1 / 3, 1 / 3])


def test_align_prune_takes_a_sample_of_few_losses_for_an_ordinary_one() -> None:
    losses = np.array([GOOD, BAD, BAD, [1, 2.0, 2.0, 3.0]]).T
    visits = [[1, 1, 1, 1], [2, 2, 2, 1], [3, 3, 3, 1], [4, 4, 4, 2]]
    scores, weights = aligned(visits, list(losses))
    assert scores[3] == pytest.approx((0.98104 - 2 * 0.80143) / 3, abs=1e-5)
    assert weights[3] == 1
    assert sorted(weights[1:3].tolist()) == [0, 2]


def test_align_prune_goes_by_losses_until_there_are_four() -> None:
    agent, game = dynprune_agents.make("align_prune"), episode(4)
    agent.reset(game)
    agent.select(observed(game, 0, loss=2.3, visits=0))
    weights = agent.select(observed(game, 1, loss=[0.1, 0.2, 0.5, 1.2], visits=1))
    assert weights[2:].tolist() == [1, 1]  # .5 is the mean, and not below it
    assert sorted(weights[:2].tolist()) == [0, 2]


# -- cover -------------------------------------------------------------------------------------


def test_spread_is_the_squared_distance_to_the_class_mean() -> None:
    features = np.array([[0, 0], [2, 0], [4, 6], [9, 9.0]])
    found = spread(features, np.array([0, 0, 0, 2]), 4)  # the mean of class 0 is (2, 2)
    assert found == pytest.approx([8, 4, 20, 0])
    # Up to a constant it is the sum of squared distances to the others, over their number.
    sums = np.square(features[:3, None] - features[None, :3]).sum((1, 2)) / 3
    assert np.ptp(found[:3] - sums) == pytest.approx(0)


class FakeProbe:
    """Gives features, or none where the budget cannot pay."""

    def __init__(self, *rows: Any):
        self.rows = list(rows)

    def features(self) -> np.ndarray | None:
        row = self.rows.pop(0)
        return None if row is None else np.float32(row)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spread_is_the_same_compiled_and_plain(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(500, 7)).astype(dtype), rng.integers(0, 9, 500)
    found = []
    for compiled in (True, False):
        monkeypatch.setattr("dynprune_agents.dynamic.cover.HAS_NUMBA", compiled)
        monkeypatch.setattr("dynprune_agents.dynamic.cover.LARGE", 1)
        found.append(spread(features, labels, 10))
    np.testing.assert_array_equal(*found)


def test_cover_keeps_the_outermost_of_each_class() -> None:
    # Of 0 1 10 around 3.67 the outer ones; of the other class, as large, 5 and 9 around 6.67.
    features = np.array([0, 5, 1, 6, 10, 9.0])[:, None]
    label = [0, 1, 0, 1, 0, 1]
    # Six per epoch pay for one forward pass over six, and four.
    game = episode(6, budget=1.0, probe=FakeProbe(features, 10 - features))
    agent = dynprune_agents.make("cover(period=1)")
    agent.reset(game)
    assert agent.select(observed(game, 0, label=label)).all()
    for epoch in (1, 2):
        assert kept(agent.select(observed(game, epoch, label=label))) == [0, 1, 4, 5]


def test_cover_goes_on_with_its_last_selection_where_the_budget_cannot_pay() -> None:
    game = episode(6, budget=1.0, probe=FakeProbe(np.arange(6.0)[:, None], None))
    agent = dynprune_agents.make("cover(period=1)")
    agent.reset(game)
    first, second = (agent.select(observed(game, epoch, label=0)) for epoch in (1, 2))
    assert kept(first) == [0, 1, 4, 5]
    assert set(kept(second)) >= {0, 1, 4, 5}


@pytest.mark.parametrize(("budget", "period"), [(0.15, 10), (0.3, 4), (0.5, 3), (1.0, 1)])
def test_covers_passes_take_about_a_third_of_the_visits_at_most(budget: float, period: int) -> None:
    # Of 20 epochs 19 are left after the warm-up: a pass each costs 19/3 epochs of visits.
    result = play("cover", budget=budget, epochs=20)
    assert result.scored == 60 * -(-19 // period)
    assert 0 < result.scored / 3 <= (20 * budget - 1) * 60 / 3 + 20


def test_cover_says_so_where_its_passes_take_the_whole_budget() -> None:
    with pytest.warns(UserWarning, match="every 1 epochs takes 380 visits, all of the 300"):
        assert play("cover(period=1)", budget=0.3, epochs=20).scored == 0


def test_covers_forward_passes_are_charged() -> None:
    result = play("cover(period=3)", budget=0.8)
    assert result.scored == 60 * 3  # after epochs 1, 4 and 7
    assert 475 <= result.visits + result.scored / 3 <= 480
