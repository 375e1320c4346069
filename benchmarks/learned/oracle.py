"""The oracle of the studies: dynamic random among the samples whose labels are right.

No agent may know which labels are wrong, so it is not among the registered ones. It draws the
data's corruption again from the settings that its spec names: what it was told stands in every
result, and `dynprune validate` replays it from the root of this repository.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch

from dynprune_agents import Agent
from dynprune_env.envs.settings import Settings, settings_of
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import keep_top
from dynprune_env.tasks.variants import load_dataset

Observation = dict[str, np.ndarray]


@dataclass
class Oracle(Agent):
    """A fresh uniform random subset of the rightly labelled samples in every epoch.

    Where the budget pays for more than there are, it keeps them all and leaves the rest unspent.

    Attributes:
        task, label_noise, imbalance, duplicates, train_size, data_seed: of the environment; see
            `Settings`. The data lie where $DYNPRUNE_DATA says.
    """

    source: ClassVar[str] = "the ceiling: what selection could do if it knew the wrong labels"

    task: str = "Digits"
    label_noise: float | None = None
    imbalance: float | None = None
    duplicates: float | None = None
    train_size: int | None = None
    data_seed: int = 0

    def reset(self, episode: Episode) -> None:
        """Begins a new episode.

        Raises:
            ValueError: the episode is on other data than the oracle was told.
        """
        super().reset(episode)
        task = Settings(
            **{field.name: getattr(self, field.name) for field in fields(self)}
        ).resolved
        data = load_dataset(task.info, task.variant, None, True, torch.device("cpu"))
        if len(data.corrupted) != episode.num_samples:
            raise ValueError(
                f"the oracle was told of {len(data.corrupted)} samples, "
                f"the episode has {episode.num_samples}"
            )
        self._right = ~data.corrupted

    def select(self, observation: Observation) -> np.ndarray:
        """Uniform among the right ones, at an even pace."""
        count = np.minimum(self.keep_count(observation), self._right.sum())
        draws = self.rng.random(self.episode.num_samples)
        return keep_top(np.where(self._right, draws, -1.0), count, self.rng)


def oracle(env: str, env_kwargs: dict[str, Any]) -> str:
    """The spec of the oracle of an environment; dynamic random's where no label is wrong."""
    settings = settings_of(env, env_kwargs)
    if not settings.variant.label_noise:
        return "dynamic_random"
    told = {field.name: getattr(settings, field.name) for field in fields(Oracle)}
    return repr(Oracle(**told))
