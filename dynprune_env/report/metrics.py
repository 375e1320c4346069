"""Statistics over tasks and seeds, after Agarwal et al. (2021), arXiv:2108.13264; pure numbers.

A *stratum* is an array of scores, one per seed of one agent on one task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np

LEVEL = 0.95
"""Of all intervals."""

KEPT_ENTRIES = 1_000_000
"""So many drawn numbers at most are kept for the next interval of as many seeds."""
BLOCK_ENTRIES = 500_000
"""So many scores at most are redrawn at once, so that memory does not grow with the seeds."""

Interval = tuple[float, float]
Lengths = tuple[int, ...]


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
    return _ends(statistic(np.random.default_rng(seed)), quantile)


def _ends(resampled: np.ndarray, quantile: Callable[..., Any] = np.quantile) -> tuple[Any, Any]:
    low, high = quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def redrawn_places(lengths: Lengths, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, scores) places in the scores of all strata, redrawn with replacement within each."""
    total = sum(lengths)
    large = draws * total > KEPT_ENTRIES
    places = np.empty((draws, total), dtype=np.min_scalar_type(total) if large else np.intp)
    begin = 0
    for seeds in lengths:
        for rows in _blocks(draws, seeds):  # block by block, the same numbers are drawn
            drawn = rng.integers(seeds, size=(rows.stop - rows.start, seeds))
            places[rows, begin : begin + seeds] = drawn + begin
        begin += seeds
    return places


def drawn_counts(lengths: Lengths, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Per stratum, (draws, seeds): how often each seed is redrawn."""
    return [
        rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(
            np.min_scalar_type(seeds)
        )
        for seeds in lengths
    ]


def _blocks(draws: int, width: int) -> Iterator[slice]:
    """The draws in slices of not too many entries."""
    step = max(1, BLOCK_ENTRIES // max(width, 1))
    for start in range(0, draws, step):
        yield slice(start, min(start + step, draws))


@lru_cache(maxsize=4)
def _kept(draw: Callable[..., Any], lengths: Lengths, draws: int, seed: int) -> Any:
    return draw(lengths, draws, np.random.default_rng(seed))


def _drawn(draw: Callable[..., Any], lengths: Lengths, draws: int, seed: int) -> Any:
    """What `draw` draws: it depends on the lengths and the seed alone, so it is drawn once."""
    if draws * sum(lengths) <= KEPT_ENTRIES:
        return _kept(draw, lengths, draws, seed)
    return draw(lengths, draws, np.random.default_rng(seed))


def _resampled(
    scores: np.ndarray, places: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """A statistic, (draws, scores) to (draws,), of the redrawn (scores,)."""
    blocks = _blocks(*places.shape)
    return np.concatenate([statistic(scores.take(places[rows])) for rows in blocks])


def mean_interval(values: Sequence[float]) -> Interval:
    """Bootstrap interval of the mean of `values`, one per seed: `scipy.stats.bootstrap`'s."""
    if min(values) == max(values):  # one seed or identical ones: nothing to resample
        return fmean(values), fmean(values)
    scores = np.array(values, dtype=float)
    places = _drawn(redrawn_places, (len(scores),), 9999, 0)
    means = _resampled(scores, places, lambda redrawn: redrawn.mean(1))
    low, high = _ends(means, _scipy_quantile)
    return float(low), float(high)


def _scipy_quantile(values: np.ndarray, shares: Sequence[float], axis: int) -> list[np.ndarray]:
    """The quantiles as scipy's bootstrap rounds them: its last bits differ from numpy's."""
    places = [share * (values.shape[axis] - 1) for share in shares]
    values = np.sort(values, axis=axis)
    found = []
    for place in places:
        low, high = (np.take(values, int(place) + step, axis) for step in (0, 1))
        found.append((1 - place % 1) * low + place % 1 * high)
    return found


def mean_band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap intervals of the mean of (seeds, places) curves at each place, (places,) each."""

    def means(rng: np.random.Generator) -> np.ndarray:
        total = np.zeros((1000, curves.shape[1]))
        for seeds in redrawn_places((len(curves),), 1000, rng).T:
            total += curves[seeds]  # one by one: all redrawn curves at once would fill the memory
        return total / len(curves)

    return bootstrap_interval(means)


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of the scores along the last axis.

    A quarter of them, rounded down, is cut off at each end: less moved by a single collapsed run
    than the mean, and by far less wasteful than the median (Agarwal et al. 2021, section 4.3).
    """
    # `scipy.stats.trim_mean` but for the order of the sum: importing it takes longer than this.
    cut = int(0.25 * scores.shape[-1])
    return np.asarray(np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut].mean(-1))


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
    places = _drawn(redrawn_places, tuple(map(len, strata)), draws, seed)
    low, high = _ends(_resampled(np.concatenate(strata), places, statistic))
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
    # How often each seed is drawn: comparing every pair once is then enough.
    lengths = tuple(seeds for table in wins for seeds in table.shape)
    counts = iter(_drawn(drawn_counts, lengths, draws, seed))
    total = np.zeros(draws)
    for table in wins:
        left, right = next(counts), next(counts)
        total += ((left @ table) * right).sum(1) / table.size
    low, high = _ends(total / len(wins))
    return fmean(float(table.mean()) for table in wins), (float(low), float(high))


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank over tasks of each agent, 1 for the best; equal scores share the mean of theirs.

    Args:
        scores: (agents, tasks), higher is better.
    """
    ranks = []
    for task in scores.T:
        _, place, count = np.unique(-task, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[place])
    return np.array(ranks).T.mean(1)
