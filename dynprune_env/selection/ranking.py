"""Turning scores into keep masks: the only place that sorts. Higher score = keep."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.common.randomness import ReplicaRandom

_LARGE, _SAMPLE = LARGE, 4_096


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
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    if scores.ndim == 1:
        return keep_top(scores[None], count, rng)[0]
    replicas, n = scores.shape
    keep = np.zeros(scores.shape, dtype=bool)
    for row, k in enumerate(np.broadcast_to(np.clip(count, 0, n), replicas)):
        if k == 0:
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
        between, above, equal = _split(scores, low, high)
        left = k - above
        if len(between) < left <= len(between) + equal:
            return low  # one of many equal ones, of which partitioning would be slow
        if 0 < left <= len(between):
            scores, n, k = between, len(between), left
    return np.partition(scores, n - k)[n - k]


def _split(scores: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int, int]:
    """The scores in (low, high], how many are above, and how many equal low."""
    if HAS_NUMBA and scores.dtype.kind == "f":
        from dynprune_env.selection.kernels import take_between  # slow to import

        between = np.empty_like(scores)
        count, above, equal = take_between(scores, low, high, between)
        return between[:count], above, equal
    between = scores[(scores > low) & (scores <= high)]
    return between, int(np.count_nonzero(scores > high)), int(np.count_nonzero(scores == low))


def rank(scores: np.ndarray, rng: ReplicaRandom) -> np.ndarray:
    """Position of each score in rising order, same shape, int64; ties fall at random.

    Scores are compared as float32.
    """
    if scores.ndim == 1:
        return rank(scores[None], rng)[0]
    replicas, n = scores.shape
    ranks = np.empty(scores.shape, dtype=np.int64)
    rows = np.ascontiguousarray(scores, dtype=np.float32)
    for row in range(replicas):
        if HAS_NUMBA:
            from dynprune_env.selection.kernels import fill_keys, fill_ranks  # slow to import

            keys = np.empty(scores.shape[1], dtype=np.uint64)
            fill_keys(rows[row], keys)
            keys.sort()
            fill_ranks(keys, rng.row(row).integers(1 << 63, dtype=np.uint64), ranks[row])
        else:
            ranks[row, np.lexsort((rng.row(row).random(n), rows[row]))] = np.arange(n)
    return ranks


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
