"""Trains a selection policy with Stable-Baselines3, saves it, and lets it play against UCB."""

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO

import dynprune_agents
from dynprune_agents.learning import DynPruneVecEnv, save_policy
from dynprune_env import run_episodes

# Sixteen training runs side by side, on data seeds that the comparison below does not use.
game = {"budget": 0.2, "label_noise": 0.4, "reward": "val_accuracy"}
kinds = {"observation": "summary", "action": "score_weights"}
envs = DynPruneVecEnv(
    [
        gym.make_vec("dynprune_env:DynPrune-Digits-v0", 8, **game, **kinds, data_seed=data_seed)
        for data_seed in (1001, 1002)
    ]
)
model = PPO(
    "MlpPolicy",
    envs,
    n_steps=20,  # an update after each training run
    batch_size=80,
    gamma=1.0,
    seed=0,
    policy_kwargs={"net_arch": [32]},
)
model.learn(6_400)  # 320 training runs
save_policy("policy.npz", model)

for spec in ("sb3(policy='policy.npz')", "ucb"):
    agent = dynprune_agents.make(spec)
    results = run_episodes("DynPrune-Digits-v0", agent, range(10), env_kwargs=game)
    accuracies = [result.test_accuracy for result in results]
    print(f"{spec:28} test accuracy {np.mean(accuracies):.1%} ± {np.std(accuracies):.1%}")
