"""Schedules: the learning rate over a run, as a share of its peak."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dynprune_env.common.checks import shown
from dynprune_env.common.specs import lookup, own_function


def one_cycle(progress: np.ndarray, warmup: float) -> np.ndarray:
    """One cycle (Smith & Topin 2018): a linear rise from 4 % of the peak, a cosine fall to 0."""
    rise = 0.04 + 0.96 * progress / warmup if warmup else np.ones_like(progress)
    fall = 0.5 + 0.5 * np.cos(math.pi * (progress - warmup) / (1 - warmup))
    return np.where(progress < warmup, rise, fall)


def cosine(progress: np.ndarray, warmup: float) -> np.ndarray:
    """A cosine fall from the peak to 0 (Loshchilov & Hutter 2017), without a rise."""
    return 0.5 + 0.5 * np.cos(math.pi * progress)


def constant(progress: np.ndarray, warmup: float) -> np.ndarray:
    """The peak throughout."""
    return np.ones_like(progress)


SCHEDULES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    each.__name__: each for each in (one_cycle, cosine, constant)
}


def shares_of_peak(name: str, progress: np.ndarray, warmup: float) -> np.ndarray:
    """What a schedule makes of the peak at a progress in [0, 1] (any shape).

    Args:
        name: one of SCHEDULES, or "my_module:function" for one's own: a pure function of an array
            of progress, float64, that gives as many finite numbers of at least 0.
        progress: of the run.
        warmup: share of the run in which "one_cycle" rises.

    Raises:
        ValueError: there is no such schedule, or it is no such function.
    """
    if ":" not in name:
        return lookup(name, SCHEDULES, "schedule")(progress, warmup)
    schedule = own_schedule(name)
    try:
        shares = np.asarray(schedule(progress.copy()))
    except Exception as error:  # whatever a user's own function raises
        raise ValueError(f"the schedule {name!r} fails: {error!r}") from error
    right = shares.shape == progress.shape and shares.dtype.kind in "biuf"
    if not right or not np.isfinite(shares).all() or (shares < 0).any():
        raise ValueError(
            f"the schedule {name!r} gives a finite number of at least 0 for each progress, "
            f"{progress.shape} in all, got {shown(shares)}"
        )
    return shares.astype(np.float64)


def own_schedule(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function behind "my_module:function", as it is.

    Raises:
        ValueError: it cannot be loaded.
    """
    return own_function("schedule", name, "progress")
