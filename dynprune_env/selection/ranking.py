"""Turning scores into keep masks: the only place that sorts. Higher score = keep."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.common.randomness import ReplicaRandom

_LARGE, _SAMPLE = 100_000, 4_096


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
        keep[row] = scores[row] > threshold
        tied = np.flatnonzero(scores[row] == threshold)
        missing = k - np.count_nonzero(keep[row])
        if missing < len(tied):
            tied = rng.row(row).choice(tied, missing, replace=False, shuffle=False)
        keep[row, tied] = True
    return keep


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
        if np.count_nonzero(scores > low) < k <= np.count_nonzero(scores >= low):
            return low  # one of many equal ones, of which partitioning would be slow
        between = scores[(scores > low) & (scores <= high)]
        left = k - int(np.count_nonzero(scores > high))
        if 0 < left <= len(between):
            scores, n, k = between, len(between), left
    return np.partition(scores, n - k)[n - k]


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
            from dynprune_env.selection.kernels import fill_ranks  # slow to import

            fill_ranks(rows[row], rng.row(row).integers(1 << 63, dtype=np.uint64), ranks[row])
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
