"""A policy for short runs of Digits that teachers made who know how many labels are wrong.

Where labels are wrong, or the budget is small, the teacher is PPO's policy `ppo_weights_digits`.
Where all are right, from 20 % of the visits on, it is a plan: keep the smallest margins, which
weigh more too ([small_margins.md](../results/small_margins.md)). Nobody knows in the first epoch
which game it is, so all begin alike: near 30 % of the visits with all samples, as the rules do that
are best with clean labels; with half of an even pace where the budget is smaller. The policy sees
what every policy sees, `diagnostics`, and has to find out by itself which game it is in: it learns
the teachers' actions in the states that it meets itself (DAgger, Ross et al. 2011,
arXiv:1011.0686). Data seeds and run seeds are above 2^20.

    python -m benchmarks.learned.taught       # some five minutes of one core
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO

from dynprune_agents.learning import DynPruneVecEnv, save_policy
from dynprune_agents.learning.mixture import FIRST_SEED, TaskDraw
from dynprune_agents.policies._sb3_arrays import read_arrays
from dynprune_env.envs.vector_env import DynPruneVectorEnv
from dynprune_env.selection.observations import Run
from dynprune_env.selection.tilts import PacedTilts, WeightedTilts

TEACHER = Path("benchmarks/learned/policies/ppo_weights_digits.npz")
PLAN = {
    "margin": -1.0,
    "unvisited": 1.0,
    "loss": 0.2,
    "age": 0.1,
    "temperature": -0.85,
    "margin_weight": -1.0,
}
"""Where all labels are right; what is not named is 0."""
PLANNED = 0.2
"""The smallest budget for which the plan teaches."""
FIRST_PACES = {0.0: -0.5, PLANNED: 1.0, 0.4: 0.0}
"""Of the first epoch, by the budget from which on it holds."""
GAMES = [
    (noise, budget)
    for noise in (0.0, 0.0, 0.0, 0.05, 0.1, 0.2, 0.4)
    for budget in (0.1, 0.1, 0.1, 0.15, 0.25, 0.3, 0.3, 0.35, 0.5, 0.5)
]
"""Label noise and budget of the runs of one round."""

Rule = Callable[[np.ndarray], np.ndarray]
"""From observations (R, k) to actions (R, 13)."""


def games(count: int, noise: float, budget: float, data_seed: int) -> DynPruneVectorEnv:
    """So many runs of Digits side by side."""
    kwargs = {
        "observation": "diagnostics",
        "action": "paced_tilts",
        "budget": budget,
        "label_noise": noise,
        "data_seed": data_seed,
        "device": "cpu",
    }
    return TaskDraw("DynPrune-Digits-v0", kwargs).make(count, AutoresetMode.DISABLED)


def taught(noise: float, budget: float) -> Rule:
    """What the teacher of a game does."""
    ppo, names = read_arrays(TEACHER), PacedTilts.NAMES
    plan = np.array([PLAN.get(name, 0.0) for name in names], dtype=np.float32)

    def act(observation: np.ndarray) -> np.ndarray:
        if noise == 0 and budget >= PLANNED:
            action = np.tile(plan, (len(observation), 1))
        else:
            action = np.zeros((len(observation), len(names)), dtype=np.float32)
            shown = observation[:, : len(Run.NAMES)]
            action[:, : len(WeightedTilts.NAMES)] = ppo.predict(shown, deterministic=True)[0]
        first = observation[:, Run.NAMES.index("progress")] == 0
        action[first, names.index("pace")] = FIRST_PACES[max(b for b in FIRST_PACES if b <= budget)]
        return action.clip(-1, 1)

    return act


def play(envs: DynPruneVectorEnv, seeds: list[int], act: Rule) -> np.ndarray:
    """The observations of one episode of each, (T · R, 15)."""
    observation, _ = envs.reset(seed=seeds)
    seen, ended = [], np.zeros(len(seeds), dtype=bool)
    while not ended.all():
        seen.append(observation)
        observation, _, ended, _, _ = envs.step(act(observation))
    envs.close()
    return np.concatenate(seen)


def collect(
    rng: np.random.Generator, act: Rule | None, replicas: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Observations of one round, (N, 15), and what a teacher does there, (N, 13).

    Args:
        rng: of the games.
        act: who plays; None, each game's teacher itself.
        replicas: runs of each game.
    """
    seen, done = [], []
    for noise, budget in GAMES:
        teach = taught(noise, budget)
        data_seed, *seeds = (int(s) for s in rng.integers(FIRST_SEED, 1 << 31, replicas + 1))
        observations = play(games(replicas, noise, budget, data_seed), seeds, act or teach)
        seen.append(observations)
        done.append(teach(observations))
    return np.concatenate(seen), np.concatenate(done)


def fit(model: PPO, seen: np.ndarray, done: np.ndarray, steps: int = 10_000) -> float:
    """Least squares of the actor's means on the teachers' actions; returns the last errors."""
    policy: Any = model.policy
    layers = torch.nn.Sequential(policy.mlp_extractor.policy_net, policy.action_net)
    adam = torch.optim.Adam(layers.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    x, y = torch.from_numpy(seen), torch.from_numpy(done.astype(np.float32))
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(x), (2048,))
        loss = (layers(x[rows]).clamp(-1.2, 1.2) - y[rows]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-200:]))


def main(
    seed: int = 0,
    rounds: int = 5,
    width: int = 128,
    out: Path = Path("benchmarks/learned/policies/taught_digits.npz"),
) -> None:
    """Teaches the policy and writes it."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    envs = DynPruneVecEnv(games(1, 0.0, 0.3, FIRST_SEED))
    model = PPO("MlpPolicy", envs, seed=seed, policy_kwargs={"net_arch": [width]}, device="cpu")
    rows = []
    for number in range(rounds):
        rows.append(collect(rng, _mode(model) if number else None))
        seen, done = (np.concatenate(column) for column in zip(*rows, strict=True))
        error = fit(model, seen, done)
        print(f"round {number + 1} of {rounds}: {len(seen):,} states, squared error {error:.4f}")
        save_policy(out, model)


def _mode(model: PPO) -> Rule:
    return lambda observation: np.asarray(model.predict(observation, deterministic=True)[0])


if __name__ == "__main__":
    typer.run(main)
