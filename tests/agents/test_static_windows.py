"""The static scores taken over windows of a run, against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies, episode, observed
from helpers.fake_runs import FakeRuns
from helpers.results import play
from scipy.stats import beta as beta_distribution

import dynprune_agents

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
