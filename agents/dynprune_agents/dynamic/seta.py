"""SeTa: a window over groups of similar loss that slides from easy to hard.

Zhou et al. (CVPR 2025), "Scale Efficient Training for Large Datasets", arXiv:2503.13385. Each
epoch draws a random share 1 - r of all samples, splits it into groups by k-means on the losses,
and keeps round(groups * scale) neighbouring groups; the window moves one group per epoch, from
easy to hard, and starts again. The first epoch is the random part, and so are those after
floor(delta T) epochs. Read in the authors' code (mrazhou/SeTa).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_env.selection.ranking import keep_top

SAMPLE = 20_000
"""Losses from which the centres are computed; groups of all others by these."""


def group_by_loss(loss: np.ndarray, groups: int) -> np.ndarray:
    """K-means in one dimension: (m,) group of each loss, 0 the easiest.

    Lloyd's iterations on up to SAMPLE losses, until nothing moves, from two starts (quantiles, and
    equal distances between them); the lower inertia wins.
    """
    some = np.sort(loss[:: max(1, len(loss) // SAMPLE)].astype(np.float64))
    levels = (np.arange(groups) + 0.5) / groups
    starts = (np.quantile(some, levels), some[0] + levels * (some[-1] - some[0]))
    centres = min((_lloyd(some, start) for start in starts), key=lambda found: found[1])[0]
    # Few boundaries: counting those below is faster than a search.
    group = np.zeros(len(loss), dtype=np.int16)
    for boundary in (centres[1:] + centres[:-1]) / 2:
        group += loss > boundary
    return group


def _lloyd(values: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Centres (groups,) and inertia, from sorted values (m,) and where to start."""
    sums = np.concatenate([[0], values.cumsum()])
    squares = np.concatenate([[0], np.square(values).cumsum()])
    edges = np.zeros(0)
    while True:
        ends = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2, side="right")
        before, edges = edges, np.concatenate([[0], ends, [len(values)]])
        size, total = np.diff(edges), np.diff(sums[edges])
        centres = np.where(size > 0, total / np.maximum(size, 1), centres)
        if np.array_equal(before, edges):
            inertia = np.diff(squares[edges]) - total**2 / np.maximum(size, 1)
            return centres, float(inertia.sum())


@dataclass
class SeTa(Agent):
    """A sliding window over loss groups of a random subset, easy to hard (Zhou et al. 2025).

    Attributes:
        r: share of all samples that is left out at random, in [0, 1).
        groups: number of loss groups G.
        scale: share of the groups in the window, in (0, 1].
        delta: share of the run after which the random subset is kept whole, in [0, 1].
    """

    source: ClassVar[str] = "Zhou et al., CVPR 2025, arXiv:2503.13385"

    r: float = 0.1
    groups: int = 5
    scale: float = 0.9
    delta: float = 0.875

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", r=self.r)
        check_shares("(0, 1]", scale=self.scale)
        check_shares(delta=self.delta)
        if self.groups < 1 or round(self.groups * self.scale) < 1:
            raise ValueError(
                f"the window needs at least one group, got {self.groups} x {self.scale}"
            )

    def select(self, observation: Observation) -> np.ndarray:
        """The random subset, and of it the window."""
        n = self.episode.num_samples
        kept = keep_top(self.rng.random(n), round((1 - self.r) * n), self.rng)
        window = round(self.groups * self.scale)
        epoch = self.epoch(observation)
        if epoch == 0:
            return kept
        start = epoch % (self.groups - window + 1)
        sliding = ~np.atleast_1d(self.annealing(observation, self.delta))
        rows, losses = np.atleast_2d(kept), np.atleast_2d(observation["loss"])
        for row in np.flatnonzero(sliding):
            ids = np.flatnonzero(rows[row])
            group = group_by_loss(losses[row, ids], self.groups)
            inside = (group >= start) & (group < start + window)
            if inside.any():  # not so where fewer losses differ than there are groups
                rows[row, ids] = inside
        return kept
