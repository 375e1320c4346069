"""CCS: coverage of all difficulties.

Zheng et al. (ICLR 2023), "Coverage-centric Coreset Selection for High Pruning Rates",
arXiv:2210.15809: cuts off the hardest share by the sum of softmax margins over training (as in the
authors' code, not of logits), splits the rest into bins of equal width, deals the budget out evenly
over the bins, smallest first, and draws at random inside each.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dynprune_agents._agent import Observation, check_shares
from dynprune_agents.static._static import StaticAgent
from dynprune_env.selection.agent import ScoringRuns


def softmax_margin(observation: Observation) -> np.ndarray:
    """Probability of the label minus the largest other, (R, n) or (n,), in [-1, 1].

    The other is p exp(-margin), from p of the label and the margin of the logits.
    """
    p, margin = (observation[name].astype(np.float64) for name in ("confidence", "margin"))
    return p - np.minimum(p * np.exp(-margin), 1 - p)


def deal_out(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many to draw from each bin: equal shares, smallest bin first; (bins,) int64."""
    drawn = np.zeros_like(sizes)
    for left, bin_index in zip(
        range(len(sizes), 0, -1), np.argsort(sizes, kind="stable"), strict=True
    ):
        drawn[bin_index] = min(sizes[bin_index], (count - drawn.sum()) // left)
    return drawn


def sorted_order(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Ids of (n,) values from low to high, equal ones in the order of (n,) draws.

    What is sorted are whole numbers that hold the first bits of a value and its id: twice as fast
    as sorting ids. Ids of values that differ in later bits alone are sorted again.
    """
    ids_of = np.uint64((1 << len(values).bit_length()) - 1)
    bits = (values + 0.0).view(np.uint64)  # -0 becomes 0
    # In the order of the values: all bits of negative ones turned round, of others the sign alone.
    bits ^= (bits.view(np.int64) >> 63).view(np.uint64) | np.uint64(1 << 63)
    bits &= ~ids_of
    bits |= np.arange(len(bits), dtype=np.uint64)
    bits.sort()
    order, ranked = (bits & ids_of).astype(np.int64), bits & ~ids_of
    like_next = ranked[1:] == ranked[:-1]
    tied = np.flatnonzero(np.append(like_next, False) | np.append(False, like_next))
    ids = order[tied]
    order[tied] = ids[np.lexsort((draws[ids], values[ids]))]
    return order


@dataclass
class CCS(StaticAgent):
    """Draws evenly from bins of softmax AUM after cutting off the hardest (Zheng et al. 2023).

    Attributes:
        cut: share of lowest areas that is left out, in [0, 1); the paper's .2 at 80 % pruned and
            .3 at 90 %.
        bins: number of bins of equal width.
    """

    source: ClassVar[str] = "Zheng et al., ICLR 2023, arXiv:2210.15809"
    columns = ("confidence", "margin")

    cut: float = 0.2
    bins: int = 50

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("[0, 1)", cut=self.cut)
        if self.bins < 1:
            raise ValueError(f"bins is at least 1, got {self.bins}")

    def score(self, runs: ScoringRuns) -> np.ndarray:
        """The sum of the softmax margins of one full run."""
        margins = [softmax_margin(seen) for seen in runs.run(0, runs.epochs)]
        score: np.ndarray = np.sum(margins, axis=0)
        return score

    def choose(self, scores: np.ndarray, count: np.ndarray) -> np.ndarray:
        """An even draw from the bins; what is cut off comes in only if all else is kept."""
        rows = np.atleast_2d(scores)
        counts = np.broadcast_to(count, len(rows))
        keep = np.zeros(rows.shape, dtype=bool)
        for row, (values, k) in enumerate(zip(rows, counts, strict=True)):
            rng = self.rng.row(row)
            order = sorted_order(values, rng.random(len(values)))
            out = min(int(self.cut * len(values)), len(values) - int(k))
            kept_back = order[out:]
            first, last = values[kept_back[[0, -1]]]
            edges = np.linspace(first, last, self.bins + 1)[1:-1]
            # From low to high: a bin is a slice.
            places = np.maximum(0, np.searchsorted(values, edges, sorter=order) - out)
            bounds = [0, *places, len(kept_back)]
            for start, end, size in zip(
                bounds[:-1], bounds[1:], deal_out(np.diff(bounds), int(k)), strict=True
            ):
                keep[row, rng.permutation(kept_back[start:end])[:size]] = True
        return keep.reshape(scores.shape)
