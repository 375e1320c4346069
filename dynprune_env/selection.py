"""Turning scores into keep masks: the only place that sorts. Higher score = keep."""

from __future__ import annotations

import numpy as np

from dynprune_env.streams import ReplicaRandom


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
        threshold = np.partition(scores[row], n - k)[n - k]
        keep[row] = scores[row] > threshold
        tied = np.flatnonzero(scores[row] == threshold)
        missing = k - np.count_nonzero(keep[row])
        if missing < len(tied):
            tied = rng.row(row).choice(tied, missing, replace=False, shuffle=False)
        keep[row, tied] = True
    return keep


def rank(scores: np.ndarray, rng: ReplicaRandom) -> np.ndarray:
    """Position of each score in rising order, same shape, int64; ties fall at random."""
    if scores.ndim == 1:
        return rank(scores[None], rng)[0]
    replicas, n = scores.shape
    ranks = np.empty(scores.shape, dtype=np.int64)
    for row in range(replicas):
        ranks[row, np.lexsort((rng.row(row).random(n), scores[row]))] = np.arange(n)
    return ranks


def standardise(values: np.ndarray, limit: float = 3.0) -> np.ndarray:
    """Clipped z-scores along the last axis, same shape; zero where all values are equal."""
    # float64, since equal float32 values rarely have themselves as their mean.
    centred = values - values.mean(-1, keepdims=True, dtype=np.float64)
    spread = np.sqrt(np.square(centred).mean(-1, keepdims=True))
    return np.clip(centred / np.where(spread > 1e-6, spread, np.inf), -limit, limit)
