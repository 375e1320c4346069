"""Bandits over strategies and over samples: their updates by hand, and arms that they find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.by_hand import MANY, assert_frequencies, episode, kept, observed

import dynprune_agents


def bandit(spec: str, **settings: Any) -> Any:
    """An agent in its first episode, of a dozen samples."""
    agent = dynprune_agents.make(spec)
    agent.reset(episode(12, **settings))
    return agent


# -- bandits over strategies -------------------------------------------------------------------

SIDE = {  # each deterministic strategy has a sample of its own at the top
    "loss": [9, 0, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8],
    "margin": [5, 5, -0.1, 5, 5, -5, 5, -5, -5, 5, 5, -5],
    "age": [0, 0, 0, 4, 1, 1, 1, 1, 1, 1, 1, 1],
}


def pulled(agent: Any, arm: int, rewards: list[float]) -> None:
    """Steps in which the agent pulls this arm and gets these rewards."""
    for reward in rewards:
        agent._arms = np.array([arm])
        agent.update({}, None, reward, {})


@pytest.mark.parametrize("spec", ["ucb1", "thompson"])
def test_the_strategies_are_hardest_easiest_least_certain_least_recent_and_random(
    spec: str,
) -> None:
    agent = bandit(spec, seeds=MANY[:500])
    row = {name: column[0] for name, column in observed(agent.episode, 1, **SIDE).items()}
    tops = [kept(agent.arm_mask(arm, row, 1, agent.rng.only(0))) for arm in range(4)]
    assert tops == [[0], [1], [2], [3]]
    masks = np.array([agent.arm_mask(4, row, 3, agent.rng.only(r)) for r in range(500)])
    assert (masks.sum(axis=1) == 3).all()
    assert_frequencies(masks, 0.25)


@pytest.mark.parametrize(
    ("arm", "window"), [(0, [0, 1, 2]), (1, [2, 3, 4]), (2, [4, 5, 6]), (3, [7, 8, 9])]
)
def test_exp3s_arms_are_windows_from_the_easiest_to_the_hardest(
    arm: int, window: list[int]
) -> None:
    loss = np.array([4, 11, 0, 7, 9, 2, 1, 10, 5, 8, 3, 6])
    agent = bandit("exp3")
    row = observed(agent.episode, 1, loss=loss)
    assert sorted(loss[agent.arm_mask(arm, row, 3, agent.rng)]) == window
    assert sorted(loss[agent.arm_mask(4, row, 3, agent.rng)]) == [9, 10, 11]
    assert agent.arm_mask(arm, row, 12, agent.rng).all()


def test_rewards_are_divided_by_the_running_mean_of_their_size_and_clipped() -> None:
    agent = bandit("ucb1")
    pulled(agent, 2, [2.0])  # scale 2
    assert agent.sums[0].tolist() == [0, 0, 1, 0, 0]
    pulled(agent, 2, [1.0])  # scale 1.5
    assert agent.sums[0, 2] == pytest.approx(1 + 1 / 1.5)
    pulled(agent, 0, [-6.0])  # scale 3.75, -1.6 is clipped
    assert agent.sums[0].tolist() == pytest.approx([-1, 0, 1 + 1 / 1.5, 0, 0])
    pulled(agent, 1, [0.0])
    assert agent.pulls[0].tolist() == [1, 1, 2, 0, 0]


def test_ucb1_pulls_each_arm_once_first_and_then_the_highest_bound() -> None:
    agent = bandit("ucb1(c=0.5)")
    for arm, reward in enumerate([0.2, 0.6, -1.0, 0.5, 0.0]):
        assert agent.pick() == [arm]
        agent.pulls[0, arm] += 1
        agent.credit(np.array([arm]), np.array([reward]))
    assert agent.pick() == [1]
    # Two more pulls of arm 1 without reward: mean .2, bound .2 + .5 sqrt(2 ln 7 / 3) = .769, and
    # arm 3 has .5 + .5 sqrt(2 ln 7) = 1.486, arm 0 has 1.186.
    agent.pulls[0, 1] += 2
    assert agent.pick() == [3]
    # Eight rewards of .5 more for arm 3: .5 + .5 sqrt(2 ln 15 / 9) = .888 against 1.364 of arm 0.
    agent.pulls[0, 3] += 8
    agent.sums[0, 3] += 8 * 0.5
    assert agent.pick() == [0]


@pytest.mark.parametrize(("c", "first"), [(0.0, 0), (0.2, 0), (0.215, 2), (1.0, 2)])
def test_ucb1s_bonus_decides_between_a_good_arm_and_a_rare_one(c: float, first: int) -> None:
    # .5 + c sqrt(2 ln 20 / 14) = .5 + .654 c against .3 + c sqrt(2 ln 20 / 2) = .3 + 1.731 c: they
    # are equal at c = .2 / 1.077 = .1857.
    agent = bandit(f"ucb1(c={c})")
    agent.pulls[0] = [10, 4, 2, 2, 2]
    agent.sums[0] = agent.pulls[0] * [0.5, 0.4, 0.3, 0.3, 0.3]
    assert agent.pick() == [first]


@pytest.mark.parametrize(
    ("pulls", "sums", "p"),
    [
        ([3, 24], [2.0, 12.5], 0.5),  # N(.5, .25) and N(.5, .1): mean and standard deviation
        ([3, 0], [2.0, 0.0], 0.81446),  # N(.5, .25) and N(0, .5): Phi(.5 / .559)
        ([24, 3], [12.5, 1.6], 0.64484),  # N(.5, .1) and N(.4, .25): Phi(.1 / .269)
    ],
)
def test_thompson_pulls_an_arm_as_often_as_its_posterior_is_the_highest(
    pulls: list[int], sums: list[float], p: float
) -> None:
    agent = bandit("thompson(sigma=0.5)", seeds=MANY)
    agent.pulls[:, :2], agent.sums[:, :2], agent.sums[:, 2:] = pulls, sums, -1000
    share = (agent.pick() == 0).mean()
    assert share == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / len(MANY)))


def test_thompson_adds_up_what_each_replicas_arm_brought() -> None:
    agent = bandit("thompson", seeds=(0, 1))
    agent.credit(np.array([1, 4]), np.array([0.5, -1.0]))
    agent.credit(np.array([1, 0]), np.array([0.25, 1.0]))
    assert agent.sums.tolist() == [[0, 0.75, 0, 0, 0], [1, 0, 0, 0, -1]]


def test_exp3_weighs_rewards_by_the_inverse_of_the_arms_probability() -> None:
    agent = bandit("exp3(gamma=0.2)")
    assert agent.probabilities()[0] == pytest.approx([0.2] * 5)
    agent.credit(np.array([1]), np.array([1.0]))  # exp(.2 * 1 / (.2 * 5)) = exp(.2)
    assert agent.log_weights[0] == pytest.approx([0, 0.2, 0, 0, 0])
    # exp(.2) = 1.2214 of 5.2214, and .04 for all.
    assert agent.probabilities()[0, :2] == pytest.approx([0.193215, 0.227138], abs=1e-6)
    agent.credit(np.array([1]), np.array([-0.5]))  # .25 in [0, 1]: .2 * .25 / (.227138 * 5)
    assert agent.log_weights[0, 1] == pytest.approx(0.2 + 0.0440261, abs=1e-6)
    agent.credit(np.array([4]), np.array([-1.0]))  # the worst reward is worth nothing
    assert agent.log_weights[0, 4] == 0


def test_exp3_pulls_by_its_probabilities_and_large_weights_do_no_harm() -> None:
    agent = bandit("exp3(gamma=0.5)", seeds=MANY)
    agent.log_weights[:] = np.log([1, 2, 3, 1, 3]) + 5000
    p = np.array([0.15, 0.2, 0.25, 0.15, 0.25])
    assert agent.probabilities() == pytest.approx(np.tile(p, (len(MANY), 1)))
    assert_frequencies(agent.pick()[:, None] == np.arange(5), p)


STRATEGIES = [[0], [1], [2], [3], range(4, 12)]
PAYING = {"ucb1": STRATEGIES, "thompson": STRATEGIES, "exp3": [[1], [4], [7], range(8, 12), [0]]}
"""Which samples pay where arm k should: one is kept, and each arm keeps another one."""


@pytest.mark.parametrize("best", range(5))
@pytest.mark.parametrize("spec", PAYING)
def test_a_bandit_finds_the_strategy_that_pays_and_pulls_each_at_times(
    spec: str, best: int
) -> None:
    steps, noise = 300, np.random.default_rng(0)
    agent = bandit(spec, budget=1 / 12, seeds=tuple(range(8)))
    seen = observed(agent.episode, 1, **SIDE)
    for _ in range(steps):
        mask = agent.select(seen)
        assert (mask.sum(axis=1) == 1).all()
        pays = mask[:, list(PAYING[spec][best])].any(axis=1)
        agent.update(seen, mask, pays + noise.normal(scale=0.2, size=8), seen)
    assert agent.pulls.sum(axis=1).tolist() == [steps] * 8
    assert (agent.pulls.argmax(axis=1) == best).all()
    assert agent.pulls[:, best].mean() > 0.5 * steps
    assert (agent.pulls.sum(axis=0) > 0).all()


# -- bandits over samples ----------------------------------------------------------------------

COLUMNS = ("loss", "loss_mean", "confidence", "margin", "el2n", "age", "visits")


def drawn(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    columns = {name: np.float32(rng.normal(size=n)) for name in COLUMNS}
    columns["age"][0] = 50  # an outlier: z-scores are clipped at 3
    return columns


def scores_of(columns: dict[str, np.ndarray]) -> np.ndarray:
    """A constant and the clipped z-scores, (n, 8)."""
    table = np.array([columns[name] for name in COLUMNS], dtype=np.float64)
    z = (table - table.mean(1, keepdims=True)) / table.std(1, keepdims=True)
    return np.vstack([np.ones(table.shape[1]), z.clip(-3, 3)]).T


@pytest.mark.parametrize("spec", ["linucb(alpha=0.3, ", "linear_thompson(v=0.0, "])
def test_linear_bandits_solve_a_discounted_ridge_regression_of_what_visits_reveal(
    spec: str,
) -> None:
    agent = bandit(f"{spec}discount=0.5, ridge=2.0)")
    rng, rows, targets = np.random.default_rng(0), [], []
    for epoch, discount in [(1, 0.5), (2, 1)]:
        columns, visited, revealed = drawn(rng, 12), rng.random(12) < 0.6, rng.random(12)
        before = observed(agent.episode, epoch, **columns)
        after = dict(columns, visits=columns["visits"] + visited, loss=revealed)
        agent.update(before, None, 0.0, observed(agent.episode, epoch + 1, **after))
        rows.append(np.sqrt(discount) * scores_of(columns)[visited])
        targets.append(np.sqrt(discount) * np.float32(revealed)[visited])
    x = np.vstack([*rows, np.sqrt(2) * np.eye(8)])
    y = np.concatenate([*targets, np.zeros(8)])
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    assert np.linalg.solve(agent.precision, agent.moment) == pytest.approx(weights, rel=1e-4)

    columns = drawn(rng, 12)
    features = scores_of(columns)
    uncertainty = np.sqrt(np.einsum("ni,ij,nj->n", features, np.linalg.inv(x.T @ x), features))
    score = features @ weights + (0.3 * uncertainty if "linucb" in spec else 0)
    mask = agent.select(observed(agent.episode, 3, **columns))
    assert kept(mask) == sorted(np.argsort(score)[6:])


def test_linucb_adds_alpha_times_the_uncertainty() -> None:
    agent = bandit("linucb(alpha=2.0)")
    x, weights = np.array([[1, 0], [0, 1], [2, 1]]), np.array([1, 2])
    scores = agent.score(x, weights, np.diag([0.25, 1]))
    assert scores == pytest.approx([1 + 2 * 0.5, 2 + 2 * 1, 4 + 2 * np.sqrt(2)])


def test_linear_thompson_draws_weights_with_the_posteriors_covariance() -> None:
    agent, size = bandit("linear_thompson(v=0.5)", seeds=MANY), len(MANY)
    x = np.tile([[1, 0], [0, 1], [1, 1]], (size, 1, 1))
    weights, covariance = np.tile([1, -1], (size, 1)), np.tile([[4, 1.9], [1.9, 1]], (size, 1, 1))
    scores = agent.score(x, weights, covariance)
    variance = 0.5**2 * np.array([4, 1, 4 + 1 + 2 * 1.9])
    assert scores.mean(0) == pytest.approx([1, -1, 0], abs=5 * np.sqrt(2 / size))
    assert scores.var(0) == pytest.approx(variance, rel=5 * np.sqrt(2 / size))


@pytest.mark.parametrize("spec", ["linucb(alpha=0.1)", "linear_thompson(v=0.1)"])
def test_a_linear_bandit_learns_which_samples_will_have_high_losses(spec: str) -> None:
    rng, n = np.random.default_rng(0), 60
    agent = dynprune_agents.make(spec)
    agent.reset(episode(n, epochs=40))
    for epoch in range(1, 21):
        columns = drawn(rng, n)
        before = observed(agent.episode, epoch, **columns)
        truth = scores_of(columns) @ [2, 0, 0, -0.5, 0, 0.8, 0.3, 0]
        mask = agent.select(before)
        after = dict(columns, visits=columns["visits"] + mask, loss=np.where(mask, truth, 0))
        agent.update(before, mask, 0.0, observed(agent.episode, epoch + 1, **after))
    assert mask.sum() == 30
    assert np.isin(kept(mask), np.argsort(truth)[30:]).sum() >= 27
