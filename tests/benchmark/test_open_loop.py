"""The schedules of `benchmarks.learned.open_loop`: whose means they are, and how they play."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import dynprune_agents
from benchmarks.learned import digits, fresh, small_margins
from benchmarks.learned.open_loop import (
    PLAYED,
    RECORDED,
    dynamic_random,
    plans,
    play,
    policy,
    rows,
    schedule,
    settled,
)
from benchmarks.learned.tables import Setting, val_accuracies
from dynprune_agents.learning.mixture import FIRST_SEED

SMALL = Setting(
    "DynPrune-Digits-v0",
    0.5,
    {"label_noise": 0.4, "train_size": 100, "epochs": 4, "device": "cpu"},
    (7,),
    (3, 4),
)


def test_plans_are_means_over_all_that_they_do_not_know() -> None:
    noise, budget, epoch = np.array([0.0, 0.3]), np.array([0.0, 0.06]), np.array([0.0, 0.01, 0.05])
    tilts = noise[:, None, None] + budget[:, None] + epoch  # (2, 2, 3)
    tilts = np.stack([tilts, -tilts], -1)
    found = {name: plan[..., 0] for name, plan in plans(tilts).items()}
    assert all(plan.shape == (2, 2, 3) for plan in found.values())
    assert plans(tilts)["its mean tilts"][..., 1] == pytest.approx(-0.2)
    assert found["its mean tilts"] == pytest.approx(0.15 + 0.03 + 0.02)
    assert found["its mean tilts by epoch"][1, 0] == pytest.approx([0.18, 0.19, 0.23])
    assert found["its mean tilts by setting"][1, 0] == pytest.approx([0.32] * 3)
    by_noise, by_budget = (found[f"its mean tilts by {x} and epoch"] for x in ("noise", "budget"))
    assert by_noise[1, 0] == pytest.approx([0.33, 0.34, 0.38])
    assert by_budget[1, 1] == pytest.approx([0.21, 0.22, 0.26])
    assert found["its mean tilts by setting and epoch"] == pytest.approx(tilts[..., 0])


def test_a_runs_own_tilts_make_the_same_run_and_no_tilt_another() -> None:
    ppo = policy("ppo_digits")
    (accuracies,), tilts = play(replace(SMALL, seeds=(3,)), 7, [ppo])
    assert tilts.shape == (1, 1, 4, 8)
    again, chosen = play(SMALL, 7, [dynamic_random, schedule(tilts[0, 0]), ppo])
    assert again[0, 1] == again[0, 2] == accuracies[0]
    assert (chosen[:, 0] == 0).all()
    assert (chosen[:, 1] == tilts[0, 0]).all()
    # The policy sees the run, and the two seeds' runs are two.
    assert (chosen[1, 2] != tilts[0, 0]).any()
    assert (again[:, 0] != again[:, 1]).any()


def test_the_policy_is_the_agent() -> None:
    ours, _ = play(SMALL, 7, [policy("ppo_digits")])
    theirs = val_accuracies(dynprune_agents.make("sb3(policy='ppo_digits')"), [SMALL])
    # Rows together are rounded otherwise, by which a val image or two may change sides.
    assert ours[:, 0] == pytest.approx(theirs[0], abs=1)


def test_intervals_are_over_data_seeds_and_the_policy_is_taken_off() -> None:
    own = np.array([[[0.0, 2.0], [4.0, 2.0]], [[1.0, 1.0], [3.0, 3.0]]])  # settings, data, runs
    first, second, third = rows({"policy": own, "plan": own + 0.5})
    # data seeds 1, 3 and 1, 3: mean 2, deviation sqrt 2, error 1, of which 1.96 are shown
    cell = "+2.00 ± 1.96"
    assert first == f"| policy | {cell} |  | {cell} | {cell} |"
    cell = "+2.50 ± 1.96"
    assert second == f"| plan | {cell} | +0.50 ± 0.00 | {cell} | {cell} |"
    assert third == f"| this less the policy's | {' | '.join(['', *['+0.50 ± 0.00'] * 3])} |"


def test_what_setting_and_epoch_settle_is_the_variance_between_them() -> None:
    tilts = np.zeros((3, 3, 2, 4, 8))
    tilts[0, :, :, :, 0] = 1.0
    assert settled(tilts) == pytest.approx(1)
    runs = np.zeros_like(tilts)
    runs[:, :, 0] = 1.0
    assert settled(runs) == pytest.approx(0)
    # 2/9 between the settings in one tilt, 1/4 between the runs in each of eight
    assert settled(tilts + runs) == pytest.approx((2 / 9) / (2 / 9 + 8 / 4))


def test_seeds_are_those_of_nothing_else() -> None:
    for recorded, played in zip(RECORDED, PLAYED, strict=True):
        assert not set(recorded) & set(played)
    others = {*digits.DATA_SEEDS, *small_margins.DATA_SEEDS, *fresh.DATA_SEEDS, *range(60)}
    assert not others & {*RECORDED[0], *PLAYED[0]}
    assert max(*PLAYED[0], *PLAYED[1]) < FIRST_SEED // 2  # the evaluation in training begins there
    assert len(PLAYED[0]) * len(PLAYED[1]) >= 32
