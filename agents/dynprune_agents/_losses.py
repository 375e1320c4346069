"""What several rules derive from the losses: moving averages, what lies below the mean."""

from __future__ import annotations

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.common.restorable import restorable

START = 3.0
"""The score of a sample before its first visit, in nats."""


def below_mean(values: np.ndarray) -> np.ndarray:
    """Which values are below their row's mean, by more than rounding; same shape, bool."""
    if HAS_NUMBA and values.shape[-1] >= LARGE and values.dtype.kind == "f":
        from dynprune_agents._losses_kernels import fill_below_mean  # slow to import

        below = np.empty(values.shape, dtype=bool)
        rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
        fill_below_mean(rows, below.reshape(rows.shape))
        return below
    mean = values.mean(-1, keepdims=True, dtype=np.float64)
    return np.asarray(values < mean - 1e-6 * np.abs(mean))


@restorable
class LossMoments:
    """Exponential moving averages of the losses that training revealed.

    For each new loss v of a sample (Raju et al. 2021, as the authors of InfoBatch implement it):
    d = (v - mean)² with the mean before the update; mean <- (1 - a) mean + a v, the first v
    directly; var <- (1 - a) var + a d. Samples never visited have the loss of a uniform
    prediction, and no variance.

    Args:
        a: weight of the newest value, in (0, 1].
        from_zero: whether the first v deviates from a mean of 0, so that var = a v² after it; else
            it has no deviation.
    """

    def __init__(self, a: float, from_zero: bool = True):
        self.a = a
        self.from_zero = from_zero
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def watch(self, observation: Observation) -> None:
        """Takes in what is new in an observation."""
        loss, visits = observation["loss"], observation["visits"]
        if self._before is None:
            self.mean, self.var = loss.copy(), np.zeros(loss.shape, loss.dtype)
            self._seen = np.ascontiguousarray(visits > 0)
            if self.from_zero:
                self.var += np.where(self._seen, self.a * loss**2, 0)
        elif HAS_NUMBA and loss.shape[-1] >= LARGE:
            from dynprune_agents._losses_kernels import follow  # slow to import

            told = map(np.ravel, (loss, visits, *self._before))
            held = (part.reshape(-1) for part in (self._seen, self.mean, self.var))
            follow(*told, loss.dtype.type(self.a), self.from_zero, *held)
        else:
            old_loss, old_visits = self._before
            new = (visits > old_visits) | (loss != old_loss)
            again = new & self._seen
            difference = loss - self.mean
            self.var += np.where(again, self.a * (difference**2 - self.var), 0)
            self.mean += np.where(again, self.a * difference, 0)
            first = new & ~self._seen
            self.mean = np.where(first, loss, self.mean)
            if self.from_zero:
                self.var = np.where(first, self.a * loss**2, self.var)
            self._seen |= new
        self._before = (loss, visits)
