"""Runs of 200 epochs, as in the papers: every agent ends them, within the budget, at their pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.episodes import make_vector

import dynprune_agents
from dynprune_env.selection.observations import OBSERVATIONS, PROGRESS, progress_entries

T, N = 200, 40
SEEDS = [3, 4]
TINY: dict[str, Any] = {"train_size": N, "epochs": T, "model": "mlp(width=8)", "label_noise": 0.2}
STOPPING = ("early_stopping", "progressive_dropout", "random_progressive")
"""Rules that leave a part of the budget unspent: they stop, or drop what is learned."""


@dataclass
class Played:
    """What came of a run: the last infos, and what was seen and trained in each epoch."""

    info: dict[str, np.ndarray]
    progress: np.ndarray
    masks: np.ndarray


def play(spec: str, budget: float, **others: Any) -> Played:
    agent = dynprune_agents.make(spec)
    env = make_vector(len(SEEDS), **{**TINY, **agent.env_kwargs, "budget": budget, **others})
    observation, info = env.reset(seed=SEEDS)
    agent.prepare(env.scoring_runs(SEEDS))
    agent.reset(env.episode(SEEDS))
    seen, masks, visits = [], [], np.zeros((len(SEEDS), N))
    while not env.ended.all():
        assert len(masks) < env.settings.recipe.epochs
        action = agent.select(observation)
        after, reward, _, _, info = env.step(action)
        agent.update(observation, action, reward, after)
        observation = after
        if env.settings.observation == "samples":
            seen.append(observation["progress"])
        statistics = env.trainer.statistics
        masks.append(statistics.visits > visits)
        visits = statistics.visits.copy()
    return Played(info, np.array(seen), np.array(masks))


@pytest.mark.parametrize("name", dynprune_agents.names())
def test_an_agent_ends_a_run_of_200_epochs_and_spends_its_budget_and_no_more(name: str) -> None:
    budget = 0.3
    info = play(name, budget).info
    cost = info["run_visits"] + info["scored"] / 3
    assert (cost <= budget * T * N + 1e-6).all()
    assert (info["run_progress"] == 1).all()
    if name not in STOPPING:
        assert (cost >= 0.99 * budget * T * N).all()


@pytest.mark.parametrize("epochs", [20, T])
@pytest.mark.parametrize("name", ["epsilon_greedy", "ucb", "cover"])
def test_rules_with_a_period_select_anew_after_every_twentieth_of_the_run(
    name: str, epochs: int
) -> None:
    # Of a smaller budget cover's forward passes would take more than a third.
    masks = play(name, 1.0 if name == "cover" else 0.5, epochs=epochs).masks[:, 0]
    assert masks[0].all()  # the warm-up
    changes = np.flatnonzero((masks[1:] != masks[:-1]).any(1)) + 1
    period = epochs // 20
    assert changes[0] == 1
    # The last epoch may be cut short where the budget ends.
    assert ((changes[changes < epochs - 1] - 1) % period == 0).all()
    assert len(changes) > 5


@pytest.mark.parametrize("epochs", [40, T])
@pytest.mark.parametrize("name", ["infobatch", "random_infobatch"])
def test_rules_that_anneal_keep_everything_in_the_last_eighth_of_the_run(
    name: str, epochs: int
) -> None:
    found = play(name, 1.0, epochs=epochs)
    whole = found.masks.all(-1)[:, 0]
    assert whole[round(0.875 * epochs) + 1 :].all()
    assert not whole[1 : epochs // 2].any()


def test_what_is_seen_of_a_run_is_in_shares_of_it() -> None:
    short, long = (play("dynamic_random", 0.5, epochs=epochs).progress for epochs in (20, T))
    for name in ("progress", "epoch", "spent", "budget"):
        place = PROGRESS.index(name)
        assert short[:, :, place] == pytest.approx(long[9::10, :, place], abs=1e-6)
    assert progress_entries(long)["spent"][-1] == pytest.approx(1)


def test_early_stopping_waits_for_a_tenth_of_the_run() -> None:
    found = play("early_stopping", 1.0)
    val_loss = progress_entries(found.progress)["val_loss"]
    for row in range(len(SEEDS)):
        trained = int(found.masks.any(-1)[:, row].sum())
        assert trained == int(val_loss[:trained, row].argmin()) + 1 + T // 10


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_observations_stay_in_their_space_for_200_epochs(observation: str) -> None:
    env = make_vector(2, **TINY, budget=1.0, observation=observation)
    seen, _ = env.reset(seed=SEEDS)
    rng = np.random.default_rng(0)
    epochs = 0
    while not env.ended.all():
        assert env.observation_space.contains(seen)
        # A few samples are never visited, others in every epoch: the ends of every column.
        mask = rng.random((2, N)) < np.linspace(0, 1, N)
        seen, *_ = env.step(mask)
        epochs += 1
    assert env.observation_space.contains(seen)
    assert epochs == T
    assert env.trainer.statistics.visits.max() == pytest.approx(T, abs=15)


def test_the_learning_rate_is_that_of_the_share_of_the_run() -> None:
    rates = []
    for epochs in (20, T):
        env = make_vector(1, **{**TINY, "epochs": epochs, "batch_size": N})
        env.reset(seed=3)
        env.step(np.ones((1, N), dtype=bool))
        recipe = env.trainer.recipe
        rates.append([float(recipe.rate(np.array([share]))[0]) for share in np.linspace(0, 1, 41)])
    assert rates[0] == pytest.approx(rates[1])
    assert max(rates[0]) > 10 * rates[0][-1]


@pytest.mark.slow
def test_wrong_labels_are_learned_by_heart_in_long_games_that_policies_train_on() -> None:
    """All samples of a game of the mixtures of `cautious` and `ppo`: wide net, high rate."""
    env = make_vector(
        8,
        task="Digits",
        train_size=500,
        epochs=60,
        model="mlp(width=128)",
        learning_rate=0.2,
        label_noise=0.4,
        batch_size=64,
    )
    env.reset(seed=0)
    accuracies = []
    while not env.ended.all():
        *_, info = env.step(np.ones((8, 500), dtype=bool))
        accuracies.append(info["val_accuracy"].mean())
    assert max(accuracies) - accuracies[-1] > 0.05
