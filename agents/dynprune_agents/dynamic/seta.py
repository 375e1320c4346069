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
from dynprune_env.selection.drawing import keep_random

SAMPLE = 20_000
"""Losses from which the centres are computed; groups of all others by these."""

CELLS = 256
"""Of equal number, and again of equal width: groups begin with the border of one of them."""


def group_by_loss(loss: np.ndarray, groups: int) -> np.ndarray:
    """K-means in one dimension: (m,) group of each loss, 0 the easiest.

    From up to SAMPLE losses: the best groups that begin where a cell does (dynamic programming),
    then Lloyd's iterations until nothing moves. The authors start at random (k-means++).
    """
    # Few boundaries: counting those below is faster than a search.
    group = np.zeros(len(loss), dtype=np.int16)
    for boundary in _boundaries(loss[:: max(1, len(loss) // SAMPLE)], groups):
        group += loss > boundary
    return group


def _boundaries(loss: np.ndarray, groups: int) -> np.ndarray:
    """What parts the groups of some losses (m,): (groups - 1,) float64, rising."""
    some = np.sort(loss.astype(np.float64))
    centres = _converged(some, _best_of_cells(some, groups))
    between: np.ndarray = (centres[1:] + centres[:-1]) / 2
    return between


def _best_of_cells(values: np.ndarray, groups: int) -> np.ndarray:
    """Centres (groups,) of the split of sorted values (m,) into cells that has least inertia."""
    m = len(values)
    even = np.linspace(0, m, CELLS + 1).astype(np.int64)
    wide = np.searchsorted(values, np.linspace(values[0], values[-1], CELLS + 1))
    ends = np.unique(np.concatenate([even, wide]))
    size = np.maximum(np.subtract.outer(ends, ends).T, 1)
    sums, squares = (np.concatenate([[0], part.cumsum()])[ends] for part in (values, values**2))
    within = np.subtract.outer(squares, squares).T
    within -= np.subtract.outer(sums, sums).T ** 2 / size
    inertia = np.where(np.tri(len(ends), k=-1, dtype=bool).T, within, np.inf)
    np.fill_diagonal(inertia, 0)  # nothing is in a group that ends where it begins
    least, begins = inertia[0], []
    for _ in range(groups - 1):
        table = least[:, None] + inertia
        begins.append(table.argmin(0))
        least = table.min(0)
    place, borders = len(ends) - 1, [len(ends) - 1]
    for begin in reversed(begins):
        place = int(begin[place])
        borders.append(place)
    edges = np.array([0, *borders[::-1]])
    count, total = np.diff(ends[edges]), np.diff(sums[edges])
    return np.where(count > 0, total / np.maximum(count, 1), values[ends[edges[1:]] - 1])


def _converged(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Lloyd's iterations: centres (groups,), rising, from sorted values (m,) and where to start."""
    sums = np.concatenate([[0], values.cumsum()])
    edges = np.zeros(0)
    while True:
        ends = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2, side="right")
        before, edges = edges, np.concatenate([[0], ends, [len(values)]])
        if np.array_equal(before, edges):
            return centres
        size, total = np.diff(edges), np.diff(sums[edges])
        centres = np.where(size > 0, total / np.maximum(size, 1), centres)
        centres = np.maximum.accumulate(centres)  # an empty group's may have been passed


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
    columns = ("loss",)
    paced: ClassVar[bool] = False

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
        kept = keep_random(n, round((1 - self.r) * n), self.rng)
        window = round(self.groups * self.scale)
        epoch = self.epoch(observation)
        if epoch == 0:
            return kept
        start = epoch % (self.groups - window + 1)
        sliding = ~np.atleast_1d(self.annealing(observation, self.delta))
        rows, losses = np.atleast_2d(kept), np.atleast_2d(observation["loss"])
        for row in np.flatnonzero(sliding):
            ids, loss = np.flatnonzero(rows[row]), losses[row]
            some = loss[ids[:: max(1, len(ids) // SAMPLE)]]
            # Group g holds what is above border g and not above the next.
            borders = np.array([-np.inf, *_boundaries(some, self.groups), np.inf])
            inside = loss > borders[start]
            inside &= loss <= borders[start + window]
            inside &= rows[row]
            if inside.any():  # not so where fewer losses differ than there are groups
                rows[row] = inside
        return kept
