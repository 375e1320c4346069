"""What is to be run: sweeps of environments, variants, agents, budgets and seeds, from TOML."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.envs.settings import settings_of
from dynprune_env.tasks.models import is_mlp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCALED_MODEL_BELOW = 0.5
"""The share of a sweep's full scale below which its smaller model takes the place of its model."""


@dataclass(frozen=True)
class Sweep:
    """Every agent at every budget in every variant of every environment, over the same seeds.

    Attributes:
        envs: Gymnasium ids.
        agents: specs; empty for all that are at hand.
        budgets: shares of a full run's sample visits, in (0, 1].
        seeds: of the runs.
        env_kwargs: keyword arguments of all environments.
        variants: keyword arguments that make another task of each environment, e.g.
            ({}, {"label_noise": 0.2}).
        scaled_model: spec of the model that a sweep of less than half its scale trains, or None.
        description: one sentence.
    """

    envs: tuple[str, ...] = ("DynPrune-Digits-v0",)
    agents: tuple[str, ...] = ()
    budgets: tuple[float, ...] = (0.3, 0.5, 0.7)
    seeds: tuple[int, ...] = tuple(range(10))
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    variants: tuple[dict[str, Any], ...] = ({},)
    scaled_model: str | None = None
    description: str = ""

    def scaled(self, scale: float) -> Sweep:
        """The same sweep, shorter: fewer epochs and seeds, and below a half a smaller model.

        Args:
            scale: share of the epochs and seeds, in (0, 1]; at least two epochs and one seed stay.

        Raises:
            ValueError: the scale is not in (0, 1], or the environments differ in their epochs.
        """
        if not 0 < scale <= 1:
            raise ValueError(f"--scale is in (0, 1], got {scale}")
        if scale == 1:
            return self
        epochs = {settings_of(env, self.env_kwargs).recipe.epochs for env in self.envs}
        if len(epochs) > 1:
            raise ValueError(f"--scale needs environments of equally many epochs, got {epochs}")
        kwargs = {**self.env_kwargs, "epochs": max(2, round(scale * epochs.pop()))}
        if self.scaled_model and scale < SCALED_MODEL_BELOW:
            kwargs["model"] = self.scaled_model
        seeds = self.seeds[: max(1, round(scale * len(self.seeds)))]
        return replace(self, env_kwargs=kwargs, seeds=seeds)

    def with_kwargs(self, env_kwargs: dict[str, Any]) -> Sweep:
        """The same sweep with these keyword arguments everywhere, whatever its variants say."""
        variants = [
            {key: value for key, value in variant.items() if key not in env_kwargs}
            for variant in self.variants
        ]
        distinct = tuple(each for i, each in enumerate(variants) if each not in variants[:i])
        return replace(self, env_kwargs={**self.env_kwargs, **env_kwargs}, variants=distinct)

    def groups(self, agents: Sequence[str]) -> list[RunGroup]:
        """The runs, full data at budget 1 among them as the reference.

        Args:
            agents: specs as their agents spell them.

        Raises:
            ValueError: an argument of an environment is not valid.
        """
        return [
            group
            for env in self.envs
            for variant in self.variants
            for group in plan_groups(
                env, agents, self.budgets, self.seeds, {**self.env_kwargs, **variant}
            )
        ]


def plan_groups(
    env: str,
    agents: Sequence[str],
    budgets: Sequence[float],
    seeds: Sequence[int],
    env_kwargs: dict[str, Any],
) -> list[RunGroup]:
    """Every agent at every budget, and full data at budget 1 as the reference.

    Seeds of small nets ride together on the replica axis; other runs are groups of their own, so
    that several processes can share them.

    Raises:
        ValueError: an argument of the environment is not valid.
    """
    settings = settings_of(env, env_kwargs)
    for budget in budgets:
        replace(settings, budget=budget)
    together = is_mlp(settings.resolved.model)
    groups = [tuple(seeds)] if together else [(seed,) for seed in seeds]
    pairs = [(agent, float(budget)) for budget in sorted(budgets) for agent in agents]
    pairs += [] if ("full_data", 1.0) in pairs else [("full_data", 1.0)]
    return [
        RunGroup(env, {**env_kwargs, "budget": budget}, agent, group)
        for agent, budget in pairs
        for group in groups
    ]


def cost(group: RunGroup) -> float:
    """Sample visits that a group may spend."""
    settings = settings_of(group.env, group.env_kwargs)
    return settings.budget * settings.recipe.epochs * settings.num_samples * len(group.seeds)


def names() -> list[str]:
    """The sweeps that ship with the package."""
    return sorted(
        path.name.removesuffix(".toml")
        for path in files("dynprune_env.benchmark").joinpath("named_sweeps").iterdir()
        if path.name.endswith(".toml")
    )


def load_sweep(name: str) -> Sweep:
    """A sweep that ships with the package, or that a TOML file describes.

    Its keys are the attributes of `Sweep`; `seeds` is how many, from `seed` on (0).

    Args:
        name: of a shipped one, or a path that ends in .toml.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such sweep, or the file is not the description of one.
    """
    if name.endswith(".toml"):
        if not Path(name).exists():
            raise FileNotFoundError(f"there is no file {name}")
        read: Callable[..., str] = Path(name).read_text
    elif name in names():
        read = files("dynprune_env.benchmark").joinpath("named_sweeps", f"{name}.toml").read_text
    else:
        raise ValueError(
            f"no sweep is called {name!r}; there are {', '.join(names())}, or FILE.toml"
        )
    try:
        return _read(tomllib.loads(read(encoding="utf-8")))
    except ValueError as error:  # of TOML and of UTF-8 too
        raise ValueError(f"{name} is not a sweep: {error}") from error


def _read(content: dict[str, Any]) -> Sweep:
    """Checks what a TOML file says."""
    known = [field.name for field in fields(Sweep)] + ["seed"]
    for key in content:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; there are {', '.join(known)}")
    of_list = {"envs": str, "agents": str, "budgets": float, "variants": dict}
    of_one = {"env_kwargs": dict, "scaled_model": str, "description": str}
    for key, value in content.items():
        if key in of_list:
            content[key] = _checked_list(value, of_list[key], key)
        elif key in of_one:
            _checked(value, of_one[key], key)
    first = _checked(content.pop("seed", 0), int, "seed")
    count = _checked(content.pop("seeds", len(Sweep.seeds)), int, "seeds")
    if count < 1:
        raise ValueError(f"seeds is how many, at least 1, got {count}")
    for kwargs in (content.get("env_kwargs", {}), *content.get("variants", ())):
        if "budget" in kwargs:
            raise ValueError("budget is not a keyword argument here: use budgets")
    return Sweep(seeds=tuple(range(first, first + count)), **content)


def _checked_list(value: Any, kind: type, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{key} is a list that is not empty, got {value!r}")
    return tuple(_checked(each, kind, key) for each in value)


def _checked(value: Any, kind: type, key: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        name = {"str": "text", "dict": "a table"}.get(kind.__name__, kind.__name__)
        raise ValueError(f"{key}: {value!r} is not {name}")
    return value
