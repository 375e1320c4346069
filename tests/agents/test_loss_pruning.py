"""The rules that drop by thresholds of the loss, against numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
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
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dynprune_agents
from dynprune_agents.dynamic.seta import group_by_loss

# -- InfoBatch ---------------------------------------------------------------------------------

# Their mean is 3: eight are below it, two equal it, two are above.
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


@pytest.mark.filterwarnings("ignore:.* spend the whole budget")
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
    if epoch >= math.floor(delta * epochs + 1e-9):
        assert (weights == 1).all()
    else:
        assert (weights == 0).sum() == int(r * easy)
        if rescale:  # one sample more or less is kept where r * easy is no whole number
            assert abs(weights.sum() - len(loss)) <= 1 / (1 - r) + 1e-4
        else:
            assert set(weights.tolist()) <= {0, 1}


@pytest.mark.filterwarnings("ignore:.* spend the whole budget")
@pytest.mark.parametrize(
    ("delta", "epochs", "pruned"),
    [(0.875, 10, 8), (0.875, 200, 175), (0.875, 30, 26), (0.7, 10, 7), (0.5, 7, 3), (0, 5, 0)],
)
def test_infobatch_and_seta_anneal_after_the_whole_part_of_delta_epochs(
    delta: float, epochs: int, pruned: int
) -> None:
    game = episode(12, epochs, seeds=MANY[:20])
    for epoch in range(max(1, pruned - 2), min(epochs, pruned + 2)):
        weights = selected(f"infobatch(delta={delta})", game, epoch, loss=LOSSES)
        assert ((weights == 0).sum(1) == (4 if epoch < pruned else 0)).all()
        agent = f"seta(r=0.25, groups=3, scale=0.34, delta={delta})"
        mask = selected(agent, game, epoch, loss=GROUPED)
        assert (mask.sum(1) == 9).all() == (epoch >= pruned)


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


def inertia(loss: np.ndarray, group: np.ndarray) -> float:
    """Sum of squared distances to the means of the groups."""
    return float(
        sum(((own := loss[group == g]) - own.mean()) @ (own - own.mean()) for g in {*group})
    )


PEAKS = {  # losses that fall off, of two kinds of samples, of three
    1: lambda rng, n: rng.exponential(0.5, n),
    2: lambda rng, n: np.where(rng.random(n) < 0.7, rng.exponential(0.1, n), rng.normal(4, 0.7, n)),
    3: lambda rng, n: rng.choice([0.1, 2, 6], n, p=[0.6, 0.25, 0.15]) + rng.normal(0, 0.3, n),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("peaks", PEAKS)
@pytest.mark.parametrize("groups", [3, 5, 8])
def test_setas_groups_are_those_of_converged_k_means(peaks: int, groups: int, seed: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    loss = np.clip(PEAKS[peaks](np.random.default_rng(seed), 3000), 0, 20).astype(np.float32)
    group = group_by_loss(loss, groups)
    assert {*group.tolist()} == {*range(groups)}
    found = inertia(loss.astype(float), group)
    best = cluster.KMeans(groups, n_init=20, random_state=0).fit(loss[:, None].astype(float))
    assert found <= 1.01 * best.inertia_
    # Converged: every loss is nearest to the mean of its own group, and groups rise.
    means = np.array([loss[group == g].mean(dtype=float) for g in range(groups)])
    assert (np.diff(means) > 0).all()
    nearest = np.abs(loss[:, None] - means).argmin(1)
    assert (nearest != group).mean() < 1e-3


@given(
    st.lists(
        st.one_of(st.floats(0, 20, width=32), st.sampled_from([0, 1, 20])), min_size=1, max_size=30
    ),
    st.integers(1, 6),
)
def test_setas_groups_rise_with_the_loss(loss: list[float], groups: int) -> None:
    values = np.float32(loss)
    group = group_by_loss(values, groups)
    assert group.min() >= 0
    assert group.max() < groups
    order = np.argsort(values, kind="stable")
    assert (np.diff(group[order]) >= 0).all()
    for same in np.unique(values):
        assert len({*group[values == same]}) == 1


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
    [(1, 15), (29, 15), (30, 12), (59, 12), (60, 9), (79, 9), (80, 6), (99, 6)],
)
def test_kakurenbo_hides_less_in_steps_and_raises_the_learning_rate_to_match(
    epoch: int, hidden: int
) -> None:
    loss = np.random.default_rng(0).permutation(50)
    weights = selected("kakurenbo", episode(50, 100), epoch, loss=loss, confidence=0.9)
    assert kept(weights == 0) == kept(loss < hidden)
    assert weights[weights > 0] == pytest.approx(1 / (1 - hidden / 50))


def test_kakurenbos_first_epoch_hides_nothing_and_has_a_factor_of_one() -> None:
    # Nothing is predicted rightly before it; the authors' factor begins with the next epoch.
    first = {"loss": np.log(10), "correct": 0, "confidence": 0.1, "visits": 0}
    assert (selected("kakurenbo", episode(50, 100), 0, **first) == 1).all()
    second = selected("kakurenbo", episode(50, 100), 1, **{**first, "visits": 1})
    assert second == pytest.approx(1 / 0.7)  # the scheduled share, though nothing is hidden


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


# -- RePB --------------------------------------------------------------------------------------


def test_repb_drops_the_easy_and_brings_back_the_unused() -> None:
    used = np.arange(12) % 3 > 0
    columns = {"loss": LOSSES, "age": ~used, "visits": 2}
    # The used ones are one batch: 1 2 3 1 3 8 1 2, of mean 2.6.
    easy = used & (LOSSES[used].mean() > LOSSES)
    weights = selected("repb(rho=0.3)", episode(12, seeds=MANY), 3, **columns)
    assert_frequencies(weights, np.where(used, np.where(easy, 0.7, 1), 0.7))


def test_repb_compares_a_loss_with_the_mean_of_its_own_batch() -> None:
    # Losses .1 .2 .5 1.2 of mean .5: the third is not below it.
    game, loss = episode(4, seeds=MANY), [0.1, 0.2, 0.5, 1.2]
    weights = selected("repb(rho=0.4)", game, 3, loss=loss, visits=3)
    assert_frequencies(weights, [0.6, 0.6, 1, 1])
    # In random pairs a sample is below the mean of its pair when the other is larger.
    weights = selected("repb(rho=0.4, batch=2)", game, 3, loss=loss, visits=3)
    assert_frequencies(weights, [0.6, 1 - 0.4 * 2 / 3, 1 - 0.4 / 3, 1])
    weights = selected("repb(rho=0.4, batch=1)", game, 3, loss=loss, visits=3)
    assert (weights > 0).all()


def test_repb_weighs_by_epochs_over_visits_as_it_is() -> None:
    visits = np.repeat([1, 3], 6)
    agent, game = "repb(rho=0.3)", episode(12, seeds=MANY[:200])
    weights = selected(agent, game, 3, loss=LOSSES, visits=visits)
    expected = np.broadcast_to(np.where(visits == 1, 2, 1), weights.shape)  # 4 / 2 and 4 / 4
    assert weights[weights > 0].tolist() == expected[weights > 0].tolist()
    assert weights.mean() > 1
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
