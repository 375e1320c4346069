"""Environment ids: importing this module loads neither torch nor data."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

import gymnasium as gym

VECTOR_ENTRY_POINT = "dynprune_env.envs.vector_env:DynPruneVectorEnv"
OWN_PREFIX = "dynprune_env:"
"""In front of an id it tells `gym.make` to import this package."""


def register_env(task: str) -> None:
    """Makes `DynPrune-<task>-v0` known to Gymnasium, unless it is already."""
    name = f"DynPrune-{task}-v0"
    if name not in gym.registry:
        gym.register(
            id=name,
            entry_point="dynprune_env.envs.env:DynPruneEnv",
            vector_entry_point=VECTOR_ENTRY_POINT,
            kwargs={"task": task},
        )


def split_id(env: str) -> tuple[tuple[str, ...], str]:
    """The modules that stand in front of an id for `gym.make` to import, () or one; and the id."""
    modules, colon, name = env.rpartition(":")
    return (modules,) if colon else (), name


def without_own_prefix(env: str) -> str:
    """The id without this package in front; another module there stays, since it names code."""
    name = env.removeprefix(OWN_PREFIX)
    return env if ":" in name else name


def import_all(modules: Iterable[str]) -> None:
    """Imports modules that register tasks of their own.

    Raises:
        ValueError: one cannot be imported.
    """
    for module in modules:
        if not module or module.startswith("."):
            raise ValueError(f"cannot import {module!r}: expected the full name of a module")
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(f"cannot import {module!r}: {error}") from error
