"""Environment ids: importing this module loads neither torch nor data."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

import gymnasium as gym

VECTOR_ENTRY_POINT = "dynprune_env.envs.vector_env:DynPruneVectorEnv"


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


def import_all(modules: Iterable[str]) -> None:
    """Imports modules that register tasks of their own.

    Raises:
        ValueError: one cannot be imported.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(f"cannot import {module!r}: {error}") from error
