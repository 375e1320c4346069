"""Steps 16 training runs side by side, each with its own random masks and its own keep share."""

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

envs = gym.make_vec(
    "dynprune_env:DynPrune-Digits-v0",
    num_envs=16,
    budget=0.3,
    autoreset_mode=AutoresetMode.DISABLED,  # finished runs wait, so that they can be evaluated
)
rng = np.random.default_rng(0)
share = np.linspace(0.1, 1.0, 16)[:, None]  # of the samples that a run keeps in each epoch

observations, infos = envs.reset(seed=0)
terminated = np.zeros(16, dtype=bool)
while not terminated.all():
    masks = rng.random((16, observations["loss"].shape[1])) < share
    observations, rewards, terminated, truncated, infos = envs.step(masks)

accuracy = envs.unwrapped.evaluate("test").accuracy
for row in range(16):
    print(
        f"kept {share[row, 0]:4.0%} per epoch: {infos['epoch'][row]:2} epochs, "
        f"{infos['run_visits'][row]:5,} visits, test accuracy {accuracy[row]:.1%}"
    )
