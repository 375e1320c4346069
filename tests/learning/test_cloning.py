"""Behaviour cloning: its error by hand, the oracle found again, and the same training again."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_agents.learning.cloning import (
    CloningSettings,
    CloningTrainer,
    clone_error,
    cross_entropy,
    oracle,
    oracle_draws,
    oracle_weights,
)
from dynprune_agents.learning.imitation import SAMPLES, collect
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture, TaskDraw
from dynprune_agents.policies._features import SAMPLE_FEATURES
from dynprune_agents.policies.learned import Learned
from dynprune_env import DynPruneVectorEnv
from dynprune_env.selection.observations import PROGRESS

SMALL: dict[str, Any] = {"train_size": 60, "epochs": 3, "reward": "val_accuracy"}
MIXTURE = Mixture(budgets=(0.3, 0.5), label_noise=(0.0, 0.4), env_kwargs=SMALL)
FEW = CloningSettings(width=2, rounds=2, passes=2)


def trainer(**changes: Any) -> CloningTrainer:
    return CloningTrainer(MIXTURE, **{"seed": 3, "steps": 96, "settings": FEW, **changes})


def test_the_error_is_the_cross_entropy_beyond_that_of_the_oracle() -> None:
    right = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert cross_entropy(torch.tensor([[9.0, 9.0, -99.0, -99.0]]), right).item() == pytest.approx(0)
    # Of four alike each is drawn with 1/4, the oracle's two with 1/2.
    assert cross_entropy(torch.zeros(1, 4), right).item() == pytest.approx(math.log(2))
    one_right = cross_entropy(torch.log(torch.tensor([[6.0, 2.0, 1.0, 1.0]])), right).item()
    assert one_right == pytest.approx(-(math.log(0.6) + math.log(0.2)) / 2 - math.log(2))
    three_to_one = torch.tensor([[3.0, 1.0, 0.0, 0.0]])
    agrees = cross_entropy(torch.log(three_to_one + 1e-12), three_to_one).item()
    assert agrees == pytest.approx(0, abs=1e-6)
    even = 0.75 * math.log(0.75) + 0.25 * math.log(0.25) - math.log(0.25)
    assert cross_entropy(torch.zeros(1, 4), three_to_one).item() == pytest.approx(even)
    assert cross_entropy(torch.randn(1, 4), torch.zeros(1, 4)).item() == 0.0


def test_the_error_of_weights_is_added_as_a_mean_square() -> None:
    scores, right = torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    said = torch.stack([right, torch.tensor([[0.5, -0.5, 0.0, 0.0]])], -1)
    found = clone_error(scores, torch.tensor([[0.5, 0.5, 0.0, 0.0]]), said).item()
    assert found == pytest.approx(math.log(2) + 1 / 4)
    assert clone_error(scores, None, right).item() == pytest.approx(math.log(2))


def four_samples(accuracy: float, visits: float = 2) -> dict[str, np.ndarray]:
    """Two that waited and two of small margin; the val accuracy so far, and visits of each."""
    progress = np.zeros((1, len(PROGRESS)), dtype=np.float32)
    progress[0, PROGRESS.index("val_accuracy")] = accuracy
    return {
        "loss": np.ones((1, 4), dtype=np.float32),
        "age": np.array([[0.0, 2.0, 0.0, 2.0]], dtype=np.float32),  # z-scores -1, 1, -1, 1
        "margin": np.array([[3.0, 3.0, 1.0, 1.0]], dtype=np.float32),  # 1, 1, -1, -1
        "visits": np.full((1, 4), visits),
        "progress": progress,
    }


TRUST = pytest.mark.parametrize(
    ("accuracy", "trust"), [(0.5, 0.0), (0.85, 0.0), (0.9, 0.5), (0.97, 1.0)]
)


EARLY = pytest.mark.parametrize(
    ("visits", "early"), [(0, 1.0), (10, 1.0), (15, 0.5), (20, 0.0), (50, 0)]
)


@EARLY
def test_the_oracle_stops_weighing_once_samples_were_visited_often(
    visits: float, early: float
) -> None:
    observation, clean = four_samples(0.97, visits), np.zeros(4, dtype=bool)
    weights = oracle_weights(observation, clean, 0.85, 2.0)[0].tolist()
    assert weights == pytest.approx([-early, -early, early, early], rel=1e-5)
    wrong = np.array([False, False, False, True])
    some_wrong = oracle_weights(observation, wrong, 0.85, 2.0)[0].tolist()
    assert some_wrong == pytest.approx([-early / 2, -early / 2, early / 2, -early], rel=1e-5)


@TRUST
def test_the_oracle_weighs_small_margins_more_and_wrong_labels_less(
    accuracy: float, trust: float
) -> None:
    observation, wrong = four_samples(accuracy), np.array([False, False, False, True])
    weights = oracle_weights(observation, np.zeros(4, dtype=bool), 0.85, 2.0)
    assert weights[0].tolist() == pytest.approx([-trust, -trust, trust, trust], rel=1e-5)
    some_wrong = oracle_weights(observation, wrong, 0.85, 2.0)[0].tolist()
    assert some_wrong == pytest.approx([-trust / 2, -trust / 2, trust / 2, -trust], rel=1e-5)
    both = oracle(observation, np.zeros(4, dtype=bool), CloningSettings(max_weight=2.0))
    np.testing.assert_array_equal(both[..., 0], oracle_draws(observation, np.zeros(4, dtype=bool)))
    np.testing.assert_array_equal(both[..., 1], weights)
    assert oracle(observation, wrong, CloningSettings()).tolist() == [[1.0, 1.0, 1.0, 0.0]]


@EARLY
def test_hard_samples_with_right_labels_are_favoured_before_wrong_ones_are_learned(
    visits: float, early: float
) -> None:
    wrong = np.array([False, True, False, True])
    found = oracle_draws(four_samples(0.95, visits), wrong, hard_right=0.5)[0].tolist()
    assert found == pytest.approx([np.exp(-0.5 * early), 0, np.exp(0.5 * early), 0], rel=1e-5)


@TRUST
def test_the_oracle_draws_right_labels_and_without_wrong_ones_what_is_old_or_hard(
    accuracy: float, trust: float
) -> None:
    observation = four_samples(accuracy)
    wrong = np.array([False, False, False, True])
    assert oracle_draws(observation, wrong).tolist() == [[1.0, 1.0, 1.0, 0.0]]
    draws = oracle_draws(observation, np.zeros(4, dtype=bool))
    expected = np.exp([-1 - 2 * trust, 1 - 2 * trust, -1 + 2 * trust, 1 + 2 * trust])
    assert draws[0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    late = oracle_draws(observation, np.zeros(4, dtype=bool), hard_from=1.0)
    assert late[0].tolist() == pytest.approx(np.exp([-1, 1, -1, 1]).tolist(), rel=1e-5)


def test_examples_are_what_the_oracle_draws_and_as_many_as_asked_for() -> None:
    kwargs = {**SMALL, "label_noise": 0.4, "budget": 1.0, "data_seed": FIRST_SEED}
    draw = TaskDraw("DynPrune-Digits-v0", {**kwargs, "observation": "samples", "action": "mask"})
    whole = collect(draw, DynamicRandom(), 5, 2, oracle_draws)
    assert whole.samples.shape == (6, SAMPLES, len(SAMPLE_FEATURES))
    env = draw.make(1, AutoresetMode.DISABLED)
    env.reset(seed=0)
    drawn = whole.targets > 0
    assert 1 - drawn.mean() == pytest.approx(env.dataset.corrupted.mean(), abs=0.1)
    assert set(np.unique(whole.targets)) == {
        0.0,
        1.0,
    }
    clean = {**kwargs, "label_noise": 0.0, "budget": 0.5, "observation": "samples"}
    right = collect(TaskDraw("DynPrune-Digits-v0", clean), DynamicRandom(), 5, 2, oracle_draws)
    assert len(np.unique(right.targets)) > 2  # what waited longer is preferred
    none = collect(draw, DynamicRandom(), 5, 2, oracle_draws, share=0.0)
    assert (none.samples.shape[0], none.steps) == (0, whole.steps)


@pytest.mark.slow
def test_the_clone_keeps_right_labels_of_planted_data() -> None:
    """Eight in ten labels are wrong there; dynamic random keeps as many."""
    mixture = Mixture(
        envs=("DynPrune-Planted-v0",), budgets=(0.1, 0.2), env_kwargs={"reward": "val_accuracy"}
    )
    one = CloningTrainer(mixture, steps=6_000, settings=CloningSettings(width=8))
    while one.steps < 6_000:
        one.advance()
    env = DynPruneVectorEnv(4, "Disabled", task="Planted", budget=0.15, data_seed=1)
    seen, _ = env.reset(seed=0)
    agent = one.agent()
    agent.reset(env.episode([0, 1, 2, 3]))
    wrong = []
    while not env.ended.all():
        mask = agent.select(seen)
        wrong.append(env.dataset.corrupted[np.nonzero(mask)[1]].mean())
        seen, *_ = env.step(mask)
    assert np.mean(wrong[:3]) > 0.6
    assert np.mean(wrong[10:]) < 0.4  # half of dynamic random's; over six seeds 0.35 to 0.36


def test_before_it_has_learned_it_is_dynamic_random_and_afterwards_sharp() -> None:
    one = trainer(settings=CloningSettings(width=2, rounds=2, passes=2, sharpness=4.0))
    assert not one.network.split(one.flat)["w"].any()
    logged = one.advance()
    assert set(logged) == {"return", "cross_entropy"}
    assert one.network.split(one.flat)["bias"][0] == pytest.approx(-math.log10(4))
    assert one.network.split(one.flat)["w"].any()


def test_rounds_share_the_steps_and_go_on_from_within(tmp_path: Path) -> None:
    whole = trainer()
    whole.advance()
    assert whole.steps >= 48
    whole.advance()
    assert whole.steps >= 96

    class Interrupted(Exception):
        pass

    part, calls = trainer(), []

    def stop() -> None:
        calls.append(part.steps)
        if len(calls) == 2:
            part.save_checkpoint(tmp_path)
            raise Interrupted

    part.between = stop
    with pytest.raises(Interrupted):
        part.advance()
    again = trainer()
    again.load_checkpoint(tmp_path)
    assert 0 < again.steps < whole.steps
    again.advance()
    again.advance()
    np.testing.assert_array_equal(again.flat, whole.flat)
    assert (again.steps, again.visits, again.round) == (whole.steps, whole.visits, 2)


def test_processes_change_nothing_and_the_file_plays(tmp_path: Path) -> None:
    one, two = trainer(), trainer(jobs=2)
    for each in (one, two):
        each.advance()
    np.testing.assert_array_equal(one.flat, two.flat)
    one.save(tmp_path / "clone.npz")
    played = Learned(str(tmp_path / "clone.npz"))
    assert played.env_kwargs == {}
    np.testing.assert_array_equal(played.network()[1], one.flat)


def test_a_clone_with_weights_learns_them_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    weighing = CloningSettings(width=2, rounds=2, passes=2, hard_from=0.01, max_weight=2.0)
    one, again = trainer(settings=weighing), trainer(settings=weighing)
    one.advance()
    assert one.network.split(one.flat)["v"].any()
    one.save_checkpoint(tmp_path)
    again.load_checkpoint(tmp_path)
    for each in (one, again):
        each.advance()
    np.testing.assert_array_equal(again.flat, one.flat)
    one.save(tmp_path / "clone.npz")
    assert Learned(str(tmp_path / "clone.npz")).env_kwargs == {"action": "weights"}


MAY_BE_ZERO = ("hard_right", "max_weight")


@pytest.mark.parametrize(
    "name", [field.name for field in fields(CloningSettings) if field.name not in MAY_BE_ZERO]
)
def test_settings_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number above 0, got 0"):
        CloningSettings(**{name: 0})


@pytest.mark.parametrize("name", MAY_BE_ZERO)
def test_what_may_be_zero_is_not_below_it(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number from 0 on, got -1"):
        CloningSettings(**{name: -1.0})
