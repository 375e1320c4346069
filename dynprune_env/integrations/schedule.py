"""A learning-rate schedule on a run's progress: complete however fast the agent spends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dynprune_env.sampler.sampler import PruningSampler


def cosine(progress: float) -> float:
    """From 1 to 0 over half a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


def progress_scheduler(
    optimizer: Optimizer, sampler: PruningSampler, shape: Callable[[float], float] = cosine
) -> LambdaLR:
    """A schedule that stands where the run does, whatever the number of its steps.

    Step it as often as you like, after `sampler.record`: it reads `sampler.progress`.

    Args:
        optimizer: its learning rates are the highest, at a shape of 1.
        sampler: of the run.
        shape: progress in [0, 1] -> factor of the learning rates.

    Raises:
        ValueError: the shape is no function of progress, or the sampler none.
    """
    if not hasattr(sampler, "progress"):
        raise ValueError(f"progress_scheduler takes a PruningSampler, got {sampler!r}")
    if not callable(shape):
        raise ValueError(f"shape is a function of progress in [0, 1], got {shape!r}")
    return on_progress(optimizer, sampler, [shape] * len(optimizer.param_groups))


def on_progress(optimizer: Any, sampler: PruningSampler, shapes: list[Any]) -> LambdaLR:
    """The same with a shape for each group of parameters."""

    def factor(shape: Callable[[float], float]) -> Callable[[int], float]:
        return lambda _: shape(sampler.progress)

    return LambdaLR(optimizer, [factor(shape) for shape in shapes])
