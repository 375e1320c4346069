"""What all tests share: one torch thread, real data where they are, a tiny image task."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from dynprune_env.tasks.datasets import (
    DataNotFoundError,
    DatasetInfo,
    RawData,
    Split,
    data_folder,
    read_raw,
)
from dynprune_env.tasks.models import MODELS
from dynprune_env.tasks.recipes import Augmentation, Recipe
from dynprune_env.tasks.registry import TASKS, Task
from dynprune_env.training.learner import LEARNERS

os.environ.setdefault("MPLBACKEND", "agg")  # no test opens a window

settings.register_profile("dynprune", deadline=None, print_blob=True)
settings.load_profile("dynprune")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


def missing_data(task: str) -> str | None:
    """Why a task's data cannot be read here; None if they can. Never downloads."""
    try:
        read_raw(TASKS[task].info, str(data_folder(None)), False)  # as environments read it
    except DataNotFoundError as problem:
        return str(problem)
    return None


@pytest.fixture
def need_data() -> Callable[[str], None]:
    """Call it with a task's name: skips the test where its data are not there."""

    def need(task: str) -> None:
        if problem := missing_data(task):
            pytest.skip(problem)

    return need


def _read_pictures(data_dir: str | None, download: bool) -> RawData:
    rng = np.random.default_rng(0)

    def draw(n: int) -> Split:
        labels = np.arange(n) % 4
        pixels = rng.integers(0, 120, (n, 3, 16, 16)) + 45 * labels[:, None, None, None]
        return Split(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels))

    return RawData(train=draw(120), test=draw(20))


PICTURES = Task(
    DatasetInfo(
        name="Pictures",
        read=_read_pictures,
        num_available=120,
        num_val=20,
        num_classes=4,
        input_shape=(3, 16, 16),
        class_size=25,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ),
    "small_cnn(width=3)",
    Recipe(
        epochs=4,
        batch_size=16,
        learning_rate=0.05,
        label_smoothing=0.1,
        augmentation=Augmentation(crop=2, flip=True),
    ),
)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a tiny image task with a convolutional net, augmentation and batch norm."""
    monkeypatch.setitem(TASKS, "Pictures", PICTURES)
    return {"task": "Pictures", "precision": "fp32"}


def own_model(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A user's net that draws while it trains, with a layer that does not train."""
    frozen = nn.Linear(math.prod(input_shape), 16).requires_grad_(False)
    return nn.Sequential(
        nn.Flatten(), frozen, nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, num_classes)
    )


@pytest.fixture(params=["numba", "stacked", "modules", "convolutional", "own model"])
def back_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings that train with each learner: an MLP on all, and two nets that need modules."""
    if request.param in LEARNERS:
        return {"task": "Digits", "learner": request.param}
    pictures = request.getfixturevalue("pictures")
    if request.param == "own model":
        monkeypatch.setitem(MODELS, "own", own_model)
        return {**pictures, "model": "own"}
    return pictures


@pytest.fixture
def few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training evaluates its policy on four draws of the mixture in place of 24."""
    monkeypatch.setattr("dynprune_agents.learning.training.EVALUATION_DRAWS", 4)


@pytest.fixture
def small_val(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task as it is, but with ten val samples: thousands take long on a CPU."""
    for name, task in TASKS.items():
        monkeypatch.setitem(TASKS, name, replace(task, info=replace(task.info, num_val=10)))
