"""The training back ends' interface, and what they share: one replica's pass, seeded models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor, nn

from dynprune_env.common.alone import as_alone, float32_default
from dynprune_env.common.draws import OwnDraws, drawing
from dynprune_env.common.randomness import Purpose, stream_seed
from dynprune_env.tasks.models import is_shipped
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.training.loading import InputTable
from dynprune_env.training.objective import Objective

LEARNERS = ("auto", "modules", "stacked", "numba")
"""Kinds of learners; see `Settings`."""

PLAIN_RECIPE = {"optimizer": "sgd", "loss": "cross_entropy"}
"""What a recipe must say where its gradient steps are written by hand."""

SCORING_BATCH = 1024
"""Samples per forward pass where no gradient is needed."""


@dataclass(frozen=True)
class Pass:
    """What one replica trains in one epoch, on the host.

    Attributes:
        order: (k,) int64, the kept samples in the order of training.
        weights: (k,) float32, gradient weights.
        rates: (b,) float64, the learning rate of each of the b batches.
        noise: (k, 3) int64, augmentation noise; None for none.
        seed: of whatever the model itself draws (dropout).
    """

    order: Tensor
    weights: Tensor
    rates: np.ndarray
    noise: Tensor | None
    seed: int


@dataclass(frozen=True)
class Passes(Sequence[Pass]):
    """What all replicas train in one epoch: a `Pass` of each, one after the other in flat arrays.

    All on the host: a learner takes the passes of an epoch over to its device in one copy.

    Attributes:
        order: (V,) int64, see `Pass`.
        weights: (V,) float32.
        starts: (R + 1,) int64, where each replica's visits begin, and the end.
        rates: (B,) float64.
        rate_starts: (R + 1,) int64, where each replica's batches begin, and the end.
        noises: of each replica, see `Pass`.
        run_seeds: (R,) int64.
        epoch: (R,) int64, which one of each run it is, from 1.
    """

    order: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    rates: np.ndarray
    rate_starts: np.ndarray
    noises: Sequence[Tensor | None]
    run_seeds: np.ndarray
    epoch: np.ndarray

    def __len__(self) -> int:
        return len(self.run_seeds)

    @overload
    def __getitem__(self, row: int) -> Pass: ...
    @overload
    def __getitem__(self, row: slice) -> list[Pass]: ...
    def __getitem__(self, row: int | slice) -> Pass | list[Pass]:
        """One replica's, or those of some; views."""
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(f"there are passes of {len(self)} replicas, not of {row}")
        visits = slice(self.starts[row], self.starts[row + 1])
        return Pass(
            order=torch.from_numpy(self.order[visits]),
            weights=torch.from_numpy(self.weights[visits]),
            rates=self.rates[self.rate_starts[row] : self.rate_starts[row + 1]],
            noise=self.noises[row],
            seed=stream_seed(int(self.run_seeds[row]), int(self.epoch[row]), Purpose.MODEL),
        )


def is_served(kind: str, recipe: Recipe) -> bool:
    """Whether learners of this kind train by a recipe; "auto" takes one that does."""
    if kind in ("auto", "modules"):
        return True
    return all(getattr(recipe, name) == value for name, value in PLAIN_RECIPE.items())


def check_recipe(kind: str, recipe: Recipe) -> None:
    """Checks that learners of a kind train by a recipe.

    Raises:
        ValueError: they do not.
    """
    if not is_served(kind, recipe):
        expected = " and ".join(f"{name}={value!r}" for name, value in PLAIN_RECIPE.items())
        given = " and ".join(f"{name}={getattr(recipe, name)!r}" for name in PLAIN_RECIPE)
        raise ValueError(
            f"learner={kind!r} trains with {expected}, the recipe has {given}: "
            "learner='modules' or 'auto' does"
        )


def fresh_model(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model on the CPU, in float32 where its code names no type, that depends on the seed alone.

    Models of ours draw from a generator of their own. A user's function may also seed torch's
    default one, which is left as it was.
    """
    cpu = torch.device("cpu")
    draws = OwnDraws(seed) if is_shipped(make_model) else drawing(seed)
    with as_alone(), cpu, float32_default(), draws:
        return make_model()


def scored_split(learner: Learner, split: str, labels: Tensor, rows: Sequence[int]) -> Tensor:
    """What `Learner.evaluate` returns, from `Learner.score`."""
    where = "cpu" if learner.inputs[split].streamed else labels.device
    logits = learner.score(split, torch.arange(len(labels), device=where), rows)
    repeated = labels.repeat(len(rows), *[1] * (labels.dim() - 1))
    found = learner.objective.evaluated(split, logits.flatten(0, 1), repeated)
    return found.unflatten(1, (len(rows), -1))


class Learner(Protocol):
    """R models in training on one data set.

    Attributes:
        make_model: builds a fresh module.
        inputs: of each split.
        objective: what is minimised.
        averaging: weight of the old in an average of each model, moved after every gradient step;
            None keeps no averages.
    """

    make_model: Callable[[], nn.Module]
    inputs: dict[str, InputTable]
    objective: Objective
    averaging: float | None

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Gives these replicas fresh models; row r's depends on its seed alone."""

    def train(self, passes: Passes) -> Tensor:
        """Trains one pass per replica; the host does not wait for it.

        Returns:
            (5, V) float32 on the device: the `value_table` of every visit, replica after replica,
            each in its order.
        """

    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Outputs in evaluation mode under m replicas, (m, len(ids), C) float32."""

    def evaluate(self, split: str, labels: Tensor, rows: Sequence[int]) -> Tensor:
        """Loss and merit of each of k samples under m replicas; see `Objective.evaluated`.

        Returns:
            (2, m, k) float32 on the device; the host does not wait for it.
        """

    def module(self, row: int, averaged: bool = False) -> nn.Module:
        """A copy of one replica's model, or of its average."""

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors on the host: copies."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
