"""Rewards are pure functions of how well runs do before and after a step."""

from __future__ import annotations

import numpy as np
import pytest

from dynprune_env.selection.rewards import REWARDS, TELESCOPING, TERMINAL, Metrics

BEFORE = Metrics(
    np.array([2.0, 1.0, 20.0]),
    np.array([0.2, 0.5, 0.1]),
    np.array([2.3, 1.5, 9.0]),
    np.array([False, False, True]),
)
AFTER = Metrics(
    np.array([1.0, 1.25, 20.0]),
    np.array([0.6, 0.4, 0.1]),
    np.array([1.8, 1.0, 9.0]),
    np.array([False, True, True]),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_loss", [1, -0.25, 0]),
        ("val_accuracy", [0.4, -0.1, 0]),
        ("log_val_loss", [np.log(2), -np.log(1.25), 0]),
        ("train_loss", [0.5, 0.5, 0]),
        ("final_accuracy", [0, 0.4, 0]),
        ("final_loss", [0, -1.25, 0]),
    ],
)
def test_rewards_are_those_computed_by_hand(name: str, expected: list[float]) -> None:
    assert REWARDS[name](BEFORE, AFTER) == pytest.approx(expected)


def test_every_reward_is_telescoping_or_terminal() -> None:
    assert set(REWARDS.values()) == {*TELESCOPING, *TERMINAL}


@pytest.mark.parametrize("reward", TERMINAL)
def test_a_terminal_reward_is_paid_once_however_often_one_looks(reward: object) -> None:
    assert callable(reward)
    assert not reward(AFTER, AFTER).any()
    assert reward(BEFORE, AFTER).astype(bool).tolist() == [False, True, False]


def test_agents_see_three_of_the_metrics() -> None:
    losses, accuracies, trained = BEFORE.observed
    assert (losses, accuracies, trained) == (
        BEFORE.val_loss,
        BEFORE.val_accuracy,
        BEFORE.train_loss,
    )
