"""The training back ends behind one interface, and which of them fits a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dynprune_env.augment import ImageTable
from dynprune_env.module_learner import ModuleLearner
from dynprune_env.passes import Pass, fresh_model
from dynprune_env.stacked_learner import StackedLearner, linear_layers
from dynprune_env.tasks.inputs import Streamed
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset


class Learner(Protocol):
    """R models in training on one data set."""

    images: dict[str, ImageTable]

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Gives these replicas fresh models; row r's depends on its seed alone."""

    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica.

        Returns:
            (V, C) float32: the logits of every visit, replica after replica, each in its order.
        """

    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits in evaluation mode under m replicas, (m, len(ids), C) float32."""

    def module(self, row: int) -> nn.Module:
        """A copy of one replica's model."""

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""


def make_learner(
    make_model: Callable[[], nn.Module],
    dataset: Dataset,
    recipe: Recipe,
    num_replicas: int,
    device: torch.device,
    bf16: bool,
    compiled: bool = False,
) -> Learner:
    """The learner that fits: modules for all but plain ReLU nets, and for streamed inputs.

    The others are compiled on a CPU, if numba is there, and stacked elsewhere.
    """
    streamed = isinstance(dataset.train.images, Streamed)
    if streamed or linear_layers(fresh_model(make_model, 0)) is None:
        return ModuleLearner(make_model, dataset, recipe, num_replicas, device, bf16, compiled)
    kind: type[StackedLearner] = StackedLearner
    if device.type == "cpu" and not recipe.augmentation and find_spec("numba"):
        from dynprune_env.compiled_learner import CompiledLearner  # slow to import

        kind = CompiledLearner
    return kind(make_model, dataset, recipe, num_replicas, device)
