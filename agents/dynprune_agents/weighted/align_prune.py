"""AlignPrune: samples whose losses fall as those of clean data do.

Qin et al. (CVPR 2026 Findings), "Beyond Loss Values", arXiv:2604.07306; second-hand. The score of a
sample is the correlation (Pearson's) of its last N losses with the mean losses of a small clean
reference set in the same epochs: low where the label is wrong. It takes the place of the loss in a
host, here InfoBatch: of the samples below the mean score, a share r is dropped and the others are
weighed up. Until a sample has enough losses the host goes by them. The reference is the val split,
whose loss every agent sees; only the epochs in which a sample was visited count.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation
from dynprune_agents._history import LossHistory
from dynprune_agents.weighted.infobatch import InfoBatch
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.observations import progress_entries

LEAST = 4
"""Losses of a sample from which a correlation says anything."""


@dataclass
class AlignPrune(InfoBatch):
    """InfoBatch by the alignment of a sample's losses with val loss (after Qin et al. 2026).

    Attributes:
        r: share of the samples of low score that is dropped, in [0, 1).
        delta: share of the run after which everything is kept, in [0, 1].
        rescale: whether kept samples of low score get the weight 1 / (1 - r).
        anneal: whether everything is kept after delta.
        window: how many of a sample's last losses count, at least 4; None means a quarter of the
            run, from 4 to 10.
    """

    source: ClassVar[str] = "second-hand: Qin et al., CVPR 2026 Findings, arXiv:2604.07306"
    columns = ("loss", "visits")

    window: int | None = None

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if self.window is not None and self.window < LEAST:
            raise ValueError(f"window is at least {LEAST} losses, got {self.window}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._history = LossHistory(self.window or min(10, max(LEAST, episode.epochs // 4)))
        self._reference: list[np.ndarray] = []

    def scores(self, observation: Observation) -> np.ndarray:
        """Correlations, in [-1, 1]; the mean of all where a sample has too few losses."""
        epoch = self.epoch(observation)
        self._history.watch(observation, epoch)
        self._reference.append(progress_entries(observation["progress"])["val_loss"])
        enough = (self._history.known >= LEAST).reshape(observation["loss"].shape)
        if not enough.any(-1).all():
            return super().scores(observation)
        aligned = self._aligned() if HAS_NUMBA else np.where(enough, self._plain_aligned(), 0)
        aligned = aligned.reshape(enough.shape)
        mean = aligned.sum(-1, keepdims=True) / enough.sum(-1, keepdims=True)
        return aligned if enough.all() else np.where(enough, aligned, mean)

    def _aligned(self) -> np.ndarray:
        """Correlations with the reference, (R, n); 0 where a sample has too few losses."""
        from dynprune_agents._history_kernels import fill_correlations  # slow to import

        history = self._history
        aligned = np.empty(history.known.shape)
        reference = np.stack(self._reference, axis=-1).astype(np.float64)
        filled = history.filled()
        rings = (history.loss_rings[:, :filled], history.epoch_rings[:, :filled])
        tables = (*rings, history.known)
        for *rows, told, row in zip(*tables, np.atleast_2d(reference), aligned, strict=True):
            fill_correlations(*rows, LEAST, told, row)
        return aligned

    def _plain_aligned(self) -> np.ndarray:
        """The same without numba, whatever the number of losses."""
        losses = self._history.losses
        places = np.nan_to_num(self._history.epochs).astype(np.int64)
        table = np.stack(self._reference)  # (epochs + 1,) or (epochs + 1, R)
        reference = (
            table[places] if table.ndim == 1 else table[places, np.arange(table.shape[1])[:, None]]
        )
        return correlation(losses, np.where(np.isnan(losses), np.nan, reference))


def correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson's along the first axis, NaN left out of both alike; 0 where one does not vary."""
    count = np.maximum(1, (~np.isnan(left)).sum(0))
    left = left - np.nansum(left, axis=0) / count
    right = right - np.nansum(right, axis=0) / count
    product = np.nansum(left * right, axis=0)
    length = np.sqrt(np.nansum(left**2, axis=0) * np.nansum(right**2, axis=0))
    return np.where(length > 1e-12, product / np.where(length > 1e-12, length, 1), 0)
