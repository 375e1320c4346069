"""The rules that draw by the loss or against another model, by numbers computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import (
    FALLING,
    LOSSES,
    MANY,
    assert_frequencies,
    episode,
    kept,
    observed,
    selected,
)
from helpers.results import play

import dynprune_agents
from dynprune_env.selection.observations import PROGRESS
from dynprune_env.selection.statistics import SampleValues

# -- selective backprop ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "budget", "power"), [(2, 0.5, 2), (0, 0.5, 0), (None, 0.5, 1), (None, 0.25, 3)]
)
def test_selective_backprop_keeps_by_a_power_of_the_percentile(
    beta: float | None, budget: float, power: float
) -> None:
    game = episode(12, budget=budget, seeds=MANY)
    mask = selected(f"selective_backprop(beta={beta})", game, 1, loss=11 - FALLING)
    assert_frequencies(mask, ((11 - FALLING) / 12) ** power)


def test_selective_backprop_trains_all_at_first_and_then_never_the_lowest() -> None:
    game = episode(4, seeds=MANY)
    loss = [0.1, 0.4, 0.2, 0.9]
    assert selected("selective_backprop(beta=3)", game, 0, loss=loss).all()
    mask = selected("selective_backprop(beta=3)", game, 1, loss=loss)
    assert_frequencies(mask, [0, 0.125, 0.015625, 0.421875])
    assert not mask[:, 0].any()


# -- importance sampling -----------------------------------------------------------------------


def test_importance_sampling_draws_by_loss_and_weighs_by_the_inverse() -> None:
    share = 0.9 * LOSSES / LOSSES.sum() + 0.1 / 12  # of one draw; nowhere as much as a half
    for k in (1, 2):
        game = episode(12, budget=k / 12, seeds=MANY)
        weights = selected("importance_sampling", game, 1, loss=LOSSES)
        assert ((weights > 0).sum(axis=1) == k).all()
        assert_frequencies(weights, k * share)
        expected = np.broadcast_to(k / (12 * k * share), weights.shape)
        assert weights[weights > 0] == pytest.approx(expected[weights > 0])


def test_importance_sampling_keeps_surely_what_would_be_drawn_more_than_once() -> None:
    # Of six the importance of 9 and 8 is certain; what is left goes to the others in proportion.
    importance = 0.9 * LOSSES / LOSSES.mean() + 0.1
    sure = LOSSES >= 8
    chances = np.where(sure, 1, importance * 4 / importance[~sure].sum())
    assert chances.max() == 1
    assert (6 * importance / importance.sum())[sure].min() > 1
    game = episode(12, seeds=MANY)
    weights = selected("importance_sampling", game, 1, loss=LOSSES)
    assert ((weights > 0).sum(1) == 6).all()
    assert_frequencies(weights, chances)
    expected = np.broadcast_to(6 / (12 * chances), weights.shape)
    assert weights[weights > 0] == pytest.approx(expected[weights > 0])


def test_importance_sampling_with_replacement_counts_a_sample_as_often_as_it_is_drawn() -> None:
    game = episode(12, seeds=MANY)
    weights = selected("importance_sampling(replacement=True)", game, 1, loss=LOSSES)
    importance = 0.9 * LOSSES / LOSSES.mean() + 0.1
    times = weights * importance
    assert times == pytest.approx(np.rint(times), abs=1e-4)
    assert (np.rint(times).sum(1) == 6).all()
    assert ((weights > 0).sum(1) <= 6).all()
    assert_frequencies(weights, 1 - (1 - importance / 12) ** 6)
    plain = "importance_sampling(replacement=True, rescale=False)"
    counts = selected(plain, game, 1, loss=LOSSES)
    assert (counts.sum(1) == 6).all()


def test_importance_sampling_without_weights_and_where_every_loss_is_zero() -> None:
    game = episode(12, seeds=MANY)
    weights = selected("importance_sampling(rescale=False)", game, 1, loss=LOSSES)
    assert set(np.unique(weights)) == {0, 1}
    weights = selected("importance_sampling", game, 1, loss=0)
    assert_frequencies(weights, 0.5)
    assert weights[weights > 0] == pytest.approx(1)


# -- dynamic EL2N, small loss ------------------------------------------------------------------


def test_dynamic_el2n_keeps_the_highest_el2n_whatever_the_loss() -> None:
    columns = {"loss": FALLING, "el2n": 1.4 - 0.1 * FALLING}
    assert selected("dynamic_el2n", episode(12), 0, **columns).all()
    assert kept(selected("dynamic_el2n", episode(12), 1, **columns)) == kept(FALLING < 6)


@pytest.mark.parametrize(("epoch", "open_to"), [(0, 3), (5, 6), (9, 8)])
def test_small_loss_draws_from_the_lowest_losses_and_lets_in_more_and_more(
    epoch: int, open_to: int
) -> None:
    # The quantile is .25 + .5 * progress of a dozen, and six are wanted.
    agent = "small_loss(warmup=0, start=0.25, end=0.75)"
    mask = selected(agent, episode(12, seeds=MANY), epoch, loss=FALLING)
    assert (mask.sum(axis=1) == min(6, open_to)).all()
    assert_frequencies(mask, np.where(open_to > FALLING, min(6, open_to) / open_to, 0))


# -- MolPeg ------------------------------------------------------------------------------------


class FakeProbe:
    """Knows the loss of each sample, and its loss under the average, after each epoch.

    Attributes:
        asked: the samples whose losses were asked for, and whether of the average.
        left: how many times it answers.
    """

    def __init__(self, now: list[list[float]], averaged: list[list[float]], left: int = 100):
        self.given = {False: now, True: averaged}
        self.epoch, self.left = 0, left
        self.asked: list[tuple[bool, list[int]]] = []

    def models(self, averaged: bool = False) -> list[str]:
        return ["averaged" if averaged else "now"]

    def losses(self, models: Any = None, where: Any = None) -> np.ndarray | None:
        averaged = models == ["averaged"]
        self.asked.append((averaged, kept(where)))
        self.left -= 1
        if self.left < 0:
            return None
        return np.where(where, np.float32(self.given[averaged][self.epoch]), np.nan)


def molpeg(probe: FakeProbe, budget: float = 0.8) -> list[np.ndarray]:
    """What is kept of four samples in the first three of ten epochs, half of them in each."""
    agent, game = dynprune_agents.make("molpeg"), episode(4, budget=budget, probe=probe)
    agent.reset(game)
    masks: list[np.ndarray] = []
    for probe.epoch in range(3):
        trained = masks[-1] if masks else np.zeros(4, dtype=bool)
        visits = np.sum(masks, axis=0) if masks else 0
        seen = observed(game, probe.epoch, age=np.where(trained, 0, 1), visits=visits)
        masks.append(agent.select(seen))
    return masks


def test_molpeg_keeps_what_differs_most_from_the_averaged_model_and_the_unseen_first() -> None:
    # .8 of four pays for two samples and two forward passes over them: 2 * (1 + 2 / 3) = 3.3.
    # After the first epoch the two that were trained have .3 and .05, the others no score yet;
    # after the second these have .2 and .4, whatever the losses of the first two are by then.
    first = kept(molpeg(FakeProbe([[1] * 4] * 3, [[1] * 4] * 3))[0])
    others = [i for i in range(4) if i not in first]
    by_place = dict(zip([*first, *others], [0.3, 0.05, 0.2, 0.4], strict=True))
    gap = np.array([by_place[i] for i in range(4)])
    sign = np.array([1, -1, 1, -1])
    averaged = [[2] * 4, [2] * 4, list(2 + gap * sign * np.isin(range(4), others))]
    averaged[1] = list(2 + gap * sign)
    probe = FakeProbe([[2] * 4] * 3, averaged)
    masks = molpeg(probe)
    assert [kept(mask) for mask in masks[:2]] == [first, others]
    assert kept(masks[2]) == sorted([first[0], others[1]])
    assert probe.asked == [(False, first), (True, first), (False, others), (True, others)]


def test_molpegs_first_epoch_is_a_random_part() -> None:
    # A forward pass of each model over what it trains: 12 * .5 / (1 + 2/3) = 3.6.
    probe = FakeProbe([], [])
    mask = selected("molpeg", episode(12, seeds=MANY, probe=probe), 0, visits=0)
    assert probe.asked == []
    assert (mask.sum(1) == 4).all()
    assert_frequencies(mask, 4 / 12)


def test_molpeg_keeps_its_scores_where_the_budget_cannot_pay_for_new_ones() -> None:
    probe = FakeProbe([[2] * 4] * 3, [[3] * 4] * 3, left=2)
    masks = molpeg(probe)
    assert (masks[0] != masks[1]).all()
    assert kept(masks[2]) == kept(masks[1])  # still unseen, as far as it knows


def test_molpegs_forward_passes_over_what_it_trained_are_charged() -> None:
    result = play("molpeg", budget=0.8)
    counts = result.history["kept"]
    assert result.scored == 2 * sum(counts[:-1])
    assert 475 <= result.visits + result.scored / 3 <= 480
    assert max(counts[:-1]) - min(counts[:-1]) <= 3


def test_molpegs_average_is_the_environments() -> None:
    assert dict(dynprune_agents.make("molpeg(beta=0.25)").env_kwargs) == {"averaging": 0.25}


# -- RHO-loss ----------------------------------------------------------------------------------


class TwoHalves:
    """A runs whose random half, val losses and losses after each epoch of a run are given."""

    epochs = 3

    def __init__(self, half: np.ndarray, val: list[list[float]], losses: list[list[list[float]]]):
        self.half, self.val, self.given = half, val, losses
        self.trained: list[tuple[int, int, list[int]]] = []

    def random_mask(self, share: float) -> np.ndarray:
        assert share == 0.5
        return self.half

    def run(self, index: int, epochs: int, mask: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        self.trained.append((index, epochs, kept(mask)))
        for epoch in range(epochs):
            self.now = index, epoch
            progress = [self.val[index][epoch] if name == "val_loss" else 0 for name in PROGRESS]
            yield {"progress": np.float32(progress)}

    def models(self) -> list[tuple[int, int]]:
        return [self.now]

    def values(self, models: list[tuple[int, int]] | None = None) -> SampleValues:
        run, epoch = models[0] if models else self.now
        return SampleValues(*[np.array(self.given[run][epoch])] * 5)


def rho_loss(val: list[list[float]]) -> list[int]:
    """The two of six that are kept, with these val losses of the holdout models."""
    half = np.arange(6) < 3
    last = [[0, 0, 0, 3, 0.5, 1], [2.5, 0.2, 3, 0, 0, 0]]
    middle = [[0, 0, 0, 0.1, 0.5, 2.9], [2.5, 0.2, 0.1, 0, 0, 0]]
    runs = TwoHalves(half, val, [[[9.0] * 6, middle[run], last[run]] for run in range(2)])
    agent = dynprune_agents.make("rho_loss")
    agent.prepare(runs)
    assert runs.trained == [(0, 3, [0, 1, 2]), (1, 3, [3, 4, 5])]
    return kept(selected(agent, episode(6, budget=1 / 3), 1, loss=[3, 1, 2, 3.1, 1, 3]))


def test_rho_loss_subtracts_the_loss_under_the_model_that_never_saw_the_sample() -> None:
    # Losses 3 1 2 3.1 1 3 minus 2.5 .2 3 3 .5 1: .5 .8 -1 .1 .5 2.
    assert rho_loss(val=[[3, 2, 1], [3, 2, 1]]) == [1, 5]


def test_rho_losss_holdout_models_are_those_of_the_lowest_val_loss() -> None:
    # As in the authors' code: a model that has learned the wrong labels by heart is no reference.
    # Losses 3 1 2 3.1 1 3 minus 2.5 .2 .1 .1 .5 2.9: .5 .8 1.9 3 .5 .1.
    assert rho_loss(val=[[3, 1, 2], [3, 1, 2]]) == [2, 3]
