"""A policy for short runs of Digits that teachers made who know how many labels are wrong.

Where labels are wrong, or the budget is small, the teacher is PPO's policy `ppo_weights_digits`.
Where all are right, near 30 and 50 % of the visits, it is a plan: 11 weighted tilts that change
linearly over the run, found by the cross-entropy method (Rubinstein & Kroese 2004), which starts
from old samples of small margin. The policy sees what every policy sees, `diagnostics`, and has to
find out by itself which game it is in: it learns the teachers' actions in the states that it meets
itself (DAgger, Ross et al. 2011, arXiv:1011.0686). Plans are judged by final val accuracy and loss;
data seeds and run seeds are above 2^20.

    python -m benchmarks.learned.taught       # some twenty minutes of one core
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
from dynprune_env.selection.tilts import WeightedTilts

TEACHER = Path("benchmarks/learned/policies/ppo_weights_digits.npz")
START = {"age": 0.3, "margin": -0.9, "temperature": -0.9, "loss_weight": -0.3}
"""Where the search begins: old samples of small margin, hardly at random."""
PLANNED = {0.3: (0.2, 0.4), 0.5: (0.4, 0.7)}
"""Budgets that plans are sought for, and those, from and below, at which they teach."""
GAMES = [
    (noise, budget)
    for noise in (0.0, 0.0, 0.0, 0.05, 0.1, 0.2, 0.4)
    for budget in (0.1, 0.1, 0.1, 0.15, 0.25, 0.3, 0.3, 0.35, 0.5, 0.5)
]
"""Label noise and budget of the runs of one round."""

Rule = Callable[[np.ndarray], np.ndarray]
"""From observations (R, k) to actions (R, 11)."""


def games(count: int, noise: float, budget: float, data_seed: int) -> DynPruneVectorEnv:
    """So many runs of Digits side by side."""
    kwargs = {
        "observation": "diagnostics",
        "action": "weighted_tilts",
        "budget": budget,
        "label_noise": noise,
        "data_seed": data_seed,
        "device": "cpu",
    }
    return TaskDraw("DynPrune-Digits-v0", kwargs).make(count, AutoresetMode.DISABLED)


def planned(plans: np.ndarray) -> Rule:
    """What plans do, (22,) or one for each run, (R, 22): their middle, and the change from it."""

    def act(observation: np.ndarray) -> np.ndarray:
        time = 2 * observation[:, Run.NAMES.index("progress"), None] - 1
        middle, change = np.split(np.atleast_2d(plans), 2, axis=1)
        return np.clip(middle + time * change, -1, 1).astype(np.float32)

    return act


def play(envs: DynPruneVectorEnv, seeds: list[int], act: Rule) -> tuple[np.ndarray, dict[str, Any]]:
    """One episode of each: (T · R, 15) observations, and the last infos."""
    observation, infos = envs.reset(seed=seeds)
    seen, ended = [], np.zeros(len(seeds), dtype=bool)
    while not ended.all():
        seen.append(observation)
        observation, _, ended, _, infos = envs.step(act(observation))
    envs.close()
    return np.concatenate(seen), infos


def search_plan(
    rng: np.random.Generator, budget: float, rounds: int = 10, members: int = 64, draws: int = 40
) -> np.ndarray:
    """(22,): the cross-entropy method's mean. Plans of a round play the same runs."""
    names = WeightedTilts.NAMES
    mean, spread = np.zeros(2 * len(names)), np.full(2 * len(names), 0.25)
    for name, value in START.items():
        mean[names.index(name)] = value
    for number in range(rounds):
        plans = mean + spread * rng.standard_normal((members, len(mean)))
        plans[0] = mean
        score, accuracy = np.zeros(members), 0.0
        for _ in range(draws):
            seed = int(rng.integers(FIRST_SEED, 1 << 31))
            _, infos = play(games(members, 0.0, budget, seed), [seed] * members, planned(plans))
            for name, sign in (("val_accuracy", 1.0), ("val_loss", -0.3)):
                score += sign * (infos[name] - infos[name].mean()) / infos[name].std()
            accuracy += float(infos["val_accuracy"].mean()) / draws
        best = plans[np.argsort(-score)[: members // 4]]
        mean = 0.3 * mean + 0.7 * best.mean(0)
        spread = np.maximum(0.05, 0.5 * spread + 0.5 * best.std(0))
        print(f"plan at {budget}, round {number + 1}: val accuracy {100 * accuracy:.2f} %")
    return np.clip(mean, -1, 1)


def collect(
    rng: np.random.Generator, act: Rule | None, plans: dict[float, Rule], replicas: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Observations of one round, (N, 15), and what a teacher does there, (N, 11).

    Args:
        rng: of the games.
        act: who plays; None, each game's teacher itself.
        plans: those of clean labels, by the budget that they were sought for.
        replicas: runs of each game.
    """
    ppo = read_arrays(TEACHER)
    seen, done = [], []

    def by_ppo(observation: np.ndarray) -> np.ndarray:
        shown = observation[:, : len(Run.NAMES)]
        return np.asarray(ppo.predict(shown, deterministic=True)[0])

    for noise, budget in GAMES:
        near = [at for at, (low, high) in PLANNED.items() if low <= budget < high and noise == 0]
        teach = plans[near[0]] if near else by_ppo
        data_seed, *seeds = (int(s) for s in rng.integers(FIRST_SEED, 1 << 31, replicas + 1))
        observations, _ = play(games(replicas, noise, budget, data_seed), seeds, act or teach)
        seen.append(observations)
        done.append(np.clip(teach(observations), -1, 1))
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
    width: int = 64,
    out: Path = Path("benchmarks/learned/policies/taught_digits.npz"),
) -> None:
    """Finds the plan, teaches the policy, and writes it."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    plans = {budget: planned(search_plan(rng, budget)) for budget in PLANNED}
    envs = DynPruneVecEnv(games(1, 0.0, 0.3, FIRST_SEED))
    model = PPO("MlpPolicy", envs, seed=seed, policy_kwargs={"net_arch": [width]}, device="cpu")
    rows = []
    for number in range(rounds):
        rows.append(collect(rng, _mode(model) if number else None, plans))
        seen, done = (np.concatenate(column) for column in zip(*rows, strict=True))
        error = fit(model, seen, done)
        print(f"round {number + 1} of {rounds}: {len(seen):,} states, squared error {error:.4f}")
        save_policy(out, model)


def _mode(model: PPO) -> Rule:
    return lambda observation: np.asarray(model.predict(observation, deterministic=True)[0])


if __name__ == "__main__":
    typer.run(main)
