"""Training selection policies: Stable-Baselines3 and evolution strategies, by one command."""

from typing import TYPE_CHECKING

from dynprune_env.common.lazy import lazy_names

if TYPE_CHECKING:  # Stable-Baselines3 takes a second to import, and not all need it
    from dynprune_agents.learning.policy_fit import check_policy_fits as check_policy_fits
    from dynprune_agents.learning.saving import save_policy as save_policy
    from dynprune_agents.learning.set_policy import SetPolicy as SetPolicy
    from dynprune_agents.learning.vec_env import DynPruneVecEnv as DynPruneVecEnv

_EXPORTS = {
    "DynPruneVecEnv": "vec_env",
    "SetPolicy": "set_policy",
    "check_policy_fits": "policy_fit",
    "save_policy": "saving",
}

__all__ = [*_EXPORTS]

__getattr__, __dir__ = lazy_names(__name__, _EXPORTS, [*globals()])
