"""MolPeg: the loss discrepancy to an averaged model.

Chen et al. (NeurIPS 2024), "Beyond Efficiency: Molecular Data Pruning for Enhanced Generalization",
arXiv:2409.01081; read in the authors' code (Data-reindeer/MolPeg): score = |loss - loss of an
exponential moving average of the model|, which moves after every gradient step. Only trained
samples are scored; the others keep their score. Every epoch keeps the top scores, the first one
too. Those never seen come first here; the authors' scores start at 1, so that there larger changes
come before them. The authors compare both losses in every batch; here both are taken at the end of
the epoch, two forward passes over what it trained, charged to the budget. Their weights are the
same for all kept samples.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.ranking import keep_top


@dataclass
class MolPeg(Agent):
    """The largest changes of the loss against an averaged model (Chen et al. 2024).

    Attributes:
        beta: weight of the old average after each gradient step, in [0, 1).
    """

    source: ClassVar[str] = "Chen et al., NeurIPS 2024, arXiv:2409.01081"
    columns = ("visits", "age")

    beta: float = 0.5

    def __post_init__(self) -> None:
        """Checks the parameter."""
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta is in [0, 1), got {self.beta}")

    @property
    def env_kwargs(self) -> dict[str, Any]:  # type: ignore[override]
        """An environment that keeps the averages."""
        return {"averaging": self.beta}

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        _ = episode.probe.losses  # where there are no models, it is refused here and not midway
        self._scores: np.ndarray | None = None

    def select(self, observation: Observation) -> np.ndarray:
        """The top scores, unseen samples first."""
        if self._scores is None:
            self._scores = np.full(observation["visits"].shape, np.inf, np.float32)
        self._scores = self._scored(observation, self._scores)
        count = self.keep_count(observation).astype(np.float64)
        if self.epoch(observation) < self.episode.epochs - 1:  # the next selection scores these
            count = count / (1 + 2 * SCORING_COST)
        return keep_top(self._scores, np.maximum(1, np.rint(count)).astype(np.int64), self.rng)

    def _scored(self, observation: Observation, scores: np.ndarray) -> np.ndarray:
        """The scores, new for what the last epoch trained, if the budget pays for it."""
        trained = (observation["age"] == 0) & (observation["visits"] > 0)
        if not trained.any():
            return scores
        probe = self.episode.probe
        now, averaged = probe.losses(where=trained), probe.losses(probe.models(True), trained)
        if now is None or averaged is None:
            return scores
        trained &= ~np.isnan(averaged)  # of replicas that could not pay
        if not HAS_NUMBA:
            return np.where(trained, np.abs(now - averaged), scores)
        from dynprune_agents._losses_kernels import fill_changes  # slow to import

        changes = np.empty(scores.shape, np.float32)
        columns = np.broadcast_arrays(trained, now, averaged, scores)
        fill_changes(*(np.ravel(column) for column in columns), changes.reshape(-1))
        return changes
