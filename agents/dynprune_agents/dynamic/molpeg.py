"""MolPeg: the loss discrepancy to an averaged model.

Chen et al. (NeurIPS 2024), "Beyond Efficiency: Molecular Data Pruning for Enhanced Generalization",
arXiv:2409.01081: score = |loss - loss of an exponential moving average of the model|, keep the top.
The paper weighs kept losses by n / K in a mean over all n, which is the plain mean over the kept
that the environment takes. Both losses are fresh: two forward passes over all samples at every
selection, charged to the budget at a third of a visit each.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.ranking import keep_top


@dataclass
class MolPeg(PeriodicAgent):
    """The largest changes of the loss against an averaged model (Chen et al. 2024).

    Attributes:
        period: epochs between selections; scoring costs two thirds of a full epoch each time.
        warmup: full epochs before the first selection; after one alone the score follows whole
            classes, and training collapses.
        beta: weight of the old average in each epoch, in [0, 1).
    """

    period: int | None = 5
    warmup: int = 3
    beta: float = 0.5

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta is in [0, 1), got {self.beta}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        self._average: list[torch.nn.Module] = []

    @torch.no_grad()
    def watch(self, observation: Observation) -> None:
        """Moves the average towards the current models."""
        models = self.episode.probe.models()
        if not self._average:
            self._average = models
        for average, model in zip(self._average, models, strict=True):
            new = model.state_dict()
            for name, old in average.state_dict().items():
                old.copy_(self.beta * old + (1 - self.beta) * new[name])

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top scores; the old selection where the budget cannot pay for new ones."""
        probe, n = self.episode.probe, self.episode.num_samples
        left = max(1, self.episode.epochs - self.epoch(observation))
        period = self.period or max(1, round(0.05 * self.episode.epochs))
        # The selections to come have to be paid for as well.
        scoring = 2 * SCORING_COST * n * -(-left // period) / left
        paid = np.rint(count - scoring).astype(np.int64)
        if (paid >= 1).all():
            losses, averaged = probe.losses(probe.models()), probe.losses(self._average)
            if losses is not None and averaged is not None:
                return keep_top(np.abs(losses - averaged), paid, self.rng)
        draws = self.rng.random(n)
        return keep_top(draws if self._kept is None else draws + self._kept, count, self.rng)
