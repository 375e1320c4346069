"""Statistics over tasks and seeds, after Agarwal et al. (2021), arXiv:2108.13264; pure numbers.

A *stratum* is an array of scores, one per seed of one agent on one task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

LEVEL = 0.95
"""Of all intervals."""

Interval = tuple[float, float]


def mean_interval(values: Sequence[float]) -> Interval:
    """Percentile bootstrap interval of the mean of `values`, one per seed."""
    if min(values) == max(values):  # one seed or identical ones: nothing to resample
        return fmean(values), fmean(values)
    from scipy.stats import bootstrap

    # Percentile, since BCa's correction is undefined for some small samples. `random_state`, since
    # scipy calls it `rng` only from 1.15 on.
    rng = np.random.default_rng(0)
    result = bootstrap((values,), np.mean, method="percentile", random_state=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


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
    """Percentile bootstrap interval of a statistic of all scores, seeds redrawn within each task.

    Args:
        strata: (seeds,) scores per task; tasks may differ in their seeds.
        statistic: maps (draws, scores) to (draws,).
        draws: resamples.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    resampled = statistic(np.concatenate([_redraw(s, draws, rng) for s in strata], axis=1))
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _redraw(stratum: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, seeds) scores, drawn with replacement."""
    return stratum[rng.integers(len(stratum), size=(draws, len(stratum)))]


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
    rng = np.random.default_rng(seed)
    found, resampled = [], np.zeros(draws)
    for one, other in zip(ours, theirs, strict=True):
        wins = np.sign(one[:, None] - other[None]) / 2 + 0.5
        found.append(float(wins.mean()))
        # How often each seed is drawn: comparing every pair once is then enough.
        left, right = (_counts(len(side), draws, rng) for side in (one, other))
        resampled += ((left @ wins) * right).sum(1) / wins.size
    low, high = np.quantile(resampled / len(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return fmean(found), (float(low), float(high))


def _counts(seeds: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, seeds): how often each seed occurs when as many are drawn with replacement."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank over tasks of each agent, 1 for the best; equal scores share the mean of theirs.

    Args:
        scores: (agents, tasks), higher is better.
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=0).mean(1))
