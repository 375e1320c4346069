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
    """A draw of (almost) exactly sum(chances) samples, each with its own probability, (n,) bool.

    Steps of one fall on samples that stand in a random order. A permutation of many takes longer
    than all the rest: they are dealt out to 256 groups at random, group stands after group, and
    only in a group samples keep their order. So long stretches of the data set are drawn from more
    evenly than by chance; the probabilities are the same.
    """
    if len(chances) >= LARGE:
        groups = np.frombuffer(rng.bytes(len(chances)), np.uint8)
        if HAS_NUMBA:
            from dynprune_agents._draws_kernels import mark_steps_by_group  # slow to import

            drawn = np.empty(len(chances), dtype=bool)
            mark_steps_by_group(chances, groups, rng.random(), drawn)
            return drawn
        order = np.argsort(groups, kind="stable")
    else:
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
    columns = ("loss",)

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
        rows = np.atleast_2d(loss)
        counts = np.broadcast_to(self.keep_count(observation), len(rows))
        weights = np.empty(rows.shape, np.float32)
        for row, count in enumerate(counts):
            self._draw(rows[row], int(count), self.rng.row(row), weights[row])
        return weights.reshape(loss.shape)

    def _draw(
        self, loss: np.ndarray, count: int, rng: np.random.Generator, weights: np.ndarray
    ) -> None:
        """Fills one replica's weights, (n,) float32."""
        importance = self._importance(loss)
        if self.replacement:
            times = rng.multinomial(count, importance / importance.sum())
            weights[:] = np.minimum(times / importance if self.rescale else times, MAX_WEIGHT)
            return
        chances = inclusion(importance, count)
        kept = systematic(chances, rng)
        if not self.rescale:
            weights[:] = kept
        elif HAS_NUMBA:
            from dynprune_agents._draws_kernels import weigh  # slow to import

            weigh(kept, chances, count, MAX_WEIGHT, weights)
        else:
            weight = count / (np.maximum(chances, 1e-12) * len(loss))
            weights[:] = np.minimum(kept * weight, MAX_WEIGHT)

    def _importance(self, loss: np.ndarray) -> np.ndarray:
        """The loss over the mean loss with a uniform share, (n,) float64."""
        importance = np.empty(len(loss))
        mean = loss.mean(dtype=np.float64)
        if HAS_NUMBA and mean > 0:
            from dynprune_agents._draws_kernels import fill_mixed  # slow to import

            fill_mixed(np.ascontiguousarray(loss), mean, self.uniform, importance)
        else:
            relative = loss / mean if mean > 0 else 1.0
            np.add((1 - self.uniform) * relative, self.uniform, out=importance)
        return importance
