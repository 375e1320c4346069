"""The same small game on the CPU and on another device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dynprune_agents import make
from dynprune_env import DynPruneVectorEnv
from dynprune_env.selection.observations import OBSERVATIONS
from helpers.episodes import make_vector, random_masks

CLOSE = 1e-4
FEW = {"train_size": 40, "epochs": 3, "precision": "fp32"}
PICTURES = {"task": "Pictures", "precision": "fp32"}
NETS: dict[str, dict[str, Any]] = {
    "stacked": {},
    "wide": {"model": "mlp(width=8, depth=3)"},
    "modules": {"learner": "modules"},
    "pixels in a stack": {**PICTURES, "model": "mlp(width=8)"},
    "convolutional": PICTURES,
    "residual": {**PICTURES, "model": "resnet9(width=2)", "epochs": 2},
    "drawing": {**PICTURES, "model": "drawing"},
    "tokens": {"task": "Words", **FEW},
    "streamed": {"task": "Streamed", **FEW},
    "dropout": {"task": "Dropping", **FEW},
    "several labels": {"task": "Several", **FEW},
    "numbers": {"task": "Numbers", **FEW},
}
"""Settings by what is trained; the tasks are there within the fixture `nets`."""

ACTIONS = ("mask", "weights", "quantiles", "strategy", "tilts", "weighted_tilts", "paced_tilts")
GAMES: dict[str, dict[str, Any]] = {
    **{f"action {name}": {"action": name} for name in ACTIONS},
    **{f"observation {name}": {"observation": name} for name in OBSERVATIONS},
    "all": {"observe": "all"},
    "averages": {"averaging": 0.9},
    "raw weights": {"weights": "raw", "action": "weights"},
    "few columns": {"columns": ["loss_mean", "age"], "observe": "all"},
    "margins of a loss that is not finite": {"columns": ["margin"], "learning_rate": 1e30},
    "noise": {"label_noise": 0.4, "duplicates": 0.2},
    "a loss that is not finite": {"learning_rate": 1e30},
}


def there(
    num_envs: int = 2, mode: str = "Disabled", device: str = "pretend", **settings: Any
) -> DynPruneVectorEnv:
    return here(num_envs, mode, **{**settings, "device": device})


def here(num_envs: int = 2, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    """On the CPU, by the learner that accelerators have."""
    learner = {"learner": "stacked"} if settings.get("task", "Digits") == "Digits" else {}
    return make_vector(num_envs, mode, **{**learner, **settings})


def some_actions(env: DynPruneVectorEnv, steps: int) -> list[np.ndarray]:
    if env.settings.action in ("mask", "weights"):
        return list(random_masks(env, steps, np.linspace(0.4, 1, env.num_envs)[:, None]))
    env.action_space.seed(3)
    return [env.action_space.sample() for _ in range(steps)]


def episode(name: str, made: Callable[..., DynPruneVectorEnv]) -> list[tuple[Any, ...]]:
    """What an agent does in one episode of each row, and what comes of it."""
    agent = make(name)
    env = made(**{"epochs": 4, "budget": 0.6, **agent.env_kwargs})
    with warnings.catch_warnings():  # some are full data in a run this short
        warnings.filterwarnings("ignore", message=".* spend the whole budget")
        return list(_steps(agent, env))


def _steps(agent: Any, env: DynPruneVectorEnv) -> Iterator[tuple[Any, ...]]:
    observation, _ = env.reset(seed=[3, 4])
    agent.prepare(env.scoring_runs([3, 4]))
    agent.reset(env.episode([3, 4]))
    while not env.ended.all():
        action = agent.select(observation)
        before = observation
        observation, reward, *_, infos = env.step(action)
        agent.update(before, action, reward, observation)
        yield np.array(action), reward, infos["run_visits"], infos["val_loss"]
