"""Tasks whose samples have no class: several properties of a digit, the course of diabetes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

from dynprune_env import Recipe, Task, own_task, register_task
from dynprune_env.tasks import registry

PROPERTIES = np.array([[d % 2 == 0, d >= 5, d in (0, 4, 6, 8, 9)] for d in range(10)])
"""Of each digit: even, at least five, has a hole."""

RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.01, optimizer="adam", loss="bce")


def properties(n: int = 120) -> tuple[Any, Any]:
    """Digits and their properties, train and test as (inputs, labels), labels (n, 3) bool."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return (x[:n], PROPERTIES[y[:n]]), (x[n : n + 40], PROPERTIES[y[n : n + 40]])


def diabetes() -> tuple[Any, Any]:
    """Ten measurements and the course after a year, in standard deviations, labels (n,) float."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return (x[:120], y[:120]), (x[120:160], y[120:160])


def linear(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def multi_label(**changes: Any) -> Task:
    return own_task(*properties(), "mlp(width=8)", recipe(**{"loss": "bce", **changes}))


def regression(**changes: Any) -> Task:
    return own_task(*diabetes(), partial(linear, 10, 1), recipe(**{"loss": "mse", **changes}))


def recipe(**changes: Any) -> Recipe:
    return replace(RECIPE, **changes)


TASKS = {"multi_label": multi_label, "regression": regression}


def absolute(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss of one's own, for labels of any kind but classes."""
    return (outputs - labels).abs().mean(1)


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    """Another, for classes: (1 - p)² times the cross-entropy."""
    loss = nn.functional.cross_entropy(outputs, labels, reduction="none")
    return (1 - (-loss).exp()) ** 2 * loss


def average(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs - labels).abs().mean()


def constant(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.detach().abs().mean(1)


def fails(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.nothing  # type: ignore[attr-defined,no-any-return]


def below(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.sum(1) - 1


@contextmanager
def registered(make_task: Any, name: str = "Other") -> Iterator[str]:
    """The id of an environment of this task, for a while."""
    register_task(name, make_task)
    try:
        yield f"DynPrune-{name}-v0"
    finally:
        registry._OWN.pop(name, None)
        registry.TASKS.pop(name, None)
        gym.registry.pop(f"DynPrune-{name}-v0", None)


OWN = "helpers.other_losses:"
every_task = pytest.mark.parametrize("kind", TASKS)


def unwrapped(env: str, **settings: Any) -> Any:
    """The environment itself, on the CPU."""
    return gym.make(env, device="cpu", **settings).unwrapped
