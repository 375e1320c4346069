"""Statistics over tasks and seeds, after Agarwal et al. (2021), arXiv:2108.13264; pure numbers.

A *stratum* is an array of scores, one per seed of one agent on one task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

LEVEL = 0.95
"""Of all intervals."""

Interval = tuple[float, float]


def bootstrap_interval(
    statistic: Callable[[np.random.Generator], np.ndarray],
    seed: int = 0,
    quantile: Callable[..., Any] = np.quantile,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of a statistic: the resampling behind all intervals here.

    Percentile, since BCa's correction is undefined for some small samples.

    Args:
        statistic: draws resamples with the generator and returns their statistics, (draws, ...).
        seed: of the generator.
        quantile: like `numpy.quantile`.

    Returns:
        The lower and the upper end, (...) each.
    """
    resampled = statistic(np.random.default_rng(seed))
    low, high = quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def redraw(scores: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, seeds, ...) scores, the seeds of (seeds, ...) drawn with replacement."""
    return scores[rng.integers(len(scores), size=(draws, len(scores)))]


def mean_interval(values: Sequence[float]) -> Interval:
    """Bootstrap interval of the mean of `values`, one per seed: `scipy.stats.bootstrap`'s."""
    if min(values) == max(values):  # one seed or identical ones: nothing to resample
        return fmean(values), fmean(values)
    scores = np.array(values, dtype=float)
    low, high = bootstrap_interval(
        lambda rng: redraw(scores, 9999, rng).mean(1), quantile=_scipy_quantile
    )
    return float(low), float(high)


def _scipy_quantile(values: np.ndarray, shares: Sequence[float], axis: int) -> list[np.ndarray]:
    """The quantiles as scipy's bootstrap rounds them: its last bits differ from numpy's."""
    values = np.sort(values, axis=axis)
    found = []
    for share in shares:
        place = share * (values.shape[axis] - 1)
        low, high = (np.take(values, int(place) + step, axis) for step in (0, 1))
        found.append((1 - place % 1) * low + place % 1 * high)
    return found


def mean_band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap intervals of the mean of (seeds, places) curves at each place, (places,) each."""
    return bootstrap_interval(lambda rng: redraw(curves, 1000, rng).mean(1))


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of the scores along the last axis.

    A quarter of them, rounded down, is cut off at each end: less moved by a single collapsed run
    than the mean, and by far less wasteful than the median (Agarwal et al. 2021, section 4.3).
    """
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(scores, 0.25, axis=-1))


def stratified_interval(
    strata: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a statistic of all scores, seeds redrawn within each task.

    Args:
        strata: (seeds,) scores per task; tasks may differ in their seeds.
        statistic: maps (draws, scores) to (draws,).
        draws: resamples.
        seed: of the resampling.
    """
    low, high = bootstrap_interval(
        lambda rng: statistic(np.concatenate([redraw(s, draws, rng) for s in strata], axis=1)), seed
    )
    return float(low), float(high)


def probability_of_improvement(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], draws: int = 2000, seed: int = 0
) -> tuple[float, Interval]:
    """Chance that a run of ours beats one of theirs on a task drawn at random, and its interval.

    On each task it is the Mann-Whitney statistic over the number of pairs, a tie counting half
    (Agarwal et al. 2021, section 4.3); the interval resamples both sides within each task.

    Args:
        ours: (seeds,) scores per task.
        theirs: the same for the other agent; as many tasks.
        draws: resamples.
        seed: of the resampling.
    """
    pairs = zip(ours, theirs, strict=True)
    wins = [np.sign(one[:, None] - other[None]) / 2 + 0.5 for one, other in pairs]

    def resample(rng: np.random.Generator) -> np.ndarray:
        total = np.zeros(draws)
        for table in wins:
            # How often each seed is drawn: comparing every pair once is then enough.
            left, right = (
                rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
                for seeds in table.shape
            )
            total += ((left @ table) * right).sum(1) / table.size
        return total / len(wins)

    low, high = bootstrap_interval(resample, seed)
    return fmean(float(table.mean()) for table in wins), (float(low), float(high))


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank over tasks of each agent, 1 for the best; equal scores share the mean of theirs.

    Args:
        scores: (agents, tasks), higher is better.
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=0).mean(1))
