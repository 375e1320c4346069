"""The same small game on the CPU and on the pretended device."""

from __future__ import annotations

from typing import Any

from dynprune_env import DynPruneVectorEnv
from helpers.episodes import make_vector

CLOSE = 1e-4
NETS = (
    "stacked",
    "wide",
    "modules",
    "pixels in a stack",
    "convolutional",
    "residual",
    "drawing",
    "tokens",
    "streamed",
    "dropout",
    "several labels",
    "numbers",
)


def there(num_envs: int = 2, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    return here(num_envs, mode, **{**settings, "device": "pretend"})


def here(num_envs: int = 2, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    """On the CPU, by the learner that accelerators have."""
    learner = {"learner": "stacked"} if settings.get("task", "Digits") == "Digits" else {}
    return make_vector(num_envs, mode, **{**learner, **settings})
