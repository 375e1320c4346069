"""The same small game on the CPU and on another device."""

from __future__ import annotations

from typing import Any

from dynprune_env import DynPruneVectorEnv
from helpers.episodes import make_vector

CLOSE = 1e-4
FEW = {"train_size": 40, "epochs": 3, "precision": "fp32"}
PICTURES = {"task": "Pictures", "precision": "fp32"}
NETS: dict[str, dict[str, Any]] = {
    "stacked": {},
    "wide": {"model": "mlp(width=8, depth=3)"},
    "modules": {"learner": "modules"},
    "pixels in a stack": {**PICTURES, "model": "mlp(width=8)"},
    "convolutional": PICTURES,
    "residual": {**PICTURES, "model": "resnet9(width=2)", "epochs": 2},
    "drawing": {**PICTURES, "model": "drawing"},
    "tokens": {"task": "Words", **FEW},
    "streamed": {"task": "Streamed", **FEW},
    "dropout": {"task": "Dropping", **FEW},
    "several labels": {"task": "Several", **FEW},
    "numbers": {"task": "Numbers", **FEW},
}
"""Settings by what is trained; the tasks are there within the fixture `nets`."""


def there(
    num_envs: int = 2, mode: str = "Disabled", device: str = "pretend", **settings: Any
) -> DynPruneVectorEnv:
    return here(num_envs, mode, **{**settings, "device": device})


def here(num_envs: int = 2, mode: str = "Disabled", **settings: Any) -> DynPruneVectorEnv:
    """On the CPU, by the learner that accelerators have."""
    learner = {"learner": "stacked"} if settings.get("task", "Digits") == "Digits" else {}
    return make_vector(num_envs, mode, **{**learner, **settings})
