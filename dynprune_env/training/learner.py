"""The training back ends' interface, and what they share: one replica's pass, seeded models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from dynprune_env.common.randomness import seeded
from dynprune_env.training.loading import InputTable

LEARNERS = ("auto", "modules", "stacked", "numba")
"""Kinds of learners; see `Settings`."""

SCORING_BATCH = 1024
"""Samples per forward pass where no gradient is needed."""


@dataclass(frozen=True)
class Pass:
    """What one replica trains in one epoch.

    Attributes:
        order: (k,) int64 on the device, the kept samples in the order of training.
        weights: (k,) float32 on the device, gradient weights.
        rates: (b,) float64 on the host, the learning rate of each of the b batches.
        noise: (k, 3) int64 on the device, augmentation noise; None for none.
        seed: of whatever the model itself draws (dropout).
    """

    order: Tensor
    weights: Tensor
    rates: np.ndarray
    noise: Tensor | None
    seed: int


def fresh_model(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model drawn from torch's default generator, which is left as it was."""
    with seeded(seed):
        return make_model()


class Learner(Protocol):
    """R models in training on one data set.

    Attributes:
        inputs: of each split.
        averaging: weight of the old in an average of each model, moved after every gradient step;
            None keeps no averages.
    """

    inputs: dict[str, InputTable]
    averaging: float | None

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Gives these replicas fresh models; row r's depends on its seed alone."""

    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica.

        Returns:
            (V, C) float32: the logits of every visit, replica after replica, each in its order.
        """

    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits in evaluation mode under m replicas, (m, len(ids), C) float32."""

    def module(self, row: int, averaged: bool = False) -> nn.Module:
        """A copy of one replica's model, or of its average."""

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
