"""The rules that decide how much is kept when, against numbers computed by hand."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies, episode, kept, observed, selected
from helpers.results import play
from hypothesis import given
from hypothesis import strategies as st

import dynprune_agents

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


# -- PODS --------------------------------------------------------------------------------------


def rates(spec: str, budget: float, epochs: int) -> list[float]:
    agent = dynprune_agents.make(spec)
    agent.reset(episode(100, epochs, budget))
    return agent.rate(np.arange(epochs)).tolist()


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
    # The rule's warm-up, then low, high, ... With rates of .3 and .7 the nine epochs have 4.3 in
    # all for the 240 visits that are left: 240 x .3 / 4.3, then (240 - 17) x .7 / 4, ...
    assert result.history["kept"][:8] == [60, 17, 39, 17, 39, 17, 39, 17]
    assert result.visits == 300
    even = play("pods(rule='dynamic_random')", budget=0.5)
    assert even.history["kept"] == [18, 42] * 5
    loss = np.arange(10)
    agent = dynprune_agents.make("pods(rule='dynamic_el2n')")
    mask = selected(agent, episode(10), 5, loss=loss, el2n=9 - loss)
    assert kept(mask) == [0, 1, 2]


UNPACED = {
    *("align_prune", "aum", "cartography", "ccs", "dual", "dyn_unc", "early_stopping", "el2n"),
    *("es", "eswp", "forgetting", "full_data", "grand", "ies", "infobatch", "kakurenbo"),
    *("orderdp", "progressive_dropout", "random_infobatch", "random_progressive", "repb", "seta"),
    *("static_random", "tdds", "pods", "random_control", "sb3"),
}
"""Rules that choose once, or settle themselves how many they keep."""


@pytest.mark.parametrize("name", dynprune_agents.names())
def test_a_rule_oscillates_with_its_own_total_or_is_refused(name: str) -> None:
    spec = f"pods(rule={name!r})"
    if name in UNPACED:
        with pytest.raises(ValueError, match=r"asks at every selection|has to give masks or we"):
            dynprune_agents.make(spec)
        return
    if name == "cover":  # selects every third epoch at half of the visits
        spec, name = f"pods(rule='{name}(period=1)')", f"{name}(period=1)"
    wrapped, plain = (play(each, budget=0.5, epochs=20) for each in (spec, name))
    totals = [result.visits + result.scored / 3 for result in (wrapped, plain)]
    # Independent draws have the right number in the mean only, also in the last epoch.
    assert totals[0] == pytest.approx(totals[1], abs=15 if name == "selective_backprop" else 2)
    counts = np.array(wrapped.history["kept"][2:-1])  # after the warm-ups, before the rest
    ups = np.diff(counts) > 0
    assert (ups[1:] != ups[:-1]).all(), counts
    low, high = sorted([counts[::2].mean(), counts[1::2].mean()])
    assert high > 1.1 * low


@pytest.mark.parametrize(
    "rule",
    ["selective_backprop(beta=1.0)", "random_control(rule='orderdp')", "infobatch(anneal=False)"],
)
def test_what_a_rule_is_told_decides_whether_it_oscillates(rule: str) -> None:
    with pytest.raises(ValueError, match="asks at every selection"):
        dynprune_agents.make(f"pods(rule={rule!r})")


def test_a_control_of_a_rule_that_oscillates_does_so_either_way_round() -> None:
    for spec in (
        """pods(rule="random_control(rule='ucb')")""",
        """random_control(rule="pods(rule='ucb')")""",
    ):
        assert play(spec, budget=0.5).history["kept"][:8] == [60, 17, 39, 17, 39, 17, 39, 17]


def test_a_rule_that_keeps_its_choice_oscillates_from_choice_to_choice() -> None:
    counts = play("pods(rule='ucb(period=3)')", budget=0.6, epochs=13).history["kept"]
    # 60, and 408 visits for twelve epochs with rates of .36 and .84, 7.2 in all: 408 x .36 / 7.2,
    # then 348 x .84 / 6.12, 204 x .36 / 3.6, and the last choice spends what is left.
    assert counts == [60] + 3 * [20] + 3 * [48] + 3 * [20] + 3 * [48]
    counts = play("pods(rule='dynamic_random(period=2)')", budget=0.5, epochs=7).history["kept"]
    assert counts == [18, 18, 42, 42, 18, 18, 54]


@pytest.mark.parametrize(
    "spec",
    [
        "pods(rule='ucb(period=9)')",
        "pods(rule='dynamic_random(period=10)')",
        "pods(cycle=20)",
        "pods(rule='ucb(period=3)', cycle=18)",
    ],
)
def test_pods_refuses_a_run_that_ends_before_the_first_high_epoch(spec: str) -> None:
    agent = dynprune_agents.make(spec)
    with pytest.raises(ValueError, match="nothing would oscillate"):
        agent.reset(episode(60))
    agent.reset(episode(60, epochs=40))


def test_pods_with_a_cycle_that_the_run_cuts_short_spends_the_whole_budget() -> None:
    result = play("pods(cycle=10)", budget=0.5, epochs=15)
    assert result.visits == 450
    counts = result.history["kept"]
    assert max(counts[:5]) < min(counts[5:10])
    assert max(counts[10:]) < min(counts[5:10])


def test_a_rule_that_holds_another_asks_for_what_that_needs() -> None:
    for wrapper, rules in {
        "pods": ("ucb", "importance_sampling", "molpeg"),
        "random_control": ("ucb", "kakurenbo", "molpeg"),
    }.items():
        for rule in rules:
            agent = dynprune_agents.make(f"{wrapper}(rule={rule!r})")
            assert dict(agent.env_kwargs) == dict(dynprune_agents.make(rule).env_kwargs)
    assert play("random_control(rule='aum')", budget=0.5).preparation == 600
    expected = play("rho_loss", budget=0.5).preparation
    assert play("pods(rule='rho_loss')", budget=0.5).preparation == expected >= 600


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
        ("infobatch", 0.1, True),
        ("infobatch", 0.12, True),  # 7 visits: after 6 of them it anneals
        ("infobatch", 0.2, False),
        ("infobatch(anneal=False)", 0.12, False),
        ("infobatch(delta=0.1)", 0.5, True),
        ("align_prune", 0.1, True),
        ("random_infobatch", 0.1, False),
        ("random_infobatch(delta=0.05)", 0.5, True),
        ("kakurenbo", 0.1, True),
        ("kakurenbo", 0.2, False),
        ("repb", 0.1, True),
        ("repb", 0.2, False),
        ("early_stopping", 0.2, True),
        ("early_stopping", 0.3, False),
        ("early_stopping(patience=4)", 0.4, True),
        ("random_control", 0.1, True),
        ("random_control", 0.2, False),
        ("pods(rule='ucb')", 0.1, True),
        ("pods", 0.1, False),
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
            assert message.startswith(tuple(f"{each!r}: " for each in (agent, *agent.parts())))
            assert "spend the whole budget of" in message
            assert "so this is full data" in message


def told(spec: str, **settings: Any) -> tuple[tuple[Any, ...], int]:
    """The numbers of a run, and how often it warned that it is full data."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = play(spec, **settings)
    assert all("so this is full data" in str(each.message) for each in found)
    return (result.history["kept"], result.test_loss, result.test_accuracy), len(found)


@pytest.mark.parametrize(("epochs", "budget"), [(10, 0.1), (20, 0.05)])
def test_whoever_is_full_data_with_one_epochs_visits_has_warned_once(
    epochs: int, budget: float
) -> None:
    full, _ = told("full_data", epochs=epochs, budget=budget)
    for name in {*dynprune_agents.names()} - {"full_data"}:
        numbers, warned = told(name, epochs=epochs, budget=budget)
        assert warned == (numbers == full), name


@pytest.mark.parametrize(
    ("spec", "budget"),
    [
        ("infobatch", 0.12),
        ("infobatch(delta=0.1)", 0.5),
        ("align_prune", 0.12),
        ("random_infobatch(delta=0.05)", 0.5),
        ("early_stopping(patience=4)", 0.4),
    ],
)
def test_what_a_parameter_makes_full_data_is_told_so_too(spec: str, budget: float) -> None:
    full, _ = told("full_data", budget=budget)
    assert told(spec, budget=budget) == (full, 1)
