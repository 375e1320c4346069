"""The panel that `render()` draws, of a run of UCB on Digits after twelve of twenty epochs.

python -m benchmarks.panel
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import typer
from matplotlib.image import imsave

import dynprune_agents
from dynprune_env.common.files import atomic_write


def panel(agent: str, epochs: int, seed: int, **game: Any) -> np.ndarray:
    """The panel of a run after so many epochs, (H, W, 3) uint8."""
    player = dynprune_agents.make(agent)
    game = {**game, **player.env_kwargs, "render_mode": "rgb_array"}
    env = gym.make("dynprune_env:DynPrune-Digits-v0", **game)
    observation, _ = env.reset(seed=seed)
    player.reset(env.unwrapped.episode(seed=seed))
    for _ in range(epochs):
        action = player.select(observation)
        seen, reward, _, _, _ = env.step(action)
        player.update(observation, action, reward, seen)
        observation = seen
    return env.render()


def main(
    agent: str = "ucb",
    epochs: int = 12,
    budget: float = 0.3,
    seed: int = 0,
    picture: Path = Path("docs/panel.png"),
) -> None:
    """Draws the picture."""
    with atomic_write(picture) as temporary:
        imsave(temporary, panel(agent, epochs, seed, budget=budget), format="png")
    print(f"Picture: {picture}")


if __name__ == "__main__":
    typer.run(main)
