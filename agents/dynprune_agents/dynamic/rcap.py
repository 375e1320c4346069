"""RCAP: classes that are badly learned get more samples, and in a class the hard ones.

Hassan, Khare, Paik (UAI 2025, PMLR v286), "RCAP: Robust, Class-Aware, Probabilistic Dynamic Dataset
Pruning"; read in the authors' code (atif-hassan/RCAP-dynamic-dataset-pruning). Losses are clipped
at ln C, which they also start from. In each class the importance is a softmax of loss / beta; the
classes share the epoch in proportion to sqrt(L_c n_c / n), where L_c is the importance that the
samples of the last epoch held. Inside a class samples are drawn without replacement, with
probability proportional to their importance. Here the shares are rounded so that the epoch has the
size that was asked for (their code rounds every class up).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation
from dynprune_agents._blocks import blocks
from dynprune_agents._draws import class_sums, race, shares, top_of_each_class
from dynprune_env.selection.agent import Episode

MAX_EXPONENT = 600
"""Of the largest exp(loss / beta): a million of them still add up to a finite number."""


@dataclass
class RCAP(Agent):
    """Class shares by the root of importance times size, hard samples inside (Hassan et al. 2025).

    Attributes:
        beta: temperature of the softmax of the losses, in nats, positive; at least ln C / 600.
    """

    source: ClassVar[str] = "Hassan, Khare, Paik, UAI 2025, PMLR v286"
    columns = ("loss", "label")

    beta: float = 0.5

    def __post_init__(self) -> None:
        """Checks the parameter."""
        if not self.beta > 0:
            raise ValueError(f"beta is a positive temperature, got {self.beta}")

    def reset(self, episode: Episode) -> None:
        """Begins a new episode.

        Raises:
            ValueError: beta is so small that the importance of a class is no finite number.
        """
        super().reset(episode)
        least = np.log(episode.num_classes) / MAX_EXPONENT
        if self.beta < least:
            raise ValueError(
                f"beta is at least ln({episode.num_classes}) / {MAX_EXPONENT} = {least:.4f} with "
                f"{episode.num_classes} classes, got {self.beta}: below, exp(loss / beta) overflows"
            )
        self._kept: np.ndarray | None = None

    def select(self, observation: Observation) -> np.ndarray:
        """A draw inside each class."""
        losses = observation["loss"]
        rows, labels = np.atleast_2d(losses), np.atleast_2d(observation["label"])
        counts = np.broadcast_to(self.keep_count(observation), len(rows))
        last = np.ones(rows.shape, dtype=bool) if self._kept is None else np.atleast_2d(self._kept)
        kept = np.zeros(rows.shape, dtype=bool)
        for row, count in enumerate(counts):
            kept[row] = self._draw(rows[row], labels[row], last[row], int(count), row)
        self._kept = kept.reshape(losses.shape)
        return self._kept

    def _draw(
        self, losses: np.ndarray, labels: np.ndarray, last: np.ndarray, count: int, row: int
    ) -> np.ndarray:
        """One replica's mask, (n,) bool."""
        highest, weights = np.log(self.episode.num_classes), np.empty(losses.shape)
        for part in blocks(len(losses)):
            some = weights[part]
            np.minimum(losses[part], highest, out=some)
            some /= self.beta
            np.exp(some, out=some)  # from 0 to MAX_EXPONENT: they need no shift
        sizes, sums, held = class_sums(weights, labels, last, self.episode.num_classes)
        importance = np.divide(held, sums, out=np.zeros(len(sums)), where=sizes > 0)
        drawn = shares(np.sqrt(importance * sizes / len(labels)), sizes, count)
        return top_of_each_class(race(weights, self.rng.only(row)), labels, drawn, sizes)
