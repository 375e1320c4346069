"""A wrong action of the single environment is told in its own shapes; functions are functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.episodes import make
from torch import nn

from dynprune_env import Recipe, Task, own_task, register_task

RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.1)
DATA = np.zeros((100, 8), dtype=np.float32), np.arange(100) % 4


@pytest.mark.parametrize(
    ("action", "got"),
    [
        (np.ones(59), r"\(59,\)"),
        (np.ones((1, 60)), r"\(1, 60\)"),
        (np.ones((2, 60)), r"\(2, 60\)"),
        (1, r"\(\)"),
        (None, "None"),
        ("all", "'all'"),
    ],
)
def test_shape_errors_of_the_single_environment_speak_of_n(action: Any, got: str) -> None:
    env = make(train_size=60).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"expected a 'mask' action of shape \(60,\), got {got}$"):
        env.step(action)


@pytest.mark.parametrize(("kind", "shape"), [("weights", (60,)), ("tilts", (8,)), ("strategy", ())])
def test_so_do_those_of_every_kind(kind: str, shape: tuple[int, ...]) -> None:
    env = make(train_size=60, action=kind).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError) as caught:
        env.step(np.ones(3))
    assert str(caught.value) == f"expected a {kind!r} action of shape {shape}, got (3,)"


def test_weights_on_masks_are_told_where_they_belong() -> None:
    env = make(train_size=60).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match='make the environment with action="weights"'):
        env.step(np.full(60, 2.0))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(8, 4), "which is made already"),
        (math, "a model is a spec or a function that makes one, got <module 'math'"),
    ],
)
def test_a_model_is_made_by_a_function(model: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        own_task(DATA, DATA, model, RECIPE)


@pytest.mark.parametrize("make_task", [nn.Linear(8, 4), Task, math, None])
def test_a_task_is_made_by_a_function(make_task: Any) -> None:
    with pytest.raises(ValueError, match="make_task is a function that makes a Task, got"):
        register_task("Misused", make_task)


def test_a_recipe_is_an_instance() -> None:
    with pytest.raises(ValueError, match="recipe is a Recipe, got <class"):
        own_task(DATA, DATA, "mlp", Recipe)  # type: ignore[arg-type]
