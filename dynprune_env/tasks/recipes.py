"""How a model is trained: optimiser, schedule, augmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.checks import flag, plain, real, shown, whole
from dynprune_env.common.specs import lookup
from dynprune_env.tasks.losses import LABELS, own_loss
from dynprune_env.tasks.schedules import shares_of_peak


@dataclass(frozen=True)
class Augmentation:
    """Which random changes a training image gets.

    Attributes:
        crop: zero padding in pixels before a random crop to the old size; 0 for no crop.
        flip: whether to mirror half of the images.
    """

    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: one is not as described above.
        """
        object.__setattr__(self, "crop", whole("crop", self.crop, 0))
        object.__setattr__(self, "flip", flag("flip", self.flip))

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise for all n samples, (n, 3) int64: row offset, column offset, mirrored or not."""
        offsets = torch.randint(2 * self.crop + 1, (n, 2), generator=generator, device="cpu")
        mirrored = torch.randint(2, (n, 1), generator=generator, device="cpu") * int(self.flip)
        return torch.cat([offsets, mirrored], dim=1)


NO_AUGMENTATION = Augmentation()

_REALS = {
    "learning_rate": ("a number", "(0, inf)"),
    "warmup": ("a share", "[0, 1)"),
    "momentum": ("a number", "[0, 1)"),
    "weight_decay": ("a number", "[0, inf)"),
    "label_smoothing": ("a share", "[0, 1]"),
    "budget_exponent": ("a number", "(-inf, inf)"),
    "budget_floor": ("a share", "[0, 1]"),
    "budget_ceiling": ("a share", "(0, 1]"),
    "exponent_above": ("a number", "(-inf, inf)"),
}
"""What the numbers of a recipe are, and where they lie."""

OPTIMIZERS = ("sgd", "adam", "adamw")
"""Kinds of optimisers; see `Recipe`."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: by default stochastic gradient descent on a one-cycle schedule.

    Attributes:
        epochs: T, the epochs of a full run.
        batch_size: samples per gradient step, but for the last of an epoch (`batch_sizes`).
        learning_rate: at the peak of the schedule of a run whose budget is `budget_ceiling`: of a
            full run, where none is named.
        warmup: share of the run in which the learning rate of "one_cycle" rises, in [0, 1); other
            schedules do not use it.
        momentum: Nesterov momentum of "sgd", in [0, 1); other optimisers do not use it.
        weight_decay: how much of each parameter is added to its gradient, at least 0. "adamw" takes
            it off the parameter instead, times the learning rate: decoupled from the gradient.
        label_smoothing: share of the target spread over all classes, in [0, 1]; only training
            sees it. Of "cross_entropy" alone.
        augmentation: random changes of the training images.
        budget_exponent: how the rate depends on the budget: the peak is learning_rate /
            (b / budget_ceiling) ** budget_exponent. Few gradient steps have to be larger ones
            for small nets, and smaller ones (below 0) for nets with batch norm.
        budget_floor: b is the budget, but at least this, in [0, 1],
        budget_ceiling: and at most this, in (0, 1].
        exponent_above: the same exponent for budgets above the ceiling; 0 keeps its rate there.
        optimizer: "sgd", "adam" (Kingma & Ba 2015) or "adamw" (Loshchilov & Hutter 2019), the last
            two with betas 0.9 and 0.999 and epsilon 1e-8, as torch has them.
        schedule: "one_cycle", a linear rise from 4 % of the peak and a cosine fall to 0; "cosine",
            the fall alone; "constant"; or "my_module:function", a pure function of one's own from
            progress, an array in [0, 1], to shares of the peak, see `shares_of_peak`.
        loss: "cross_entropy" of one class a sample; "bce", binary cross-entropy of several labels
            a sample, each there or not; "mse", squared error of numbers, both the mean over a
            sample's outputs; or "my_module:function", see `losses.own_loss`.
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
    budget_ceiling: float = 1.0
    exponent_above: float = 0.0
    optimizer: str = "sgd"
    schedule: str = "one_cycle"
    loss: str = "cross_entropy"

    def __post_init__(self) -> None:
        """Checks the values; numpy's numbers become Python's.

        Raises:
            ValueError: one is not as described above.
        """
        for name in ("epochs", "batch_size"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))
        for name, (what, interval) in _REALS.items():
            number = real(f"{name} is {what}", getattr(self, name), interval)
            object.__setattr__(self, name, number)
        if not isinstance(self.augmentation, Augmentation):
            raise ValueError(f"augmentation is an Augmentation, got {shown(self.augmentation)}")
        for name in ("optimizer", "schedule", "loss"):
            text = plain(getattr(self, name))
            if not isinstance(text, str):
                raise ValueError(f"{name} is a text, got {shown(text)}")
            object.__setattr__(self, name, text)
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is one of {OPTIMIZERS}, got {self.optimizer!r}")
        self.rate(np.linspace(0, 1, 11))
        own_loss(self.loss) if ":" in self.loss else lookup(self.loss, LABELS, "loss")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(
                f"label_smoothing is of loss='cross_entropy', got {self.label_smoothing} with "
                f"loss={self.loss!r}"
            )

    def at_budget(self, budget: float) -> Recipe:
        """The recipe of runs with a budget in (0, 1], its rate put in.

        Raises:
            ValueError: the rate would not be finite.
        """
        share = max(budget, self.budget_floor) / self.budget_ceiling
        try:
            shrunk = min(share, 1) ** self.budget_exponent * max(share, 1) ** self.exponent_above
        except OverflowError:
            shrunk = math.inf
        rate = self.learning_rate / shrunk if shrunk else math.inf
        return replace(self, learning_rate=rate, budget_exponent=0.0, exponent_above=0.0)

    def rate(self, progress: np.ndarray) -> np.ndarray:
        """Learning rate at a progress in [0, 1] (any shape).

        Raises:
            ValueError: a schedule of one's own gives no shares of the peak.
        """
        return self.learning_rate * shares_of_peak(self.schedule, progress, self.warmup)
