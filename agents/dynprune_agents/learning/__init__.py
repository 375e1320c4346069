"""Training selection policies: Stable-Baselines3 and evolution strategies, by one command."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynprune_agents.learning.policy_fit import check_policy_fits
    from dynprune_agents.learning.vec_env import DynPruneVecEnv
    from dynprune_agents.policies._set_policy import SetPolicy

__all__ = ["DynPruneVecEnv", "SetPolicy", "check_policy_fits"]

_MODULES = {
    "DynPruneVecEnv": "dynprune_agents.learning.vec_env",
    "SetPolicy": "dynprune_agents.policies._set_policy",
    "check_policy_fits": "dynprune_agents.learning.policy_fit",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for: Stable-Baselines3 takes a second, and not all need it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
