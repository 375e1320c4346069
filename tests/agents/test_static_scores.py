"""Static scores: by hand from made-up scoring runs, and from real ones, each visit charged."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.by_hand import MANY, assert_frequencies, episode, kept, observed
from helpers.episodes import assert_same, differs, make, make_vector
from helpers.fake_runs import FakeRuns
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dynprune_agents
from dynprune_agents.static.ccs import deal_out, softmax_margin, sorted_order
from dynprune_env import run_episodes
from dynprune_env.benchmark import episodes
from dynprune_env.benchmark.masks import unpack
from dynprune_env.envs.scoring import _gradient_norms
from dynprune_env.selection.statistics import sample_values
from dynprune_env.tasks.datasets import RawData, Split
from dynprune_env.tasks.models import make_model
from dynprune_env.tasks.registry import TASKS
from dynprune_env.training.trainer import Trainer

LOSSES = partial(nn.functional.cross_entropy, reduction="none")


def chosen(spec: str, runs: Any, count: int) -> list[int]:
    """What a static agent keeps when it wants `count` of n samples."""
    agent = dynprune_agents.make(spec)
    agent.prepare(runs)
    n = runs.num_samples
    game = episode(n, budget=count / n)
    agent.reset(game)
    mask = agent.select(observed(game, 0))
    assert np.array_equal(agent.select(observed(game, 5, loss=np.arange(n))), mask)
    return kept(mask)


# -- scores by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (2, [1, 3]), (3, [1, 2, 3])])
def test_forgetting_counts_falls_and_never_learned_samples_are_the_hardest(
    count: int, expected: list[int]
) -> None:
    # Sample 0 was always right; 1 never; 2 was forgotten once; 3 twice; 4 was learned late.
    right = [[1, 0, 0, 1, 0], [1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    falls = [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 1, 2, 0]]
    runs = FakeRuns({"correct": right, "forgetting": falls})
    assert chosen("forgetting", runs, count) == expected
    assert runs.asked == [(0, 4)]


def test_el2n_averages_the_scores_of_several_checkpoints_early_in_training() -> None:
    # Two nets of 20 epochs, scored after 10 % of them: the mean of the second rows.
    first, second = np.full((20, 4), 9.0), np.full((20, 4), -9.0)
    first[1], second[1] = [0.1, 0.9, 0.5, 0.8], [0.9, 0.6, 0.4, 0.5]  # means .5 .75 .45 .65
    # Not what training passes showed on the way, each sample under another model.
    shown = np.tile([2.0, 0, 2, 0], (20, 1))
    runs = FakeRuns(
        {"el2n": shown}, {"el2n": shown}, checkpoints=[{"el2n": first}, {"el2n": second}]
    )
    assert chosen("el2n(nets=2, early=0.1)", runs, 2) == [1, 3]
    assert runs.asked == [(0, 2), (1, 2)]
    rows = {"el2n": [[3, 1], [1, 3]]}
    at_least_one = FakeRuns(rows, checkpoints=[rows])
    assert chosen("el2n(nets=1, early=0.01)", at_least_one, 1) == [0]


MARGINS = [[4, -3, 1, 0], [6, -1, 1, -2], [-1, -5, 7, -1]]
"""Of three epochs; the means are 3, -3, 3, -1: the first and the third tie."""


def test_aum_keeps_high_areas_and_on_request_low_ones() -> None:
    assert chosen("aum", FakeRuns({"margin": MARGINS}), 2) == [0, 2]
    assert chosen("aum", FakeRuns({"margin": MARGINS}), 3) == [0, 2, 3]
    assert chosen("aum(hard=True)", FakeRuns({"margin": MARGINS}), 1) == [1]
    assert chosen("aum(hard=True)", FakeRuns({"margin": MARGINS}), 2) == [1, 3]


def test_cartography_keeps_the_most_ambiguous() -> None:
    # Deviations 0, .4, .05 and .2, whatever the means .9, .5, .05 and .3.
    p = [[0.9, 0.1, 0, 0.5], [0.9, 0.9, 0.1, 0.1]]
    assert chosen("cartography", FakeRuns({"confidence": p}), 1) == [1]
    assert chosen("cartography", FakeRuns({"confidence": p}), 2) == [1, 3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("window=2", [0]),
        ("window=2, last=True", [1]),
        ("window=3", [0]),
        ("window=4", [0]),
        ("window=10", [0]),
    ],
)
def test_dyn_unc_averages_the_deviation_over_windows_but_the_last(
    options: str, expected: list[int]
) -> None:
    # Sample 0 rises slowly, 1 flickers. Windows of two: deviations .1 .2 .1 and .14 .14 .3: without
    # the last one .15 and .14, with it .133 and .193. Of three: .249 and .132; of all: .224 .22.
    p = [[0.1, 0.22], [0.3, 0.5], [0.7, 0.22], [0.9, 0.82]]
    assert chosen(f"dyn_unc({options})", FakeRuns({"confidence": p}), 1) == expected


def test_dyn_unc_by_hand() -> None:
    # Windows of two: .1, .1 and .15 (from .6 to .9), which ends with the last epoch.
    runs = FakeRuns({"confidence": [[0.2], [0.4], [0.6], [0.9]]})
    assert dynprune_agents.make("dyn_unc(window=2)").score(runs) == pytest.approx([0.1])
    assert dynprune_agents.make("dyn_unc(window=2, last=True)").score(runs) == pytest.approx(
        [0.35 / 3]
    )
    whole = dynprune_agents.make("dyn_unc(window=4)").score(runs)  # the only window there is
    assert whole == pytest.approx([np.std([0.2, 0.4, 0.6, 0.9])])


# -- CCS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "count", "drawn"),
    [
        ([5, 5, 5], 6, [2, 2, 2]),
        ([5, 1, 9], 9, [4, 1, 4]),  # 9 // 3 of one, then 8 // 2, then what is left
        ([2, 10, 0, 1], 8, [2, 5, 0, 1]),
        ([3, 3], 5, [2, 3]),
        ([4, 0, 7], 11, [4, 0, 7]),
        ([4, 2], 0, [0, 0]),
        ([1, 2, 20], 10, [1, 2, 7]),
        ([0, 3, 20], 10, [0, 3, 7]),
    ],
)
def test_ccs_deals_out_evenly_and_the_smallest_bin_first(
    sizes: list[int], count: int, drawn: list[int]
) -> None:
    assert deal_out(np.array(sizes), count).tolist() == drawn


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.floats(0, 1))
def test_ccs_deals_out_exactly_and_never_more_than_a_bin_holds(
    sizes: list[int], share: float
) -> None:
    count = round(share * sum(sizes))
    drawn = deal_out(np.array(sizes), count)
    assert drawn.sum() == count
    assert (drawn >= 0).all()
    assert (drawn <= sizes).all()


# Cut 0 and 1; three equal bins from 0 to 9: six, one and three samples.
AREAS = np.array([-50, -20, 0, 1, 1, 2, 2, 2.5, 4, 6.5, 8, 9])


def as_margins(areas: np.ndarray) -> dict[str, np.ndarray]:
    """What is seen of two classes, so that the softmax margin is this over 60."""
    p = (1 + areas / 60) / 2
    return {"confidence": p, "margin": np.log(p / (1 - p))}


def test_ccss_margins_are_those_of_the_softmax() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits, labels = 3 * torch.randn(200, 4), torch.arange(200) % 4
    p = torch.softmax(logits, 1).numpy()
    label = p[np.arange(200), labels]
    others = np.where(np.eye(4)[labels] > 0, -1, p).max(1)
    found = softmax_margin(sample_values(logits, labels)._asdict())
    assert found == pytest.approx(label - others, abs=1e-6)


def test_ccs_adds_up_softmax_margins_and_not_logits() -> None:
    # Sample 0 has the larger logits in one epoch, sample 1 the larger margins in both: .98 + .02
    # against .7 + .7, where the logits' margins are 3.9 + .04 against 1.7 + 1.7.
    p = np.array([[0.99, 0.85], [0.51, 0.85]])
    runs = FakeRuns({"confidence": p, "margin": np.log(p / (1 - p))})
    score = dynprune_agents.make("ccs").score(runs)
    assert score == pytest.approx([1.0, 1.4], abs=1e-5)


def test_ccs_cuts_off_the_hardest_and_draws_evenly_from_bins_of_equal_width() -> None:
    agent = dynprune_agents.make("ccs(cut=0.17, bins=3)")
    agent.prepare(FakeRuns(as_margins(np.broadcast_to(AREAS, (2, len(MANY), 12)))))
    agent.reset(episode(12, seeds=MANY))
    mask = agent.select(observed(agent.episode, 0))
    assert (mask.sum(axis=1) == 6).all()
    # Of six: one from the bin of one, two of three, three of six.
    assert_frequencies(mask, np.repeat([0, 3 / 6, 1, 2 / 3], [2, 6, 1, 3]))


@pytest.mark.parametrize(("count", "cut_off"), [(10, [0, 1]), (11, [0]), (12, [])])
def test_what_ccs_cuts_off_comes_back_only_if_all_else_is_kept(
    count: int, cut_off: list[int]
) -> None:
    found = chosen("ccs(cut=0.17)", FakeRuns(as_margins(AREAS[None])), count)
    assert found == [i for i in range(12) if i not in cut_off]


def test_areas_that_differ_in_their_last_bits_are_put_in_order() -> None:
    rng = np.random.default_rng(0)
    for areas in (
        rng.normal(size=3000),
        1 + rng.integers(2**12, size=3000) * 2.0**-52,
        rng.integers(-2, 2, size=3000) * -0.0 + rng.integers(2, size=3000),
        rng.integers(3, size=1) - 1.0,
    ):
        draws = rng.random(len(areas))
        np.testing.assert_array_equal(sorted_order(areas, draws), np.lexsort((draws, areas)))


def test_ccs_can_draw_from_equal_areas() -> None:
    assert len(chosen("ccs", FakeRuns(as_margins(np.ones((3, 12)))), 5)) == 5


# -- GraNd -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["mlp(width=6)", "mlp(width=6, depth=3)", "mlp(depth=0)", "small_cnn(width=3)"]
)
def test_gradient_norms_are_those_of_one_backward_pass_per_sample(model: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_model(model, (3, 16, 16), 4).eval()
        images, labels = torch.randn(7, 3, 16, 16), torch.arange(7) % 4
    slow = []
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(net(image[None]), label[None])
        gradient = torch.autograd.grad(loss, list(net.parameters()))
        slow.append(nn.utils.parameters_to_vector(gradient).norm().item())
    assert _gradient_norms(net, images, labels, LOSSES) == pytest.approx(slow, rel=1e-4)
    assert max(slow) > 1.1 * min(slow)


@pytest.mark.parametrize("early", [0, 0.5])
def test_grand_averages_the_norms_of_several_nets(early: float) -> None:
    env, spec = make(), f"grand(nets=2, early={early}, chunk=7)"
    env.reset(seed=0)
    agent = dynprune_agents.make(spec)
    agent.prepare(env.scoring_runs(0))
    runs, norms = env.scoring_runs(0), []
    for net in range(2):
        list(runs.run(net, round(early * 4)))
        data = env.dataset.train
        norms.append(_gradient_norms(runs.models()[0], data.inputs, data.labels, LOSSES))
    agent.reset(env.episode(0))
    mask = agent.select(observed(agent.episode, 0))
    assert kept(mask) == sorted(np.argsort(np.mean(norms, axis=0))[24:])
    assert differs(*norms)


# -- what a runs costs --------------------------------------------------------------------

COSTS = {  # of ten epochs, in visits per train sample
    "forgetting": 10,
    "aum": 10,
    "ccs": 10,
    "cartography": 10,
    "dyn_unc": 10,
    "el2n(nets=3, early=0.2)": 3 * (2 + 1 / 3),
    "dual(early=0.3)": 3,
    "tdds(early=0.4)": 4 * (1 + 1 / 3),
    "grand(nets=2, early=0.2)": 2 * (2 + 1),
    "grand(nets=2, early=0.0)": 2,
    "rho_loss": 2 * (10 * 1 / 2 + 1 / 3),
    "ucb": 0,
}
PASSES = {
    "grand(nets=2, early=0.2)": 2,
    "grand(nets=2, early=0.0)": 2,
    "rho_loss": 2 / 3,
    "el2n(nets=3, early=0.2)": 3 / 3,
    "tdds(early=0.4)": 4 / 3,
}
"""What of it is not training: gradients or scorings of each sample."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by what any trainer of a run trains in an epoch."""
    monkeypatch.setattr(episodes, "warm_up", lambda settings, agent: None)
    counts: list[int] = []
    original = Trainer.train_epoch

    def watched(self: Trainer, weights: np.ndarray) -> list[np.ndarray]:
        orders = original(self, weights)
        counts.append(sum(map(len, orders)))
        return orders

    monkeypatch.setattr(Trainer, "train_epoch", watched)
    return counts


@pytest.mark.parametrize("spec", COSTS)
def test_a_scoring_runs_is_charged_for_exactly_what_it_trained_and_the_result_says_so(
    spec: str, trained: list[int]
) -> None:
    n, seeds = 60, [0, 1]
    small = {"train_size": n, "epochs": 10, "budget": 0.5, "label_noise": 0.5}
    agent = dynprune_agents.make(spec)
    results = run_episodes("DynPrune-Digits-v0", agent, seeds, env_kwargs=small, device="cpu")
    for result in results:
        assert result.preparation == pytest.approx(COSTS[spec] * n)
        spent = result.visits + result.scored / 3 + result.preparation
        assert result.saved == pytest.approx(1 - spent / (10 * n))
        assert result.visits == 300  # the budget of the run itself is untouched
    scored = sum(trained) - sum(result.visits for result in results)
    assert scored == pytest.approx(len(seeds) * n * (COSTS[spec] - PASSES.get(spec, 0)))
    if spec not in ("rho_loss", "ucb"):
        masks = unpack(results[0].selections, 10, n)
        assert (masks == masks[0]).all()
        assert masks[0].sum() == 30


def test_a_scoring_pass_and_a_gradient_pass_are_charged_as_documented() -> None:
    env = make_vector(3)
    env.reset(seed=0)
    runs = env.scoring_runs([0, 1, 2])
    assert list(runs.run(0, 0)) == []
    assert runs.values().loss.shape == (3, 48)
    assert runs.visits == pytest.approx([16] * 3)
    runs.charge(1.0)
    assert runs.visits == pytest.approx([64] * 3)
    list(runs.run(1, 2, np.arange(48) < 5))
    assert runs.visits == pytest.approx([74] * 3)


def test_there_must_be_a_run_before_there_are_losses() -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="there was no run yet"):
        env.scoring_runs(0).values()


# -- what scoring runs see ---------------------------------------------------------------------


def test_a_row_of_scoring_runs_is_that_of_its_seed_alone() -> None:
    modules = {"learner": "modules"}  # alike bit for bit in company

    def everything(env: Any, seeds: Any) -> list[Any]:
        env.reset(seed=seeds)
        runs = env.scoring_runs(seeds)
        half = runs.random_mask(0.5)
        both = [list(runs.run(0, 2, half)), list(runs.run(1, 1))]
        observations = [[seen["loss"] for seen in run] for run in both]
        return [half, observations, runs.values().loss]

    together = everything(make_vector(3, **modules), [3, 4, 9])
    for row, seed in enumerate([3, 4, 9]):
        half, observations, losses = everything(make(**modules), seed)
        assert half.sum() == 24
        assert_same([half, losses], [together[0][row], together[2][row]])
        assert_same(observations, [[seen[row] for seen in run] for run in together[1]])
    assert differs(together[0][0], together[0][1])


def test_scoring_runs_train_fresh_models_on_the_same_corrupted_labels() -> None:
    env = make_vector(2, label_noise=0.5, duplicates=0.2, data_seed=3)
    env.reset(seed=0)
    runs = env.scoring_runs([0, 1])
    (seen,) = runs.run(0, 1)
    assert env.dataset.corrupted.any()
    assert (seen["label"] == env.dataset.train.labels.numpy()).all()
    (again,) = runs.run(1, 1)
    assert differs(seen["loss"], again["loss"])
    assert (again["visits"] == 1).all()


@pytest.mark.parametrize(
    "spec", ["forgetting", "aum", "el2n(nets=2)", "grand(nets=2)", "rho_loss", "dual", "tdds"]
)
def test_scores_do_not_depend_on_the_test_split(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def selections(hidden: bool) -> list[np.ndarray]:
        env = make_vector(2)
        env.reset(seed=[0, 1])
        assert env.dataset.test.inputs.isnan().any() == hidden
        agent = dynprune_agents.make(spec)
        agent.prepare(env.scoring_runs([0, 1]))
        agent.reset(env.episode([0, 1]))
        return [agent.select(observed(agent.episode, t)) for t in range(4)]

    before, source = selections(hidden=False), TASKS["Digits"].info

    def read(data_dir: str | None, download: bool) -> RawData:
        pool = source.read(data_dir, download)
        nothing = Split(torch.full_like(pool.test.inputs, torch.nan), 0 * pool.test.labels)
        return RawData(pool.train, nothing)

    hiding = replace(TASKS["Digits"], info=replace(source, read=read))
    monkeypatch.setitem(TASKS, "Digits", hiding)
    assert_same(selections(hidden=True), before)


def test_a_net_that_diverges_while_it_scores_does_not_stop_the_others() -> None:
    diverging = {"train_size": 100, "epochs": 10, "learning_rate": 1e12}
    agent = dynprune_agents.make("grand(nets=1, early=0.5)")
    results = run_episodes(
        "DynPrune-Digits-v0", agent, range(4), env_kwargs=diverging, device="cpu"
    )
    assert all(result.diverged for result in results)


def test_an_agent_scores_anew_and_pays_again_for_every_run() -> None:
    agent = dynprune_agents.make("aum")
    small = {"train_size": 60, "epochs": 4}
    one, two = (
        run_episodes("DynPrune-Digits-v0", agent, [seed], env_kwargs=small, device="cpu")[0]
        for seed in (0, 1)
    )
    alone = run_episodes(
        "DynPrune-Digits-v0", dynprune_agents.make("aum"), [1], env_kwargs=small, device="cpu"
    )[0]
    assert one.preparation == two.preparation == 240
    assert two.selections == alone.selections != one.selections
