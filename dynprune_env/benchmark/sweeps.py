"""What is to be run: sweeps of environments, variants, agents, budgets and seeds, from TOML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from dynprune_env.benchmark.episodes import RunGroup
from dynprune_env.benchmark.sweep_files import LAST_SEED, LIMIT, MOST_SEEDS, read_sweep_file
from dynprune_env.common.specs import did_you_mean
from dynprune_env.envs.settings import settings_of
from dynprune_env.tasks.models import is_mlp

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
            ValueError: the scale is not in (0, 1], the environments differ in their epochs, or an
                argument of theirs is not valid.
        """
        if not 0 < scale <= 1:
            raise ValueError(f"--scale is in (0, 1], got {scale}")
        if scale == 1:
            return self
        kwargs = {**self.env_kwargs, "epochs": max(2, round(scale * self._epochs({})))}
        variants = tuple(
            {**variant, "epochs": max(2, round(scale * self._epochs(variant)))}
            if "epochs" in variant
            else variant
            for variant in self.variants
        )
        if self.scaled_model and scale < SCALED_MODEL_BELOW:
            kwargs["model"] = self.scaled_model
        seeds = self.seeds[: max(1, round(scale * len(self.seeds)))]
        return replace(self, env_kwargs=kwargs, variants=variants, seeds=seeds)

    def _epochs(self, variant: dict[str, Any]) -> int:
        """T of all environments in a variant.

        Raises:
            ValueError: they differ, or an argument is not valid.
        """
        kwargs = {**self.env_kwargs, **variant}
        epochs = {settings_of(env, kwargs).recipe.epochs for env in self.envs}
        if len(epochs) > 1:
            raise ValueError(f"--scale needs environments of equally many epochs, got {epochs}")
        return epochs.pop()

    def with_kwargs(self, env_kwargs: dict[str, Any]) -> Sweep:
        """The same sweep with these keyword arguments everywhere, whatever its variants say."""
        variants = [
            {key: value for key, value in variant.items() if key not in env_kwargs}
            for variant in self.variants
        ]
        distinct = tuple(each for i, each in enumerate(variants) if each not in variants[:i])
        return replace(self, env_kwargs={**self.env_kwargs, **env_kwargs}, variants=distinct)

    def varied(self, key: str, values: Sequence[Any]) -> Sweep:
        """The same sweep with each of these values of a keyword argument, whatever it was before.

        One value is that of all variants, as `with_kwargs` has it; several make as many of each.
        """
        if not values:
            return self
        first, *others = dict.fromkeys(values)
        if not others:
            return self.with_kwargs({key: first})
        variants = tuple(
            {**variant, key: value}
            for variant in self.with_kwargs({key: None}).variants
            for value in (first, *others)
        )
        return replace(self, variants=variants)

    def groups(self, agents: Sequence[str], device: str = "auto") -> list[RunGroup]:
        """The runs, each group once, full data at budget 1 among them as the reference.

        Args:
            agents: specs as their agents spell them.
            device: where they will be played, see `plan_groups`.

        Raises:
            ValueError: an argument of an environment is not valid.
        """
        found = {
            group.key: group
            for env in self.envs
            for variant in self.variants
            for group in plan_groups(
                env, agents, self.budgets, self.seeds, {**self.env_kwargs, **variant}, device
            )
        }
        return list(found.values())


def plan_groups(
    env: str,
    agents: Sequence[str],
    budgets: Sequence[float],
    seeds: Sequence[int],
    env_kwargs: dict[str, Any],
    device: str = "auto",
) -> list[RunGroup]:
    """Every agent at every budget, and full data at budget 1 as the reference.

    Seeds of small nets, and of all nets on CUDA, ride together on the replica axis; other runs are
    groups of their own, so that several processes can share them.

    Raises:
        ValueError: an argument of the environment is not valid, or there is no such device.
    """
    settings = settings_of(env, env_kwargs)
    for budget in budgets:
        replace(settings, budget=budget)
    on_cuda = replace(settings, device=device).find_device().type == "cuda"
    together = is_mlp(settings.resolved.model) or on_cuda
    groups = [tuple(seeds)] if together else [(seed,) for seed in seeds]
    pairs = [(agent, float(budget)) for budget in sorted(budgets) for agent in agents]
    pairs += [] if ("full_data", 1.0) in pairs else [("full_data", 1.0)]
    return [
        RunGroup(env, {**env_kwargs, "budget": budget}, agent, group)
        for agent, budget in pairs
        for group in groups
    ]


def seed_range(first: int, count: int) -> tuple[int, ...]:
    """So many seeds from the first on.

    Raises:
        ValueError: they are none, or more than anybody runs; or the first is negative.
    """
    if not 1 <= count <= MOST_SEEDS:
        raise ValueError(f"seeds is how many, at least 1 and at most {MOST_SEEDS:,}, got {count}")
    if not 0 <= first <= LAST_SEED:
        raise ValueError(f"seeds begin at 0 or later, and by 2^62, got {first}")
    return tuple(range(first, first + count))


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
        return parse_sweep(_content(Path(name)), name)
    if name in names():
        shipped = files("dynprune_env.benchmark").joinpath("named_sweeps", f"{name}.toml")
        return parse_sweep(shipped.read_bytes(), name)
    hint = did_you_mean(name, names())
    raise ValueError(
        f"no sweep is called {name!r}; there are {', '.join(names())}, or FILE.toml.{hint}"
    )


def _content(path: Path) -> bytes:
    """As much of a file as is needed to see that it is too long."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is not a sweep: it is no file")
    with path.open("rb") as file:
        return file.read(LIMIT + 1)


def parse_sweep(content: bytes, name: str) -> Sweep:
    """The sweep that a TOML text describes.

    Args:
        content: UTF-8, with or without a byte order mark.
        name: for messages.

    Raises:
        ValueError: it is not the description of a sweep.
    """
    try:
        given = read_sweep_file(content)
        seeds = seed_range(given.pop("seed", 0), given.pop("seeds", len(Sweep.seeds)))
        lists = {name: tuple(each) for name, each in given.items() if isinstance(each, list)}
        return Sweep(**{**given, **lists}, seeds=seeds)
    except ValueError as error:
        raise ValueError(f"{name} is not a sweep: {error}") from error
