"""Trains a selection policy with Stable-Baselines3, saves it, and lets it play against UCB."""

import sys

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO

import dynprune_agents
from dynprune_agents.learning import DynPruneVecEnv, save_policy
from dynprune_env import RelativeRewards, run_episodes

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 19_200  # of 960 training runs
game = {"budget": 0.2, "label_noise": 0.4}
kinds = {"observation": "run", "action": "tilts"}


def twins(data_seed: int) -> RelativeRewards:
    """Eight training runs that differ in nothing but their actions, paid for their rank."""
    runs = {"num_envs": 8, "twins": 8, "data_seed": data_seed, "autoreset_mode": "SameStep"}
    return RelativeRewards(gym.make_vec("dynprune_env:DynPrune-Digits-v0", **runs, **game, **kinds))


# Data seeds that the comparison below does not use.
envs = DynPruneVecEnv([twins(data_seed) for data_seed in range(1001, 1005)])
model = PPO(
    "MlpPolicy",
    envs,
    n_steps=20,  # an update after each training run of every replica
    batch_size=640,
    n_epochs=8,
    gamma=1.0,
    gae_lambda=1.0,  # the only reward comes at the end
    learning_rate=0.003,
    seed=0,
    policy_kwargs={"net_arch": [16], "log_std_init": -1.2},
)
model.learn(steps)
save_policy("policy.npz", model)

for spec in ("sb3(policy='policy.npz')", "dynamic_random", "ucb"):
    agent = dynprune_agents.make(spec)
    results = run_episodes("DynPrune-Digits-v0", agent, range(10), env_kwargs=game)
    accuracies = [result.test_accuracy for result in results]
    print(f"{spec:28} test accuracy {np.mean(accuracies):.1%} ± {np.std(accuracies):.1%}")
