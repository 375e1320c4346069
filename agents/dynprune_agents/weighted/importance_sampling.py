"""Importance sampling by loss.

Katharopoulos & Fleuret (ICML 2018), "Not All Samples Are Created Equal", arXiv:1803.00942, with the
loss as importance: a sample is drawn with p proportional to its last loss and weighs 1 / (n p). The
authors draw batches with replacement. An epoch visits a sample at most once, so here each is kept
with a probability pi proportional to its importance (at most 1, and as many in all as there are to
be kept: systematic sampling, Madow 1949), and weighs k / (n pi) among k kept ones: the expected
gradient is that of all data, and with everything kept it is full data. With `replacement`, k draws
as the authors make them: a sample drawn d times is visited once, with d times its weight.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dynprune_agents._agent import Agent, Observation, check_shares
from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.selection.actions import MAX_WEIGHT


def inclusion(importance: np.ndarray, count: int) -> np.ndarray:
    """Probabilities in proportion to importance, at most 1, whose sum is `count`; (n,) float64.

    Args:
        importance: (n,) positive.
        count: at most n.
    """
    if HAS_NUMBA and len(importance) >= LARGE:
        from dynprune_agents._draws_kernels import fill_inclusion  # slow to import

        chances = np.empty(len(importance))
        fill_inclusion(importance, count, chances)
        return chances
    open_ = np.ones(len(importance), dtype=bool)
    rest = importance
    while True:
        left = count - (len(importance) - len(rest))
        if left == len(rest):  # all: no rounding may leave one out
            return np.ones(len(importance))
        total = rest.sum()
        chances = np.where(open_, importance * (left / total if total > 0 else 0), 1.0)
        over = (chances >= 1) & open_
        if not over.any():
            return chances
        open_ &= ~over
        rest = importance[open_]


def systematic(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A draw of (almost) exactly sum(chances) samples, each with its own probability, (n,) bool."""
    order = rng.permutation(len(chances))
    if HAS_NUMBA and len(chances):
        from dynprune_agents._draws_kernels import mark_steps  # slow to import

        drawn = np.empty(len(chances), dtype=bool)
        mark_steps(chances, order, rng.random(), drawn)
        return drawn
    ends = np.cumsum(chances[order])
    ends[-1] = np.rint(ends[-1])  # the sum is whole but for rounding
    steps = np.floor(ends + rng.random())
    drawn = np.zeros(len(chances), dtype=bool)
    drawn[order] = np.diff(steps, prepend=0) > 0
    return drawn


@dataclass
class ImportanceSampling(Agent):
    """Keeps with a probability proportional to the loss, weighs by 1 / that (K. & F. 2018).

    Attributes:
        uniform: share of a uniform distribution mixed into the importance, in (0, 1]: bounds the
            weights by 1 / uniform.
        rescale: whether kept samples are weighed by one over their probability.
        replacement: whether there are as many independent draws as samples to keep, of which some
            fall on the same sample; what that leaves of the budget later epochs spend.
    """

    source: ClassVar[str] = "Katharopoulos & Fleuret, ICML 2018, arXiv:1803.00942"
    env_kwargs: ClassVar[dict[str, Any]] = {"action": "weights"}

    uniform: float = 0.1
    rescale: bool = True
    replacement: bool = False

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_shares("(0, 1]", uniform=self.uniform)
        if self.uniform < 1 / MAX_WEIGHT:
            raise ValueError(f"uniform is at least {1 / MAX_WEIGHT}, got {self.uniform}")

    def select(self, observation: Observation) -> np.ndarray:
        """Gradient weights."""
        loss = observation["loss"]
        rows = np.atleast_2d(loss).astype(np.float64)
        counts = np.broadcast_to(self.keep_count(observation), len(rows))
        drawn = [self._draw(*each) for each in zip(rows, counts, range(len(rows)), strict=True)]
        return np.reshape(drawn, loss.shape).astype(np.float32)

    def _draw(self, loss: np.ndarray, count: int, row: int) -> np.ndarray:
        """One replica's weights, (n,)."""
        n, rng = len(loss), self.rng.row(row)
        mean = loss.mean()
        relative = loss / mean if mean > 0 else np.ones(n)
        importance = (1 - self.uniform) * relative + self.uniform
        if self.replacement:
            times = rng.multinomial(count, importance / importance.sum())
            weights = times / importance if self.rescale else times
        else:
            chances = inclusion(importance, int(count))
            kept = systematic(chances, rng)
            weights = kept.astype(np.float64)
            if self.rescale:
                np.maximum(chances, 1e-12, out=chances)
                chances *= n
                weights *= np.divide(count, chances, out=chances)
        return np.minimum(weights, MAX_WEIGHT)
