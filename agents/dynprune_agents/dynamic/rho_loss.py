"""RHO-loss: learnable, worth learning, not yet learnt.

Mindermann et al. (ICML 2022), "Prioritized Training on Points that are Learnable, Worth Learning,
and Not Yet Learnt", arXiv:2206.07137: keep the top of (loss - irreducible loss), where the latter
comes from a model that never saw the sample. Without a holdout set, as in the paper's appendix: two
models, each trained on one half and scoring the other, at its lowest val loss as in the authors'
code. Their training and scoring is charged.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_env.selection.agent import ScoringRuns
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import keep_top


@dataclass
class RhoLoss(PeriodicAgent):
    """The highest loss minus that of a model that never saw the sample (Mindermann et al. 2022).

    Attributes:
        period: epochs between selections.
        warmup: full epochs before the first selection.
    """

    source: ClassVar[str] = "Mindermann et al., ICML 2022, arXiv:2206.07137"
    columns = ("loss",)

    period: int | None = 1

    def prepare(self, runs: ScoringRuns) -> None:
        """Trains on each half and scores the other."""
        half = runs.random_mask(0.5)
        irreducible = np.zeros(half.shape)
        for run, mask in enumerate((half, ~half)):
            lowest: np.ndarray | float = np.inf
            best: list[nn.Module] = []
            for observation in runs.run(run, runs.epochs, mask):
                val_loss = progress_entries(observation["progress"])["val_loss"]
                better = np.atleast_1d(val_loss < lowest)
                now = runs.models()
                best = [n if b else o for n, o, b in zip(now, best or now, better, strict=True)]
                lowest = np.minimum(lowest, val_loss)
            irreducible = np.where(mask, irreducible, runs.values(best).loss)
        self._irreducible = irreducible

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top scores."""
        return keep_top(observation["loss"] - self._irreducible, count, self.rng)
