"""The last losses that each sample's visits revealed, for rules that look at trajectories."""

from __future__ import annotations

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.common.restorable import restorable


@restorable
class LossHistory:
    """The last `length` losses of each sample, one per visit, and when they were.

    Attributes:
        heads: (R, n) int32, the place in its ring that each sample's next loss goes to.
        known: (R, n) int32, how many losses of each are kept.
        loss_rings: (R, length, n) float32, 0 where there is none.
        epoch_rings: (R, length, n) int32, the epoch (from 1) of each; 0 likewise.
    """

    def __init__(self, length: int):
        self.length = length
        self._visits: np.ndarray | None = None

    def watch(self, observation: Observation, epoch: int) -> None:
        """Takes in what the epoch before this observation revealed; `epoch` are done."""
        visits, loss = (
            np.atleast_2d(np.asarray(observation[name], dtype=np.float32))
            for name in ("visits", "loss")
        )
        if self._visits is None:
            self._shape = observation["visits"].shape
            self._visits = np.zeros_like(visits)
            self.heads = np.zeros(visits.shape, dtype=np.int32)
            self.known = self.heads.copy()
            rings = (len(visits), self.length, visits.shape[1])
            # Not zeros, whose memory is mapped later, in small pages, wherever one is first met.
            self.loss_rings = np.full(rings, 0, dtype=np.float32)
            self.epoch_rings = np.full(rings, 0, dtype=np.int32)
        state = (self.heads, self.known, self.loss_rings, self.epoch_rings)
        for seen, before, losses, *rows in zip(visits, self._visits, loss, *state, strict=True):
            _remember(seen, before, losses, epoch, *rows)

    def filled(self) -> int:
        """How many rows of the rings hold anything: all others can be passed over."""
        return int(self.known.max(initial=0))

    @property
    def losses(self) -> np.ndarray:
        """(length, R, n) or (length, n) float64, the newest last; NaN where there was none."""
        return self._unrolled(self.loss_rings)

    @property
    def epochs(self) -> np.ndarray:
        """The same shape, the epoch (from 1) of each; NaN likewise."""
        return self._unrolled(self.epoch_rings)

    @property
    def counts(self) -> np.ndarray:
        """How many losses are known of each sample, (R, n) or (n,) int64."""
        return self.known.astype(np.int64).reshape(self._shape)

    def _unrolled(self, rings: np.ndarray) -> np.ndarray:
        back = np.arange(self.length, 0, -1)[:, None]
        places = (self.heads[:, None] - back) % self.length
        rows = np.take_along_axis(rings.astype(np.float64), places, axis=1)
        rows[back > self.known[:, None]] = np.nan
        return np.moveaxis(rows, 0, 1).reshape(self.length, *self._shape)


def _remember(
    visits: np.ndarray,
    before: np.ndarray,
    loss: np.ndarray,
    epoch: int,
    heads: np.ndarray,
    known: np.ndarray,
    losses: np.ndarray,
    epochs: np.ndarray,
) -> None:
    """Takes one replica's new losses in; see `_history_kernels.remember`."""
    if HAS_NUMBA:
        from dynprune_agents._history_kernels import remember  # slow to import

        remember(visits, before, loss, epoch, heads, known, losses, epochs)
        return
    new = np.flatnonzero(visits > before)
    losses[heads[new], new], epochs[heads[new], new] = loss[new], epoch
    heads[new] = (heads[new] + 1) % len(losses)
    known[new] = np.minimum(known[new] + 1, len(losses))
    before[:] = visits
