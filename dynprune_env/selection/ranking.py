"""Turning scores into keep masks: the only place that sorts. Higher score = keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.common.randomness import ReplicaRandom

_LARGE, _SAMPLE = LARGE, 16_384


def keep_top(scores: np.ndarray, count: int | np.ndarray, rng: ReplicaRandom) -> np.ndarray:
    """Keeps the highest scores of each row; ties are broken at random.

    Args:
        scores: (R, n) or (n,), no NaN; -inf marks samples to be kept last.
        count: how many to keep in each row, one number or (R,); clipped to [0, n].
        rng: breaks the ties.

    Returns:
        Bool mask of the same shape with exactly `count` True in each row.

    Raises:
        ValueError: a score is NaN.
    """
    if scores.ndim == 1:
        return keep_top(scores[None], count, rng)[0]
    replicas, n = scores.shape
    if n < _LARGE:  # else row by row, on the way
        _refuse_nan(scores)
    keep = np.zeros(scores.shape, dtype=bool)
    for row, k in enumerate(np.broadcast_to(np.clip(count, 0, n), replicas)):
        if k == 0:
            _refuse_nan(scores[row])
            continue
        threshold = _kth_highest(scores[row], int(k))
        np.greater_equal(scores[row], threshold, out=keep[row])
        surplus = np.count_nonzero(keep[row]) - k
        if surplus:
            tied = np.flatnonzero(scores[row] == threshold)
            keep[row, tied] = False
            chosen = rng.row(row).choice(tied, len(tied) - surplus, replace=False, shuffle=False)
            keep[row, chosen] = True
    return keep


def _refuse_nan(scores: np.ndarray) -> None:
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")


def where(mask: np.ndarray, values: np.ndarray, other: np.ndarray | float) -> np.ndarray:
    """What `np.where` returns, without a branch on each sample: these are drawn at random.

    Args:
        mask: (R, n) or (n,) bool.
        values: the same shape, floats.
        other: the same shape and type, or one number.
    """
    if not HAS_NUMBA or mask.size < _LARGE:
        return np.where(mask, values, other)
    from dynprune_env.selection.kernels import fill_where, fill_where_else  # slow to import

    chosen = np.empty(mask.shape, values.dtype)
    flat = [np.ascontiguousarray(part).reshape(-1) for part in (mask, values)]
    if isinstance(other, np.ndarray):
        fill_where_else(*flat, np.ascontiguousarray(other).reshape(-1), chosen.reshape(-1))
    else:
        fill_where(*flat, values.dtype.type(other), chosen.reshape(-1))
    return chosen


def count_true(mask: np.ndarray) -> np.ndarray:
    """How many are True in each row of (R, n) or (n,): (R,) or () int64.

    A sum over an axis would turn every entry into a number first.
    """
    counts = [np.count_nonzero(row) for row in mask.reshape(-1, mask.shape[-1])]
    return np.array(counts, dtype=np.int64).reshape(mask.shape[:-1])


def draws_among(mask: np.ndarray, rng: ReplicaRandom) -> np.ndarray:
    """Uniform draws from [0, 1) for the samples of a mask, -inf for all others; float64.

    Args:
        mask: (R, n) or (n,) bool.
        rng: draws, for all n.
    """
    draws = rng.random(mask.shape[-1])
    if not HAS_NUMBA or mask.size < _LARGE:
        return np.where(mask, draws, -np.inf)
    from dynprune_env.selection.kernels import fill_where  # slow to import

    flat = draws.reshape(-1)  # in place: memory that is new takes longer than the choice
    fill_where(np.ascontiguousarray(mask).reshape(-1), flat, -np.inf, flat)
    return draws


def _kth_highest(scores: np.ndarray, k: int) -> float:
    """The k-th highest of n scores.

    Partitions only what lies between two bounds that a sample gives (Floyd & Rivest 1975); all of
    it where these do not hold the answer.
    """
    n = len(scores)
    if n >= _LARGE:
        sample = np.sort(scores[:: n // _SAMPLE])
        middle, margin = len(sample) * (1 - k / n), 2 * np.sqrt(len(sample))
        low = sample[max(0, int(middle - margin))]
        high = sample[min(len(sample) - 1, int(middle + margin))]
        between, above, equal = _split(scores, low, high)  # refuses NaN
        left = k - above
        if len(between) < left <= len(between) + equal:
            return low  # one of many equal ones, of which partitioning would be slow
        if 0 < left <= len(between):
            scores, n, k = between, len(between), left
    return np.partition(scores, n - k)[n - k]


def _split(scores: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int, int]:
    """The scores in (low, high], how many are above, and how many equal low.

    Raises:
        ValueError: a score is NaN.
    """
    if HAS_NUMBA and scores.dtype.kind == "f":
        from dynprune_env.selection.kernels import take_between  # slow to import

        between = np.empty_like(scores)
        count, above, equal, broken = take_between(scores, low, high, between)
        if broken:
            _refuse_nan(scores)
        return between[:count], above, equal
    _refuse_nan(scores)
    between = scores[(scores > low) & (scores <= high)]
    return between, int(np.count_nonzero(scores > high)), int(np.count_nonzero(scores == low))


def rank(scores: np.ndarray, rng: ReplicaRandom) -> np.ndarray:
    """Position of each score in rising order, same shape, int64; ties fall at random.

    Scores are compared as float32.
    """
    return rank_sum((scores,), rng)


def rank_sum(columns: Sequence[np.ndarray], rng: ReplicaRandom) -> np.ndarray:
    """The sum of the ranks of several scores, see `rank`; (R, n) or (n,) int64.

    Args:
        columns: (R, n) or (n,) each.
        rng: breaks the ties, of one column after the other.
    """
    if columns[0].ndim == 1:
        return rank_sum([column[None] for column in columns], rng)[0]
    sums = np.full(columns[0].shape, 0, dtype=np.int64)  # zeros would come in small pages
    for column in columns:
        for row, scores in enumerate(np.ascontiguousarray(column, dtype=np.float32)):
            if HAS_NUMBA:
                from dynprune_env.selection.kernels import add_ranks, fill_keys  # slow to import

                keys = np.empty(len(scores), dtype=np.uint64)
                fill_keys(scores, keys)
                keys.sort()
                add_ranks(keys, rng.row(row).integers(1 << 63, dtype=np.uint64), sums[row])
            else:
                order = np.lexsort((rng.row(row).random(len(scores)), scores))
                sums[row, order] += np.arange(len(scores))
    return sums


def standardise(values: np.ndarray, limit: float = 3.0) -> np.ndarray:
    """Clipped z-scores along the last axis, same shape, float64; zero where all are equal."""
    if HAS_NUMBA and values.size:
        from dynprune_env.selection.kernels import fill_z_scores  # slow to import

        scores = np.empty(values.shape)
        rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
        fill_z_scores(rows, limit, scores.reshape(rows.shape))
        return scores
    return plain_standardise(values, limit)


def standardise_among(values: np.ndarray, among: np.ndarray, limit: float = 3.0) -> np.ndarray:
    """Clipped z-scores among some samples of each row; zero where these are equal.

    Args:
        values: (R, n).
        among: (R, n) bool, the samples that count.
        limit: where the z-scores are clipped.

    Returns:
        (R, n) float64, 0 for all others.
    """
    if HAS_NUMBA:
        from dynprune_env.selection.kernels import fill_z_scores_among  # slow to import

        scores = np.empty(values.shape)
        fill_z_scores_among(np.ascontiguousarray(values), among, limit, scores)
        return scores
    return plain_standardise_among(values, among, limit)


def plain_standardise_among(
    values: np.ndarray, among: np.ndarray, limit: float = 3.0
) -> np.ndarray:
    """The same without numba."""
    count = np.maximum(1, among.sum(-1, keepdims=True))
    known = np.where(among, values, 0).astype(np.float64)
    centred = np.where(among, known - known.sum(-1, keepdims=True) / count, 0)
    spread = np.sqrt(np.square(centred).sum(-1, keepdims=True) / count)
    return np.clip(centred / np.where(spread > 1e-6, spread, np.inf), -limit, limit)


def plain_standardise(values: np.ndarray, limit: float = 3.0) -> np.ndarray:
    """The same without numba."""
    # float64, since equal float32 values rarely have themselves as their mean.
    centred = values - values.mean(-1, keepdims=True, dtype=np.float64)
    spread = np.sqrt(np.square(centred).mean(-1, keepdims=True))
    return np.clip(centred / np.where(spread > 1e-6, spread, np.inf), -limit, limit)
