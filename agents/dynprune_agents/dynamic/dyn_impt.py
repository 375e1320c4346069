"""DynImpt: loss, instability and inconsistency.

Huang et al. (TKDE 2024), "DynImpt: A Dynamic Data Selection Method for Improving Model Training
Efficiency", doi 10.1109/TKDE.2024.3482466; after the abstract alone, the formulas are ours. Over a
sample's last losses: the newest; their standard deviation (instability); and how far their slope
is from that of the mean losses of all (inconsistency). Each is turned into ranks in [0, 1], the
score is their mean.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_agents._history import LossHistory
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.ranking import count_true, keep_top, rank_sum


@dataclass
class DynImpt(PeriodicAgent):
    """Ranks by loss, its deviation, and its trend against the mean's (after Huang et al. 2024).

    Attributes:
        period: epochs between selections.
        warmup: full epochs before the first selection.
        window: how many of a sample's last losses count, at least 2; None means 10 % of the run, at
            least 3.
    """

    source: ClassVar[str] = (
        "second-hand: after the abstract of Huang et al., TKDE 2024, 10.1109/TKDE.2024.3482466"
    )
    columns = ("loss", "visits")

    period: int | None = 1
    window: int | None = None

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if self.window is not None and self.window < 2:
            raise ValueError(f"window is at least 2 losses, got {self.window}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._history = LossHistory(self.window or max(3, round(0.1 * episode.epochs)))

    def watch(self, observation: Observation) -> None:
        """Follows every loss."""
        self._history.watch(observation, self.epoch(observation))

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top scores."""
        loss = observation["loss"]
        found = self._trajectories() if HAS_NUMBA else self._plain_trajectories()
        instability, slope = (each.reshape(loss.shape) for each in found)
        several = (self._history.known > 1).reshape(loss.shape)
        slope -= slope.sum(-1, keepdims=True) / np.maximum(1, count_true(several))[..., None]
        inconsistency = np.abs(slope, out=slope)
        inconsistency *= several
        scores = rank_sum((loss, instability, inconsistency), self.rng)
        return keep_top(scores.astype(np.float64), count, self.rng)

    def _trajectories(self) -> tuple[np.ndarray, np.ndarray]:
        """Deviations and slopes of the last losses, (R, n) each, 0 of a single one."""
        from dynprune_agents._history_kernels import fill_deviations, fill_slopes  # slow to import

        history = self._history
        deviations, slopes = (
            np.empty(history.known.shape, np.float32),
            np.empty(history.known.shape),
        )
        for row, (losses, known) in enumerate(zip(history.loss_rings, history.known, strict=True)):
            fill_deviations(losses[: history.filled()], known, deviations[row])
            fill_slopes(losses, history.epoch_rings[row], history.heads[row], known, slopes[row])
        return deviations, slopes

    def _plain_trajectories(self) -> tuple[np.ndarray, np.ndarray]:
        """The same without numba, (R, n) or (n,)."""
        losses, epochs, known = self._history.losses, self._history.epochs, self._history.counts
        several = known > 1
        filled = np.where(np.isnan(losses), 0, losses)
        mean = filled.sum(0) / np.maximum(known, 1)
        squares = np.where(np.isnan(losses), 0, (losses - mean) ** 2).sum(0)
        instability = np.sqrt(squares / np.maximum(known, 1))
        first = np.take_along_axis(losses, (len(losses) - np.maximum(known, 1))[None], axis=0)[0]
        since = np.take_along_axis(epochs, (len(epochs) - np.maximum(known, 1))[None], axis=0)[0]
        span = np.where(several, epochs[-1] - since, 1)
        slope = np.where(several, (losses[-1] - first) / np.maximum(span, 1), 0)
        return instability, slope
