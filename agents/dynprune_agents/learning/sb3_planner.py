"""A planner, found by evolution, as the policy of a Stable-Baselines3 model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO

from dynprune_agents.learning.mixture import TaskDraw
from dynprune_agents.learning.vec_env import DynPruneVecEnv
from dynprune_agents.policies._networks import Planner
from dynprune_agents.policies._sb3_files import save_model
from dynprune_env.common.randomness import kept_generators


def save_planner(path: Path, planner: Planner, flat: np.ndarray, origin: dict[str, Any]) -> None:
    """Writes a planner as the actor of a PPO model; a .zip can go on from there.

    Args:
        path: where to.
        planner: the network's shape.
        flat: (P,) float32.
        origin: how it was made.
    """
    kinds = {"observation": "run", "action": "tilts"}
    envs = DynPruneVecEnv(TaskDraw("DynPrune-Digits-v0", kinds).make(1, AutoresetMode.SAME_STEP))
    networks = {"net_arch": [planner.width], "log_std_init": -1.0}
    with kept_generators():
        model = PPO("MlpPolicy", envs, gamma=1.0, policy_kwargs=networks, device="cpu")
    p = {name: torch.from_numpy(value.copy()) for name, value in planner.split(flat).items()}
    layers: list[Any] = [model.policy.mlp_extractor.policy_net[0], model.policy.action_net]
    with torch.no_grad():
        for layer, weight, bias in zip(layers, ("A", "W"), ("b", "c"), strict=True):
            layer.weight.copy_(p[weight].T)
            layer.bias.copy_(p[bias])
    save_model(path, model, origin)
