"""What the teachers of `benchmarks.learned.taught` do, and that a policy learns it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.learned.taught import GAMES, PLAN, TEACHER, collect, games, taught
from dynprune_agents.learning.mixture import FIRST_SEED
from dynprune_agents.policies._sb3_arrays import read_arrays
from dynprune_env.selection.tilts import PacedTilts

PACE = PacedTilts.NAMES.index("pace")


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize(("budget", "pace"), [(0.1, -0.5), (0.2, 1.0), (0.35, 1.0), (0.5, 0.0)])
def test_all_runs_of_a_budget_begin_alike(noise: float, budget: float, pace: float) -> None:
    envs = games(2, noise, budget, FIRST_SEED)
    observation, _ = envs.reset(seed=[1, 2])
    teach = taught(noise, budget)
    assert teach(observation)[:, PACE].tolist() == [pace] * 2
    later, *_ = envs.step(teach(observation))
    assert teach(later)[:, PACE].tolist() == [0] * 2
    envs.close()


def test_the_plan_is_for_clean_labels_and_ppo_for_wrong_ones_and_few_visits() -> None:
    seen = np.random.default_rng(0).uniform(-1, 1, (5, 15)).astype(np.float32)
    plan = [PLAN.get(name, 0.0) for name in PacedTilts.NAMES]
    assert taught(0.0, 0.3)(seen) == pytest.approx(np.tile(plan, (5, 1)))
    ppo = read_arrays(TEACHER).predict(seen[:, :12], deterministic=True)[0]
    for noise, budget in ((0.4, 0.3), (0.0, 0.1)):
        action = taught(noise, budget)(seen)
        assert action[:, :11] == pytest.approx(np.clip(ppo, -1, 1))
        assert not action[:, 11:].any()


def test_a_round_holds_every_epoch_of_every_game() -> None:
    seen, done = collect(np.random.default_rng(0), None, replicas=1)
    assert seen.shape == (20 * len(GAMES), 15)
    assert done.shape == (20 * len(GAMES), 13)
