"""The rules of 2022 to 2026 that came last, against numbers computed by hand."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies, episode, kept, observed, selected
from helpers.fake_runs import FakeRuns
from helpers.results import play
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution

import dynprune_agents
from dynprune_agents.dynamic.cover import spread


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("progressive_dropout(tau=0.0)", "tau .* 0"),
        ("random_progressive(tau=1.5)", "tau .* 1.5"),
        ("ies(delta=-1.0)", "delta is at least 0.* -1"),
        ("ies(window=0)", "window at least 1.* 0"),
        ("rcap(beta=0.0)", "beta is a positive temperature, got 0"),
        ("dyn_impt(window=1)", "window is at least 2 losses, got 1"),
        ("emp(beta=-0.5)", "beta is at least 0, got -0.5"),
        ("es(b1=1.0)", "b1 .* 1"),
        ("es(b2=-0.1)", "b2 .* -0.1"),
        ("eswp(full=1.0)", "full .* 1"),
        ("pods(swing=0.0)", r"swing is in \(0, 1\)"),
        ("pods(cycle=1)", "cycle at least 2"),
        ("pods(rule='nobody')", "no agent is called 'nobody'"),
        ("align_prune(window=3)", "window is at least 4 losses, got 3"),
        ("align_prune(r=1.0)", "r .* 1"),
        ("cover(period=0)", "period .* at least 1, got 0"),
        ("dual(early=0.0)", "early .* 0"),
        ("dual(window=1)", "window is at least 2 epochs.* got 1"),
        ("dual(c=0.0)", "c positive.* 0"),
        ("tdds(window=2)", "window is at least 3 epochs, got 2"),
        ("tdds(early=1.5)", "early .* 1.5"),
        ("early_stopping(patience=0)", "patience .* at least 1, got 0"),
        ("random_control(rule='nobody')", "no agent is called 'nobody'"),
        ("random_control(rule='sb3')", "has to give masks or weights, sb3 gives"),
    ],
)
def test_a_value_outside_its_documented_range_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dynprune_agents.make(spec)


# -- progressive data dropout and its twin ------------------------------------------------------

P = [0.10, 0.30, 0.29, 0.95, 0.31]


@pytest.mark.parametrize(
    ("budget", "epoch", "expected"),
    [
        (1.0, 0, [0, 1, 2, 3, 4]),  # nobody has a probability yet
        (1.0, 1, [0, 2]),  # .30 is not below .3
        (1.0, 8, [0, 2]),
        (1.0, 9, [0, 1, 2, 3, 4]),  # the last epoch
        # Of 25 visits 10 are left: 3 for this epoch (two trained, three scored) and 5 for a full
        # one. Of 7.5 no full one would be left.
        (0.5, 6, [0, 2]),
        (0.5, 7, [0, 1, 2, 3, 4]),
    ],
)
def test_progressive_dropout_keeps_what_is_not_predicted_and_all_in_the_end(
    budget: float, epoch: int, expected: list[int]
) -> None:
    game = episode(5, budget=budget)
    assert kept(selected("progressive_dropout", game, epoch, confidence=P)) == expected


def test_progressive_dropouts_threshold_is_a_parameter() -> None:
    game = episode(5, budget=1.0)
    mask = selected("progressive_dropout(tau=0.95)", game, 4, confidence=P)
    assert kept(mask) == [0, 1, 2, 4]


def test_the_random_twin_keeps_as_many_whichever() -> None:
    game = episode(5, budget=1.0, seeds=MANY)
    mask = selected("random_progressive", game, 4, confidence=P)
    assert (mask.sum(1) == 2).all()
    assert_frequencies(mask, 2 / 5)
    assert selected("random_progressive", game, 9, confidence=P).all()


@pytest.mark.parametrize("spec", ["progressive_dropout", "random_progressive"])
def test_dropped_samples_are_scored_for_a_third_and_the_last_epoch_is_full(spec: str) -> None:
    result = play(spec, budget=1.0, batch_size=8, learning_rate=0.2)
    counts = result.history["kept"]
    assert counts[0] == counts[-1] == 60
    assert 0 < min(counts) < 30
    assert result.scored == sum(60 - count for count in counts)


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


# -- PODS --------------------------------------------------------------------------------------


def rates(spec: str, budget: float, epochs: int) -> list[float]:
    agent = dynprune_agents.make(spec)
    agent.reset(episode(100, epochs, budget))
    return [agent.rate(epoch) for epoch in range(epochs)]


def test_pods_goes_low_then_high_with_the_mean_of_the_budget() -> None:
    assert rates("pods", 0.5, 20) == pytest.approx([0.3, 0.7] * 10)
    # Five epochs of .3 and .7, half of them low: two low ones (2.5 to even), three that make up.
    five = [0.3, 0.3, 1.9 / 3, 1.9 / 3, 1.9 / 3]
    assert rates("pods(cycle=5)", 0.5, 10) == pytest.approx(five * 2)
    # Not above 1: .9 is what .8 and 1 make.
    assert rates("pods", 0.9, 20) == pytest.approx([0.8, 1.0] * 10)
    assert rates("pods", 1.0, 20) == pytest.approx([1.0] * 20)


@given(st.floats(0.05, 1), st.floats(0.01, 0.99), st.integers(2, 30))
def test_pods_keeps_the_mean_in_every_cycle(budget: float, swing: float, cycle: int) -> None:
    found = rates(f"pods(swing={swing!r}, cycle={cycle})", budget, 2 * cycle)
    mean = round(budget * 2 * cycle * 100) / (2 * cycle * 100)
    assert np.mean(found[:cycle]) == pytest.approx(mean)
    assert found[:cycle] == found[cycle:]
    assert found[:cycle] == sorted(found[:cycle])  # low, then high
    assert min(found) > 0
    assert max(found) <= 1 + 1e-9


def test_pods_changes_how_much_a_rule_keeps_and_not_what_it_is() -> None:
    result = play("pods(rule='ucb')", budget=0.5)
    # The first epoch is the rule's warm-up; then high, low, ... and what is left in the last.
    assert result.history["kept"][:5] == [60, 42, 18, 42, 18]
    assert 295 <= result.visits <= 300
    even = play("pods(rule='dynamic_random')", budget=0.5)
    assert even.history["kept"] == [18, 42] * 5
    loss = np.arange(10)
    agent = dynprune_agents.make("pods(rule='dynamic_el2n')")
    mask = selected(agent, episode(10), 4, loss=loss, el2n=9 - loss)
    assert kept(mask) == [0, 1, 2]


@pytest.mark.parametrize("wrapper", ["pods", "random_control"])
def test_a_rule_that_holds_another_asks_for_what_that_needs(wrapper: str) -> None:
    for rule in ("ucb", "kakurenbo", "molpeg"):
        agent = dynprune_agents.make(f"{wrapper}(rule={rule!r})")
        assert dict(agent.env_kwargs) == dict(dynprune_agents.make(rule).env_kwargs)
    result = play(f"{wrapper}(rule='aum')", budget=0.5)
    assert result.preparation == 600


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


def test_covers_forward_passes_are_charged() -> None:
    result = play("cover(period=3)", budget=0.8)
    assert result.scored == 60 * 3  # after epochs 1, 4 and 7
    assert 475 <= result.visits + result.scored / 3 <= 480


# -- DUAL --------------------------------------------------------------------------------------


def test_dual_weighs_the_deviation_of_windows_by_one_minus_their_mean() -> None:
    # 15 % of 20 epochs are three, in windows of two. (.2 .4): .141421 * .7; (.4 .6): .141421 * .5.
    p = np.full((20, 2), 0.9)
    p[:3, 0], p[:3, 1] = [0.2, 0.4, 0.6], [0.6, 0.4, 0.2]
    runs = FakeRuns({"confidence": p})
    score = dynprune_agents.make("dual").score(runs)
    assert score == pytest.approx([0.0848528, 0.0848528], abs=1e-6)
    assert runs.asked == [(0, 3)]
    # As one window of three: .2 * .6.
    assert dynprune_agents.make("dual(window=3)").score(runs) == pytest.approx([0.12, 0.12])


def dual(spec: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, mean p and (draws, 20) masks; the ten highest scores have a mean p of .3."""
    mean = np.concatenate([np.full(10, 0.3), np.linspace(0.05, 0.95, 10)])
    step = np.concatenate([np.full(10, 0.1), np.full(10, 0.01)])
    p = np.stack([mean - step, mean, mean + step])
    window = step / np.sqrt(2)
    scores = window * ((1 - mean + step / 2) + (1 - mean - step / 2)) / 2
    agent = dynprune_agents.make(spec)
    agent.prepare(FakeRuns({"confidence": np.broadcast_to(p[:, None], (3, len(MANY), 20))}))
    game = episode(20, budget=count / 20, seeds=MANY)
    agent.reset(game)
    return scores, mean, agent.select(observed(game, 0))


def test_duals_beta_density_draws_easier_samples_the_less_is_kept() -> None:
    # 95 % pruned: b = 15 * .7 * (1 - .95^4) = 1.94769 and a = 14.05231.
    scores, mean, mask = dual("dual(early=1.0, window=2)", 1)
    assert (mask.sum(1) == 1).all()
    p = scores * beta_distribution.pdf(mean, 14.05231, 1.94769)
    assert_frequencies(mask, p / p.sum())
    assert p[19] > p[:10].max()  # the easiest is drawn most, whatever its score
    # With c = 11, b = 15 * .7 * (1 - .95^11) = 4.52775.
    scores, mean, mask = dual("dual(early=1.0, window=2, c=11.0)", 1)
    p = scores * beta_distribution.pdf(mean, 11.47225, 4.52775)
    assert_frequencies(mask, p / p.sum())


def test_dual_without_beta_sampling_keeps_the_top() -> None:
    _, _, mask = dual("dual(early=1.0, window=2, beta=False)", 10)
    assert mask[:, :10].all()
    assert not mask[:, 10:].any()


# -- TDDS --------------------------------------------------------------------------------------


def test_tdds_is_the_norm_of_the_steps_of_the_predictions_about_their_mean() -> None:
    # .8 ln 1.6 + .2 |ln .4| = .559261; .6 |ln .75| + .4 ln 2 = .449868. In a window of three epochs
    # they deviate by .0546965: norm .0773526, times .9.
    p = np.array([0.5, 0.8, 0.6, 0.6])
    rows = np.stack([p, 1 - p], axis=-1)[:, None]  # (T, n, C)
    runs = FakeRuns({"loss": np.zeros((3, 1))}, probabilities=[rows[:3]])
    found = dynprune_agents.make("tdds(early=1.0, window=3)").score(runs)
    assert found == pytest.approx([0.0696173], abs=1e-6)
    # A third step of 0: the last window is (.449868, 0), of norm .318105. .9 of it, and .1 before.
    runs = FakeRuns({"loss": np.zeros((4, 1))}, probabilities=[rows])
    found = dynprune_agents.make("tdds(early=1.0, window=3)").score(runs)
    assert found == pytest.approx([0.1 * 0.0696173 + 0.9 * 0.318105], abs=1e-5)


@pytest.mark.parametrize("spec", ["tdds", "dual"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_shortest_runs_can_be_scored(spec: str, epochs: int) -> None:
    result = play(spec, epochs=epochs)
    assert 0 < result.visits <= 30 * epochs
    passes = epochs * (1 + (1 / 3 if spec == "tdds" else 0))
    assert result.preparation <= 60 * passes + 1e-6


# -- early stopping ----------------------------------------------------------------------------


def stopping(spec: str, val: list[float], epochs: int = 10) -> list[bool]:
    agent, game = dynprune_agents.make(spec), episode(3, epochs, 1.0)
    agent.reset(game)
    masks = [agent.select(observed(game, t, val_loss=v)) for t, v in enumerate(val)]
    assert all(mask.all() or not mask.any() for mask in masks)
    return [bool(mask.all()) for mask in masks]


def test_early_stopping_waits_for_patience_epochs_without_a_new_lowest_val_loss() -> None:
    val = [2.3, 1.0, 0.8, 0.9, 0.7, 0.7, 0.75, 0.75]
    assert stopping("early_stopping(patience=2)", val) == [True] * 6 + [False] * 2
    assert (
        stopping("early_stopping(patience=1)", val)
        == [True] * 3 + [False, True, False] + [False] * 2
    )
    assert stopping("early_stopping", val) == [True] * 6 + [False] * 2  # at least two
    worse = [1.0, *[2.0] * 12]
    assert stopping("early_stopping", worse, epochs=100).count(True) == 10  # a tenth of the run


def test_early_stopping_stops_each_replica_by_itself_and_forgets_the_last_episode() -> None:
    agent, game = dynprune_agents.make("early_stopping(patience=1)"), episode(3, seeds=(0, 1))
    for _ in range(2):
        agent.reset(game)
        masks = []
        for epoch, val in enumerate([[2, 2], [1, 2], [0.5, 1], [0.6, 0.5]]):
            seen = observed(game, epoch)
            seen["progress"][:, 4] = val
            masks.append(agent.select(seen).all(1).tolist())
        assert masks[0] == [True, True]
        assert masks[1] == [True, False]
        assert masks[3] == [False, True]


def test_early_stopping_trains_nothing_more_once_it_has_stopped() -> None:
    result = play("early_stopping(patience=1)", budget=1.0, label_noise=0.9, learning_rate=0.5)
    counts = result.history["kept"]
    stop = counts.index(0)
    assert counts == [60] * stop + [0] * (10 - stop)
    assert result.saved == pytest.approx(1 - stop / 10)


# -- the random control ------------------------------------------------------------------------


def test_a_random_control_keeps_as_many_with_the_same_mean_weight() -> None:
    loss = np.arange(12)
    game = episode(12, seeds=MANY)
    weights = selected("random_control(rule='infobatch(r=0.5)')", game, 1, loss=loss)
    # Six are below the mean of 5.5: three dropped, three of weight 2. The mean of nine: 12 / 9.
    assert ((weights > 0).sum(1) == 9).all()
    assert weights[weights > 0] == pytest.approx(12 / 9)
    assert_frequencies(weights, 9 / 12)
    mask = selected("random_control(rule='dynamic_el2n')", game, 1, el2n=loss)
    assert mask.dtype == bool
    assert (mask.sum(1) == 6).all()
    assert_frequencies(mask, 0.5)


def test_a_random_control_of_a_rule_that_keeps_nothing_keeps_nothing() -> None:
    agent = dynprune_agents.make("random_control(rule='early_stopping(patience=1)')")
    game = episode(4)
    agent.reset(game)
    assert agent.select(observed(game, 0, val_loss=1)).all()
    assert not agent.select(observed(game, 1, val_loss=2)).any()


# -- warm-ups ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "budget", "warned"),
    [
        ("ucb", 0.1, True),
        ("ucb", 0.2, False),
        ("ucb(warmup=3)", 0.3, True),
        ("small_loss(warmup=5)", 0.5, True),
        ("ies", 0.6, True),
        ("ies", 0.7, False),
        ("es", 0.2, True),
        ("eswp(full=0.2)", 0.4, True),
        ("es(full=0.0)", 0.1, False),
        ("progressive_dropout", 0.2, True),
        ("progressive_dropout", 0.3, False),
        ("selective_backprop", 0.1, True),
        ("molpeg", 0.1, False),
        ("dynamic_random", 0.1, False),
    ],
)
def test_a_warm_up_that_spends_the_whole_budget_warns_once_per_episode(
    spec: str, budget: float, warned: bool
) -> None:
    agent = dynprune_agents.make(spec)
    game = episode(6, budget=budget, probe=SimpleNamespace(losses=None))
    for _ in range(2):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            agent.reset(game)
            for epoch in range(0 if spec == "molpeg" else 3):  # it would ask a probe
                agent.select(observed(game, epoch))
        assert len(found) == warned
        for message in map(str, (each.message for each in found)):
            assert message.startswith(f"{agent!r}: ")
            assert "spend the whole budget of" in message
            assert "so this is full data" in message
