"""Rules that weigh: the expected sum of gradients over an epoch, by how large the losses are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.by_hand import episode, observed

import dynprune_agents
from benchmarks import unbiased
from dynprune_agents import Agent

N, DRAWS = 1000, 1500
LOSSES = np.sort(np.random.default_rng(0).exponential(size=N)).astype(np.float32)
DECILES = LOSSES.reshape(10, -1)


def contributions(agent: Agent, keep: float, epoch: int = 5, **columns: Any) -> np.ndarray:
    """(draws, 10): the mean gradient weight of each decile of the losses, easy to hard."""
    game = episode(N, budget=keep, seeds=tuple(range(DRAWS)))
    agent.reset(game)
    weights = agent.select(observed(game, epoch, **{"loss": LOSSES, "visits": epoch, **columns}))
    return weights.reshape(DRAWS, 10, -1).mean(-1, dtype=np.float64)


def assert_unbiased(found: np.ndarray) -> None:
    """Every decile weighs one in the mean of the draws, within five standard errors."""
    errors = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(0) - 1) <= 5 * errors + 1e-6).all(), found.mean(0)
    assert (errors < 0.03).all()  # it would notice


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_importance_sampling_is_unbiased(keep: float, replacement: bool) -> None:
    agent = dynprune_agents.make(f"importance_sampling(replacement={replacement})")
    game_sized = contributions(agent, keep)
    # Its weights are those of a mean over k visits: their sum is k times that of all data.
    assert_unbiased(game_sized / keep)


@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_the_check_notices_weights_that_are_left_out(keep: float) -> None:
    agent = dynprune_agents.make("importance_sampling(rescale=False)")
    found = contributions(agent, keep).mean(0) / keep
    assert found[0] < 0.5
    assert found[-1] > 1.5


def test_importance_sampling_with_everything_kept_is_full_data() -> None:
    agent = dynprune_agents.make("importance_sampling")
    game = episode(N, budget=1.0, seeds=(0, 1, 2))
    agent.reset(game)
    for epoch in (0, 3):
        weights = agent.select(observed(game, epoch, loss=LOSSES))
        np.testing.assert_array_equal(weights, np.ones((3, N), dtype=np.float32))


@pytest.mark.parametrize("r", [0.9, 0.5, 0.25])
def test_infobatch_is_unbiased(r: float) -> None:
    # An even number of losses below the mean, so that r of them is a whole number of samples.
    below = np.count_nonzero(LOSSES.mean() > LOSSES)
    hard = np.where(np.arange(N) >= below - below % 20, LOSSES + 1, LOSSES)
    assert np.count_nonzero(hard < hard.mean()) % 20 == 0
    assert_unbiased(contributions(dynprune_agents.make(f"infobatch(r={r})"), 0.5, loss=hard))


@pytest.mark.parametrize("r", [0.9, 0.5, 0.25])
def test_random_infobatch_is_unbiased(r: float) -> None:
    assert_unbiased(contributions(dynprune_agents.make(f"random_infobatch(r={r})"), 0.5))


def test_align_prune_is_unbiased_as_its_host_is() -> None:
    agent = dynprune_agents.make("align_prune(r=0.5, window=4)")
    game = episode(N, seeds=tuple(range(DRAWS)))
    agent.reset(game)
    # From the fourth epoch on by alignment: losses fall as val loss does in one half, rise in the
    # other, and the deciles of both are mixed.
    falling = np.arange(N) % 2 == 0
    for epoch in range(5):
        loss = LOSSES + np.where(falling, 5 - epoch, epoch)
        seen = observed(game, epoch, loss=loss, visits=epoch, val_loss=5 - epoch)
        weights = agent.select(seen)
    low = (weights != 1).any(0)
    assert (low == ~falling).all()
    assert_unbiased(weights.reshape(DRAWS, 10, -1).mean(-1, dtype=np.float64))


def test_kakurenbo_makes_up_for_the_number_of_hidden_samples_not_for_their_losses() -> None:
    # It claims no more than a learning rate that grows with what is hidden.
    agent = dynprune_agents.make("kakurenbo(fraction=0.3)")
    found = contributions(agent, 0.5, epoch=1, confidence=0.9).mean(0)
    assert found == pytest.approx([0] * 3 + [1 / 0.7] * 7, rel=1e-5)
    assert found.mean() == pytest.approx(1)


def test_repb_weighs_each_sample_by_one_over_the_share_of_epochs_it_was_in() -> None:
    # What it claims is that seldom trained samples weigh up: over a run, weight times visits of a
    # sample trained in every other epoch are those of one that is always trained.
    agent = dynprune_agents.make("repb(rho=0.5)")
    game = episode(N, seeds=tuple(range(50)))
    agent.reset(game)
    visits = np.where(np.arange(N) % 2, 9, 4)
    weights = agent.select(observed(game, 9, loss=LOSSES, visits=visits))
    assert set(np.unique(weights[:, visits == 9])) == {0, 1}
    assert set(np.unique(weights[:, visits == 4])) == {0, 2}


def late_in_a_run(spec: str, epochs: int = 400, replicas: int = 20) -> np.ndarray:
    """(replicas, 10): the mean weights of each decile over the second half of a run."""
    agent, game = dynprune_agents.make(spec), episode(N, epochs, 1.0, tuple(range(replicas)))
    agent.reset(game)
    visits, age, total = np.zeros((3, replicas, N))
    for epoch in range(epochs):
        weights = agent.select(observed(game, epoch, loss=LOSSES, visits=visits, age=age))
        total += weights if epoch >= epochs // 2 else 0
        visits += weights > 0
        age = np.where(weights > 0, 0, age + 1)
    return total.reshape(replicas, 10, -1).mean(2) / (epochs - epochs // 2)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
def test_repb_is_unbiased_once_its_shares_are_rates(rho: float) -> None:
    found = late_in_a_run(f"repb(rho={rho})")
    assert found.mean(0) == pytest.approx(np.ones(10), abs=0.02)
    assert (found.std(0, ddof=1) / np.sqrt(len(found)) < 0.005).all()  # it would notice


def test_the_check_of_long_runs_notices_weights_that_are_left_out() -> None:
    found = late_in_a_run("repb(rho=0.5, rescale=False)").mean(0)
    assert found[:6] == pytest.approx(np.full(6, 0.5), abs=0.02)
    assert found[-1] == pytest.approx(1, abs=0.02)


def test_the_committed_table_shows_what_it_says_of_long_runs() -> None:
    page = Path(unbiased.__file__).parent / "results" / "unbiased.md"
    rows = [row.split("|") for row in page.read_text(encoding="utf-8").splitlines()]
    off = [float(row[-3]) for row in rows if len(row) > 3 and "repb" in row[1] and "T=" in row[1]]
    assert len(off) == 6  # three settings, raw and with a mean of one
    assert max(off) <= 2
