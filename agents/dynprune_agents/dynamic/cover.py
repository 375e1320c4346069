"""Cover: in each class, the samples that the others stand for least.

After RL-Selector (Yang et al., ICCV 2025, arXiv:2506.21037), second-hand: it rewards a sample by
the sum of its distances to those of its class in the space of the penultimate features, so that
redundant ones score low; a policy learns one static subset. At a fixed number of samples the reward
is highest for those of the largest sums. With squared distances a sum is the squared distance to
the class mean, times the size of the class, plus a constant: that is what is ranked here, anew at
every selection, with the classes sharing the epoch by their sizes. The features are a forward pass
over all samples, charged to the budget.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, PeriodicAgent
from dynprune_agents._blocks import blocks
from dynprune_agents._draws import shares, top_of_each_class
from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.selection.agent import Episode
from dynprune_env.selection.budget import SCORING_COST
from dynprune_env.selection.ranking import keep_top


def spread(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Squared distance of each sample to the mean of its class, (n,) float64.

    Args:
        features: (n, d).
        labels: (n,) int64 in [0, num_classes).
        num_classes: C.
    """
    if HAS_NUMBA and len(labels) >= LARGE:
        from dynprune_agents._draws_kernels import add_rows_by_class  # slow to import

        sums = np.zeros((num_classes, features.shape[1]))
        add_rows_by_class(features, labels, sums)
    else:
        columns = [np.bincount(labels, column, num_classes) for column in features.T]
        sums = np.stack(columns, axis=1)
    sizes = np.bincount(labels, minlength=num_classes)
    means = sums / np.maximum(1, sizes)[:, None]
    distances = np.empty(len(labels))
    for part in blocks(len(labels)):
        distances[part] = np.square(features[part] - means[labels[part]]).sum(1)
    return distances


@dataclass
class Cover(PeriodicAgent):
    """The samples furthest from the mean features of their class (after Yang et al. 2025).

    Attributes:
        period: epochs between selections, each of which costs a third of a pass; None means 5 % of
            the run, or as many as keep that near a third of the visits after the warm-up, or below.
        warmup: full epochs before the first selection.
    """

    source: ClassVar[str] = (
        "second-hand: after RL-Selector, Yang et al., ICCV 2025, arXiv:2506.21037"
    )
    columns = ("label",)

    def reset(self, episode: Episode) -> None:
        """Begins a new episode."""
        super().reset(episode)
        _ = episode.probe.features  # where there are no models, it is refused here and not midway
        first, period = self.cadence()
        passes = -(-(episode.epochs - first) // period)
        cost, left = passes * SCORING_COST * episode.num_samples, self._left(first)
        if left > 0 and cost >= left:
            warnings.warn(
                f"{self!r}: a forward pass every {period} epochs takes {cost:,.0f} visits, all of "
                f"the {left:,} that are left after the warm-up: raise period",
                stacklevel=2,
            )

    def cadence(self) -> tuple[int, int]:
        """The warm-up, and the period."""
        first, period = super().cadence()
        if self.period is None and (left := self._left(first)) > 0:
            full = (self.episode.epochs - first) * self.episode.num_samples
            period = max(period, -(-full // left))
        return first, period

    def _left(self, epochs: int) -> int:
        """Visits that the budget pays for after so many full epochs."""
        return self.episode.total_visits - epochs * self.episode.num_samples

    def choose(self, observation: Observation, count: np.ndarray) -> np.ndarray:
        """The top of each class; the old selection where the budget cannot pay for a new one."""
        paid = self.paid_count(observation, passes=1)
        if (paid >= 1).all():
            features = self.episode.probe.features()
            if features is not None:
                rows = features.reshape(-1, *features.shape[-2:])
                labels = np.atleast_2d(observation["label"]).astype(np.int64)
                counts = np.broadcast_to(paid, len(rows))
                each = enumerate(zip(rows, labels, counts, strict=True))
                kept = [self._top(row, *values) for row, values in each]
                return np.stack(kept).reshape(observation["label"].shape)
        draws = self.rng.random(self.episode.num_samples)
        return keep_top(draws if self._kept is None else draws + self._kept, count, self.rng)

    def _top(self, row: int, features: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
        sizes = np.bincount(labels, minlength=self.episode.num_classes)
        scores = spread(features, labels, len(sizes))
        order = np.argsort(self.rng.only(row).random(len(labels)))  # of equal ones, any
        kept = np.empty(len(labels), dtype=bool)
        kept[order] = top_of_each_class(
            scores[order], labels[order], shares(sizes, sizes, int(count)), sizes
        )
        return kept
