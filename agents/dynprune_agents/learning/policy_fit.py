"""Whether a policy of Stable-Baselines3 can choose what an environment asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium import spaces

if TYPE_CHECKING:  # Stable-Baselines3 takes a second to import
    from stable_baselines3.common.policies import BasePolicy

STOCK_LIMIT = 300
"""Most samples for which a stock policy may choose a mask or weights."""


def check_policy_fits(
    policy: str | type[BasePolicy],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> None:
    """Call it before training on a `DynPruneVecEnv`; `dynprune train` does.

    Args:
        policy: what the algorithm is given: "MlpPolicy", ..., or a class.
        observation_space: of the environment.
        action_space: of the environment.

    Raises:
        ValueError: a `SetPolicy` with other spaces than it knows, or a stock policy that would
            choose a mask or weights of many samples: its networks grow with n, and PPO's
            probability ratios, products over n, overflow (at n = 50,000 in the first update).
    """
    if isinstance(policy, type):
        from dynprune_agents.policies._set_policy import SetPolicy, check_kinds

        if issubclass(policy, SetPolicy):
            check_kinds(observation_space, action_space)
            return
    size = (action_space.shape or (0,))[0]
    if size > STOCK_LIMIT:
        name = policy if isinstance(policy, str) else policy.__name__
        raise ValueError(
            f"{name} cannot choose among {size:,} samples (at most {STOCK_LIMIT}): use SetPolicy "
            'with observation="samples" and action="mask", or observation="run" with '
            'action="tilts", which is short whatever the number of samples'
        )
