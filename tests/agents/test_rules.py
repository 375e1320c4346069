"""The dynamic rules of the field against numbers computed by hand, on a dozen samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers.by_hand import MANY, assert_frequencies, episode, kept, observed, selected
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dynprune_agents
from dynprune_env import run_episodes
from dynprune_env.selection.observations import PROGRESS

SMALL = {"train_size": 60, "epochs": 10}


def play(spec: str, **settings: Any) -> Any:
    """The result of one small run."""
    kwargs = {**SMALL, **settings}
    agent = dynprune_agents.make(spec)
    return run_episodes("DynPrune-Digits-v0", agent, [0], env_kwargs=kwargs, device="cpu")[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("infobatch(r=1.0)", "r .* 1.0"),
        ("infobatch(delta=1.1)", "delta .* 1.1"),
        ("seta(r=1.0)", "r "),
        ("seta(scale=0.0)", "scale .* 0.0"),
        ("seta(groups=0)", "at least one group, got 0"),
        ("orderdp(ratio_s=0.0)", "ratio_s"),
        ("orderdp(ratio_q=0.0)", "ratio_q"),
        ("kakurenbo(fraction=1.0)", "fraction .* 1.0"),
        ("kakurenbo(tau=-0.1)", "tau .* -0.1"),
        ("selective_backprop(beta=-1.0)", "beta is at least 0, got -1"),
        ("importance_sampling(uniform=0.0)", "uniform .* 0.0"),
        ("small_loss(start=0.0)", "start"),
        ("small_loss(end=1.5)", "end .* 1.5"),
        ("molpeg(beta=1.0)", r"beta is in \[0, 1\), got 1"),
        ("repb(rho=1.0)", "rho"),
    ],
)
def test_a_value_outside_its_documented_range_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dynprune_agents.make(spec)


# -- InfoBatch ---------------------------------------------------------------------------------

# Their mean is 3: eight are below it, two equal it, two are above.
LOSSES = np.array([1, 2, 9, 2, 3, 1, 2, 3, 8, 2, 1, 2])
EASY = LOSSES < 3


@pytest.mark.parametrize(("r", "dropped", "weight"), [(0.5, 4, 2), (0.25, 2, 4 / 3), (0, 0, 1)])
def test_infobatch_drops_a_share_below_the_mean_and_weighs_up_the_rest_of_it(
    r: float, dropped: int, weight: float
) -> None:
    weights = selected(f"infobatch(r={r})", episode(12, seeds=MANY), 1, loss=LOSSES)
    assert (weights[:, ~EASY] == 1).all()
    assert ((weights == 0).sum(axis=1) == dropped).all()
    assert_frequencies(weights == 0, np.where(EASY, dropped / 8, 0))
    assert weights[:, EASY][weights[:, EASY] > 0] == pytest.approx(weight)
    assert weights.mean(axis=1) == pytest.approx(1)


def test_infobatch_keeps_everything_at_first_and_takes_the_unseen_for_hard() -> None:
    assert (selected("infobatch", episode(12), 0, loss=np.log(10), visits=0) == 1).all()
    # A score of 3 is above the mean of 2.54; the 2.3 that an unseen sample shows would be below.
    unseen = np.arange(12) == 7
    columns = {"loss": np.where(unseen, np.log(10), 2.5), "visits": ~unseen}
    weights = selected("infobatch(r=0.9)", episode(12), 1, **columns)
    assert weights[unseen] == 1
    assert (weights == 0).sum() == int(0.9 * 11)


RUNS = st.integers(1, 200).flatmap(lambda T: st.tuples(st.just(T), st.integers(0, T - 1)))


@given(
    run=RUNS,
    delta=st.floats(0, 1),
    r=st.sampled_from([0.1, 0.5, 0.7]),
    rescale=st.booleans(),
    loss=st.lists(st.floats(0, 20, width=32), min_size=1, max_size=12),
)
def test_infobatch_weighs_all_alike_once_annealing_has_begun_and_one_on_average_before(
    run: tuple[int, int], delta: float, r: float, rescale: bool, loss: list[float]
) -> None:
    epochs, epoch = run
    agent = dynprune_agents.make(f"infobatch(r={r}, delta={delta!r}, rescale={rescale})")
    game = episode(len(loss), epochs)
    weights = selected(agent, game, epoch, loss=loss)
    easy = np.count_nonzero(np.float32(loss) < np.float32(loss).mean())
    if np.float32(epoch / epochs) >= np.float32(delta):
        assert (weights == 1).all()
    elif epoch < delta * epochs - 1:
        assert (weights == 0).sum() == int(r * easy)
        if rescale:  # one sample more or less is kept where r * easy is no whole number
            assert abs(weights.sum() - len(loss)) <= 1 / (1 - r) + 1e-4
        else:
            assert set(weights.tolist()) <= {0, 1}


def test_infobatch_without_annealing_prunes_to_the_end() -> None:
    weights = selected("infobatch(anneal=False)", episode(12, 100), 99, loss=LOSSES)
    assert (weights == 0).sum() == 4
    assert weights.sum() == 12


@pytest.mark.parametrize("rescale", [True, False])
def test_infobatchs_gradient_is_unbiased_and_without_weights_it_is_not(rescale: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        images, labels = torch.randn(12, 4), torch.arange(12) % 3
    losses = nn.functional.cross_entropy(net(images), labels, reduction="none")
    gradients = torch.stack(
        [
            nn.utils.parameters_to_vector(
                torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            )
            for loss in losses
        ]
    ).numpy()
    columns = {"loss": losses.detach().numpy()}
    assert (columns["loss"] < columns["loss"].mean()).sum() % 2 == 0  # half of them: no rounding
    agent = f"infobatch(rescale={rescale})"
    weights = selected(agent, episode(12, seeds=MANY), 1, **columns)
    estimates = weights @ gradients / 12
    bias = estimates.mean(axis=0) - gradients.mean(axis=0)
    z = np.abs(bias) / (estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates)) + 1e-9)
    assert (z.max() < 5) if rescale else (np.median(z) > 10)


# -- SeTa --------------------------------------------------------------------------------------

# Three clear groups of losses, of 3, 7 and 2 samples.
GROUP = np.array([1, 0, 1, 2, 1, 0, 1, 1, 2, 1, 0, 1])
GROUPED = np.array([0.1, 2.0, 9.0])[GROUP] + 0.01 * np.arange(12)


def test_seta_slides_a_window_over_loss_groups_from_easy_to_hard_and_starts_again() -> None:
    game = episode(12)
    agent = dynprune_agents.make("seta(r=0.0, groups=3, scale=0.34, delta=1.0)")
    agent.reset(game)
    masks = [agent.select(observed(game, epoch, loss=GROUPED)) for epoch in range(8)]
    assert masks[0].all()
    for epoch, mask in enumerate(masks[1:], start=1):
        assert kept(mask) == kept(epoch % 3 == GROUP)


@pytest.mark.parametrize(
    ("scale", "epoch", "groups"),
    [
        (0.67, 1, {1, 2}),
        (0.67, 2, {0, 1}),
        (0.67, 3, {1, 2}),
        (1.0, 1, {0, 1, 2}),
        (1.0, 2, {0, 1, 2}),
    ],
)
def test_setas_window_is_a_share_of_the_groups(scale: float, epoch: int, groups: set[int]) -> None:
    mask = selected(f"seta(r=0.0, groups=3, scale={scale})", episode(12), epoch, loss=GROUPED)
    assert kept(mask) == kept(np.isin(GROUP, list(groups)))


def test_seta_keeps_four_of_five_groups_by_default() -> None:
    loss = np.repeat([5, 1, 3, 2, 4], 3) + np.tile([0, 0.01, 0.02], 5)
    for epoch, left_out in [(1, 1), (2, 5), (3, 1)]:
        assert kept(selected("seta(r=0.0)", episode(15), epoch, loss=loss)) == kept(
            np.round(loss) != left_out
        )


@pytest.mark.parametrize("epoch", [0, 7, 9])
def test_seta_keeps_an_exact_random_share_in_the_first_epoch_and_after_delta(epoch: int) -> None:
    agent = "seta(r=0.25, groups=3, scale=0.34, delta=0.7)"
    mask = selected(agent, episode(12, seeds=MANY), epoch, loss=GROUPED)
    assert (mask.sum(axis=1) == 9).all()
    assert_frequencies(mask, 0.75)


def test_setas_window_is_one_of_the_random_share() -> None:
    group, loss = np.tile(GROUP, 5), np.tile(GROUPED, 5)
    agent = "seta(r=0.25, groups=3, scale=0.67)"
    mask = selected(agent, episode(60, seeds=MANY[:500]), 2, loss=loss)
    assert not mask[:, group == 2].any()
    assert (mask.sum(axis=1) >= 45 - 10).all()  # 45 drawn, at most 10 of them from that group
    assert_frequencies(mask, np.where(group < 2, 0.75, 0))


# -- OrderDP -----------------------------------------------------------------------------------

FALLING = np.array([4, 11, 0, 7, 9, 2, 1, 10, 5, 8, 3, 6])
"""A place for each of a dozen samples, 0 the first."""


def test_orderdp_keeps_the_hardest_of_all_where_all_are_drawn() -> None:
    loss = 6 - 0.5 * FALLING
    mask = selected("orderdp(ratio_s=1.0, ratio_q=0.5)", episode(12), 1, loss=loss)
    assert kept(mask) == kept(FALLING < 6)


def test_orderdps_probabilities_are_those_of_a_draw_without_replacement() -> None:
    # 9 of 12 are drawn and 1 of them is kept: it has place k if all before it were not drawn.
    agent = "orderdp(ratio_s=0.75, ratio_q=0.12)"
    mask = selected(agent, episode(12, seeds=MANY), 1, loss=6 - 0.5 * FALLING)
    assert (mask.sum(axis=1) == 1).all()
    p = np.zeros(12)
    p[:4] = 9 / 12, 3 / 12 * 9 / 11, 3 / 12 * 2 / 11 * 9 / 10, 3 / 12 * 2 / 11 * 1 / 10
    assert_frequencies(mask, p[FALLING])


def test_orderdps_size_is_exact_and_unseen_samples_count_as_three() -> None:
    unseen = FALLING >= 9
    loss, visits = np.where(unseen, 0.1, 2.9), ~unseen
    mask = selected("orderdp", episode(12, seeds=MANY[:200]), 1, loss=loss, visits=visits)
    assert (mask.sum(axis=1) == 7).all()  # int(.85 * int(.75 * 12))
    # Of the three unseen ones all that are drawn are kept: with 7 places left nobody is before.
    assert_frequencies(mask[:, unseen], 0.75)


# -- KAKURENBO ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "hidden"),
    [(0, 15), (29, 15), (30, 12), (59, 12), (60, 9), (79, 9), (80, 6), (99, 6)],
)
def test_kakurenbo_hides_less_in_steps_and_raises_the_learning_rate_to_match(
    epoch: int, hidden: int
) -> None:
    loss = np.random.default_rng(0).permutation(50)
    weights = selected("kakurenbo", episode(50, 100), epoch, loss=loss, confidence=0.9)
    assert kept(weights == 0) == kept(loss < hidden)
    assert weights[weights > 0] == pytest.approx(1 / (1 - hidden / 50))


def test_kakurenbo_hides_only_what_is_predicted_surely_and_rightly() -> None:
    columns = {
        "loss": FALLING,
        "correct": FALLING != 1,  # wrong
        "confidence": np.where(FALLING == 2, 0.69, np.where(FALLING == 3, 0.7, 0.95)),
    }
    agent = "kakurenbo(fraction=0.5, rescale=False)"
    weights = selected(agent, episode(12), 0, **columns)
    assert set(FALLING[weights == 0]) == {0, 3, 4, 5}  # and no other takes the places of 1 and 2
    assert (weights[weights > 0] == 1).all()


def test_kakurenbos_forward_passes_over_the_hidden_are_charged() -> None:
    result = play("kakurenbo", budget=1.0, batch_size=8)
    assert result.visits == sum(result.history["kept"])
    assert result.scored == 10 * 60 - result.visits > 0
    assert result.saved == pytest.approx(1 - (result.visits + result.scored / 3) / 600)


# -- selective backprop ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "budget", "power"), [(2, 0.5, 2), (0, 0.5, 0), (None, 0.5, 1), (None, 0.25, 3)]
)
def test_selective_backprop_keeps_by_a_power_of_the_percentile(
    beta: float | None, budget: float, power: float
) -> None:
    game = episode(12, budget=budget, seeds=MANY)
    mask = selected(f"selective_backprop(beta={beta})", game, 1, loss=11 - FALLING)
    assert_frequencies(mask, ((11 - FALLING + 0.5) / 12) ** power)


# -- importance sampling -----------------------------------------------------------------------


def test_importance_sampling_draws_by_loss_and_weighs_by_the_inverse() -> None:
    p = 0.9 * LOSSES / LOSSES.sum() + 0.1 / 12
    one, two = (episode(12, budget=k / 12, seeds=MANY) for k in (1, 2))
    weights = selected("importance_sampling", one, 1, loss=LOSSES)
    assert ((weights > 0).sum(axis=1) == 1).all()
    assert_frequencies(weights, p)
    # The second of two is drawn from those that are left: no sample twice.
    weights = selected("importance_sampling", two, 1, loss=LOSSES)
    assert ((weights > 0).sum(axis=1) == 2).all()
    assert_frequencies(weights, p + p * ((p / (1 - p)).sum() - p / (1 - p)))
    expected = np.broadcast_to(1 / (12 * p), weights.shape)
    assert weights[weights > 0] == pytest.approx(expected[weights > 0])


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


class Losses(nn.Module):
    """A model whose parameters are every sample's loss, so that averages can be done by hand."""

    def __init__(self, losses: list[float]):
        super().__init__()
        self.losses = nn.Parameter(torch.tensor(losses, dtype=torch.float32))


class FakeProbe:
    """Gives the models of one epoch after the other; scores them while `budget` passes last."""

    def __init__(self, *epochs: list[float], budget: int = 100):
        self.epochs, self.now, self.left = epochs, -1, budget

    def models(self) -> list[nn.Module]:
        return [Losses(self.epochs[self.now])]

    def losses(self, models: list[Any]) -> np.ndarray | None:
        self.left -= 1
        return models[0].losses.detach().numpy() if self.left >= 0 else None


def molpeg(beta: float = 0.5, affordable: int = 100) -> list[np.ndarray]:
    """What is kept of four samples at first, and when it is selected after epochs 1 and 3."""
    models = [1, 1, 1, 1], [0, 1, 2.2, 0.9], [0, 0.3, 2.2, 0.9], [0, 0.3, 2.2, 0.6]
    probe = FakeProbe(*models, budget=affordable)
    agent = dynprune_agents.make(f"molpeg(period=2, warmup=1, beta={beta})")
    game, masks = episode(4, budget=0.7, probe=probe), []
    agent.reset(game)
    for probe.now in range(4):
        masks.append(agent.select(observed(game, probe.now)))
    return [masks[0], masks[1], masks[3]]


@pytest.mark.parametrize(
    ("beta", "differences"),
    [  # from the averages .5 1 1.6 .95 and (after .25 .65 1.9 .925) .125 .475 2.05 .7625
        (0.5, [[0.5, 0, 0.6, 0.05], [0.125, 0.175, 0.15, 0.1625]]),
        # or .75 1 1.3 .975 and (after .5625 .825 1.525 .95625) .421875 .69375 1.69375 .8671875
        (0.75, [[0.75, 0, 0.9, 0.075], [0.421875, 0.39375, 0.50625, 0.2671875]]),
    ],
)
def test_molpeg_keeps_what_differs_most_from_the_averaged_model(
    beta: float, differences: list[list[float]]
) -> None:
    first, *masks = molpeg(beta)
    assert first.all()
    for mask, difference in zip(masks, differences, strict=True):
        assert 0 < mask.sum() < 4
        assert kept(mask) == sorted(np.argsort(difference)[4 - mask.sum() :])


@pytest.mark.parametrize("affordable", [2, 3])
def test_molpeg_goes_on_with_the_old_selection_where_the_budget_ends(affordable: int) -> None:
    _, before, after = molpeg(affordable=affordable)
    assert 0 < before.sum() < 4
    assert (after & before).sum() == min(after.sum(), before.sum())


def test_molpegs_two_forward_passes_at_each_selection_are_charged() -> None:
    result = play("molpeg(period=3, warmup=1)", budget=0.8)
    assert result.scored == 2 * 60 * 3  # after epochs 1, 4 and 7
    assert result.visits + result.scored / 3 <= 480


@pytest.mark.parametrize(
    ("spec", "budget", "epochs"),
    [
        ("molpeg(period=3, warmup=1)", 0.5, 10),
        ("molpeg(warmup=1)", 0.2, 10),  # too little for a single scoring
        ("molpeg(period=None, warmup=1)", 0.5, 40),
    ],
)
def test_molpeg_spends_what_scoring_leaves_evenly_up_to_the_last_epoch(
    spec: str, budget: float, epochs: int
) -> None:
    result = play(spec, budget=budget, epochs=epochs)
    _, *after_warmup = result.history["kept"]
    assert len(after_warmup) == epochs - 1
    assert max(after_warmup) - min(after_warmup) <= 3
    assert result.visits + result.scored / 3 >= budget * 60 * epochs - epochs / 2


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

    def losses(self, models: list[tuple[int, int]] | None = None) -> np.ndarray:
        run, epoch = models[0] if models else self.now
        return np.array(self.given[run][epoch])


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


# -- RePB --------------------------------------------------------------------------------------


def test_repb_drops_the_easy_and_brings_back_the_unused() -> None:
    used = np.arange(12) % 3 > 0
    columns = {"loss": LOSSES, "age": ~used, "visits": 2}
    weights = selected("repb(rho=0.3)", episode(12, seeds=MANY), 3, **columns)
    assert_frequencies(weights, np.where(used, np.where(EASY, 0.7, 1), 0.7))


def test_repb_weighs_by_epochs_over_visits_with_a_mean_of_one() -> None:
    visits = np.repeat([1, 3], 6)
    agent, game = "repb(rho=0.3)", episode(12, seeds=MANY[:200])
    weights = selected(agent, game, 3, loss=LOSSES, visits=visits)
    for row in weights:  # 4 / (1 + 1) and 4 / (3 + 1), over their mean
        w = np.where(row > 0, np.where(visits == 1, 2, 1), 0)
        assert row == pytest.approx(w / w[w > 0].mean())
    plain = selected("repb(rho=0.3, rescale=False)", game, 3, loss=LOSSES, visits=visits)
    assert set(np.unique(plain)) == {0, 1}


def test_repb_keeps_everything_in_the_first_epoch() -> None:
    assert (selected("repb", episode(12), 0, loss=np.log(10), visits=0) == 1).all()


# -- InfoBatch's control -----------------------------------------------------------------------


def test_random_infobatch_drops_an_exact_random_share_and_weighs_the_rest_up() -> None:
    weights = selected("random_infobatch", episode(12, seeds=MANY), 3, loss=LOSSES)
    assert ((weights > 0).sum(1) == 9).all()
    assert weights[weights > 0] == pytest.approx(4 / 3)
    assert_frequencies(weights, np.full(12, 0.75))


def test_random_infobatch_anneals_and_rescales_only_if_asked_to() -> None:
    late = episode(12)
    assert (selected("random_infobatch", late, 9, loss=LOSSES) == 1).all()
    weights = selected("random_infobatch(anneal=False, rescale=False)", late, 9, loss=LOSSES)
    assert sorted(set(weights.tolist())) == [0, 1]
