"""How a model is trained: optimiser, schedule, augmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Which random changes a training image gets.

    Attributes:
        crop: zero padding in pixels before a random crop to the old size; 0 for no crop.
        flip: whether to mirror half of the images.
    """

    crop: int = 0
    flip: bool = False

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise for all n samples, (n, 3) int64: row offset, column offset, mirrored or not."""
        offsets = torch.randint(2 * self.crop + 1, (n, 2), generator=generator)
        mirrored = torch.randint(2, (n, 1), generator=generator) * int(self.flip)
        return torch.cat([offsets, mirrored], dim=1)


NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: stochastic gradient descent on a one-cycle schedule.

    Attributes:
        epochs: T, the epochs of a full run.
        batch_size: samples per gradient step, but for the last of an epoch (`batch_sizes`).
        learning_rate: at the peak of the schedule of a full run.
        warmup: share of the run in which the learning rate rises, in [0, 1).
        momentum: Nesterov momentum.
        weight_decay: added to the gradient of every parameter.
        label_smoothing: share of the target spread over all classes; only training sees it.
        augmentation: random changes of the training images.
        budget_exponent: how the rate grows as the budget shrinks: the peak is learning_rate /
            budget ** budget_exponent. Few gradient steps have to be larger ones.
        budget_floor: the budget below which the rate grows no further, in [0, 1].
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    augmentation: Augmentation = NO_AUGMENTATION
    budget_exponent: float = 0.0
    budget_floor: float = 0.0

    def at_budget(self, budget: float) -> Recipe:
        """The recipe of runs with a budget in (0, 1], its rate put in."""
        rate = self.learning_rate / max(budget, self.budget_floor) ** self.budget_exponent
        return replace(self, learning_rate=rate, budget_exponent=0.0)

    def rate(self, progress: np.ndarray) -> np.ndarray:
        """Learning rate at a progress in [0, 1] (any shape).

        One cycle (Smith & Topin 2018): a linear rise from 4 % of the peak, a cosine fall to 0.
        """
        rise = 0.04 + 0.96 * progress / self.warmup if self.warmup else np.ones_like(progress)
        fall = 0.5 + 0.5 * np.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))
        return self.learning_rate * np.where(progress < self.warmup, rise, fall)
