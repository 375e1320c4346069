"""The nets that are trained on both devices."""

from __future__ import annotations

import math
from typing import Any

import pytest
from helpers import own
from helpers.other_losses import multi_label, regression
from helpers.two_devices import NETS
from torch import nn

from dynprune_env import own_task
from dynprune_env.tasks.models import MODELS
from dynprune_env.tasks.registry import TASKS


def drawing_model(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Draws while it trains."""
    linear = nn.Linear(math.prod(input_shape), num_classes)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), linear)


@pytest.fixture
def nets(pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Settings by what is trained."""
    seen, unseen = own.Pictures(60, jitter=True), own.Pictures(20)
    for name, task in {
        "Words": own.own_words(),
        "Streamed": own_task(seen, unseen, own.cnn, own.RECIPE, stream=True),
        "Several": multi_label(optimizer="adam"),
        "Numbers": regression(optimizer="adamw"),
        "Dropping": own_task(own.Pictures(60), unseen, own.cnn, own.RECIPE),
    }.items():
        monkeypatch.setitem(TASKS, name, task)
    monkeypatch.setitem(MODELS, "drawing", drawing_model)
    return NETS
