"""The tasks that a policy is trained on: every draw is an environment with data of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from dynprune_env.common.checks import shown
from dynprune_env.envs.settings import Settings, known_env, settings_of
from dynprune_env.envs.vector_env import DynPruneVectorEnv

FIRST_SEED = 1 << 20
"""Training draws data seeds and run seeds from here on; those of benchmarks lie below."""

MOST_CHECKED = 2000
"""Combinations of values of an environment that are checked: a second or two of work."""


@dataclass(frozen=True)
class TaskDraw:
    """One draw: an environment with its keyword arguments."""

    env: str
    env_kwargs: dict[str, Any]

    def settings(self) -> Settings:
        """The checked settings."""
        return settings_of(self.env, self.env_kwargs)

    def make(
        self, num_envs: int, autoreset_mode: AutoresetMode, twins: int = 1
    ) -> DynPruneVectorEnv:
        """A vector environment of this draw."""
        kwargs = {"autoreset_mode": autoreset_mode, "twins": twins, **self.env_kwargs}
        envs = gym.make_vec(self.env, num_envs=num_envs, **kwargs)
        assert isinstance(envs, DynPruneVectorEnv)
        return envs


@dataclass(frozen=True)
class Mixture:
    """What environments are drawn from, each list independently and uniformly, data seeds afresh.

    Attributes:
        envs: Gymnasium ids.
        budgets: shares of a full run's visits.
        label_noise: shares of labels redrawn; None leaves the task's own.
        vary: further keyword arguments of the environment with the values to draw from. A name
            such as "Digits:epochs" counts for that task alone, and there replaces the general
            values, those of budget and label_noise too.
        env_kwargs: keyword arguments that all draws share, such as the observation kind; none that
            is drawn.
    """

    envs: tuple[str, ...] = ("DynPrune-Digits-v0",)
    budgets: tuple[float, ...] = (0.3,)
    label_noise: tuple[float | None, ...] = (None,)
    vary: dict[str, Sequence[Any]] = field(default_factory=dict)
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> TaskDraw:
        """One draw; its data seed is at least FIRST_SEED."""

        def pick(values: Sequence[Any]) -> Any:
            return values[int(rng.integers(len(values)))]

        env = pick(self.envs)
        drawn = {name: pick(values) for name, values in self.choices(env).items()}
        data_seed = int(rng.integers(FIRST_SEED, 1 << 31))
        return TaskDraw(env, {**self.env_kwargs, **drawn, "data_seed": data_seed})

    def choices(self, env: str) -> dict[str, Sequence[Any]]:
        """Keyword arguments of this environment's draws and the values that each is drawn from."""
        task = gym.spec(known_env(env)).kwargs["task"]
        found: dict[str, Sequence[Any]] = {"budget": self.budgets, "label_noise": self.label_noise}
        for name, values in sorted(self.vary.items(), key=lambda pair: ":" in pair[0]):
            of, _, argument = name.rpartition(":")
            if of in ("", task):
                found[argument] = values
        return found

    def first_draws(self) -> list[TaskDraw]:
        """One draw of each environment: the first of all values."""
        return [
            TaskDraw(
                env,
                {
                    **self.env_kwargs,
                    **{name: values[0] for name, values in self.choices(env).items()},
                },
            )
            for env in self.envs
        ]

    def combinations(self, env: str) -> Iterable[tuple[Any, ...]]:
        """What draws of this environment combine, in the order of `choices`.

        All of it, or of more than MOST_CHECKED combinations as many that hold every value.
        """
        lists = list(self.choices(env).values())
        if math.prod(map(len, lists)) <= MOST_CHECKED:
            return product(*lists)
        count, rng = max(MOST_CHECKED, *map(len, lists)), np.random.default_rng(0)
        picked = [rng.permutation(np.resize(np.arange(len(each)), count)) for each in lists]
        return zip(
            *([each[i] for i in places] for each, places in zip(lists, picked, strict=True)),
            strict=True,
        )

    def check(self) -> set[int]:
        """Checks what can be drawn, in its combinations, before anything is trained.

        Returns:
            The numbers of train samples, n, of the draws.

        Raises:
            ValueError: a list is empty, env_kwargs names what is drawn, or an environment refuses
                a combination.
        """
        general = {"env": self.envs, "budget": self.budgets, "label_noise": self.label_noise}
        for name, listed in {**general, **self.vary}.items():
            if not listed:
                raise ValueError(f"nothing to draw {name} from: the list is empty")
        tasks = [gym.spec(known_env(env)).kwargs["task"] for env in self.envs]
        for name in self.vary:
            of = name.rpartition(":")[0]
            if of not in ("", *tasks):
                raise ValueError(f"{name} is of a task that is not played: {', '.join(tasks)} are")
        self._check_that_none_is_drawn()
        sizes = set()
        for env in dict.fromkeys(self.envs):
            names = list(self.choices(env))
            for values in self.combinations(env):
                drawn = dict(zip(names, values, strict=True))
                sizes.add(TaskDraw(env, {**self.env_kwargs, **drawn}).settings().num_samples)
        return sizes

    def _check_that_none_is_drawn(self) -> None:
        """What is drawn would replace the values of env_kwargs without a word.

        Raises:
            ValueError: a key of env_kwargs is drawn for one of the environments.
        """
        varied = {name for env in self.envs for name in self.choices(env)}
        places = dict.fromkeys(varied, "list its values in vary")
        places |= {
            "budget": "list its values in budgets",
            "label_noise": "list its values in label_noise",
            "data_seed": "each draw has one of its own",
        }
        for name, value in self.env_kwargs.items():
            if name in places:
                raise ValueError(
                    f"env_kwargs cannot set {name}, which is drawn: {places[name]}, got "
                    f"{shown(value)}"
                )
