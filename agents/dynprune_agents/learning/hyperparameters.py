"""Hyperparameters of Stable-Baselines3, checked in one sentence before a model is made of them."""

from __future__ import annotations

from inspect import signature
from types import NoneType
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from dynprune_agents._agent import check_shares
from dynprune_env.common.checks import plain, real, whole
from dynprune_env.common.specs import checked_value

LEAST = {
    "learning_starts": 0,
    "gradient_steps": -1,
    "sde_sample_freq": -1,
    "top_quantiles_to_drop_per_net": 0,
    "verbose": 0,
}
"""The least of whole numbers; of all others it is 1."""

SHARES = (
    *("gamma", "gae_lambda", "tau"),
    *("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"),
)
POSITIVE = ("learning_rate", "clip_range", "clip_range_vf", "max_grad_norm", "target_kl")

OURS = ("policy", "env", "seed", "device", "_init_setup_model")
"""Arguments of the algorithms that no hyperparameter sets."""

LITERALS = (bool, int, float, str, NoneType, tuple, list, dict)


def checked_hyperparameters(
    algo: str, make: type[BaseAlgorithm], chosen: dict[str, Any]
) -> dict[str, Any]:
    """Checks hyperparameters against the signature of an algorithm.

    Objects, such as schedules, noise and classes, are left to Stable-Baselines3.

    Args:
        algo: the algorithm's name, for messages.
        make: its class.
        chosen: by name.

    Returns:
        The hyperparameters, whole numbers turned into floats where floats are asked for.

    Raises:
        ValueError: one is unknown (the message lists those that exist), of the wrong type, or
            nothing that an algorithm can learn with.
    """
    known = {name: each for name, each in signature(make).parameters.items() if name not in OURS}
    if unknown := chosen.keys() - known:
        raise ValueError(
            f"{algo} has no hyperparameter {', '.join(sorted(unknown))}; it has "
            f"{', '.join(sorted(known))}"
        )
    checked = {}
    for name, given in chosen.items():
        value = plain(given)
        if isinstance(value, LITERALS):
            value = checked_value(f"{algo}: {name}", value, known[name].annotation)
            # Episodes, which train_freq may count too, are for a single environment.
            if type(value) is int or name == "train_freq":
                value = whole(f"{algo}: {name}", value, LEAST.get(name, 1))
            elif name in POSITIVE and value is not None:
                value = real(f"{algo}: {name} is a number", value, "(0, inf)")
            elif name in SHARES:
                check_shares(**{name: value})
        checked[name] = value
    return checked
