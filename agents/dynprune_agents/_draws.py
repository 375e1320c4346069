"""How several rules draw: by probabilities without replacement, and class by class."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.common.randomness import ReplicaRandom


def gumbel(count: int, rng: ReplicaRandom) -> np.ndarray:
    """Standard Gumbel noise, (R, n) or (n,).

    The top k of log p and this are k draws without replacement, each with a probability
    proportional to p among what is left (Kool et al. 2019, arXiv:1903.06059).
    """
    noise = rng.random(count)
    np.log(np.maximum(noise, 1e-300, out=noise), out=noise)
    np.log(np.negative(noise, out=noise), out=noise)
    return np.negative(noise, out=noise)


def rising(draws: np.ndarray) -> np.ndarray:
    """The places of (m,) uniform draws from [0, 1) in rising order, (m,) int64: a permutation."""
    if not HAS_NUMBA:
        return np.argsort(draws)
    from dynprune_agents._draws_kernels import fill_keys, fill_order  # slow to import

    keys, order = np.empty(len(draws), np.uint64), np.empty(len(draws), np.int64)
    mask = np.uint64((1 << len(draws).bit_length()) - 1)
    fill_keys(draws, mask, keys)
    keys.sort()
    fill_order(keys, draws, mask, order)
    return order


def shares(wanted: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """How many to draw from each class, (C,) int64: in proportion, none more than it has.

    What a class cannot give is shared by the others.

    Args:
        wanted: (C,) at least 0.
        sizes: (C,) int64, samples of each class.
        count: in all; at most their sum.
    """
    drawn = np.zeros(len(sizes))
    open_ = (sizes > 0) & (wanted > 0)
    while open_.any():
        left = count - drawn[~open_].sum()
        drawn[open_] = left * wanted[open_] / wanted[open_].sum()
        full = open_ & (drawn >= sizes)
        if not full.any():
            break
        drawn[full] = sizes[full]
        open_ &= ~full
    whole = np.floor(drawn + 1e-9).astype(np.int64)
    rest = np.where(whole < sizes, drawn - whole, -1)
    while whole.sum() < count:
        place = int(rest.argmax()) if rest.max() >= 0 else int((sizes - whole).argmax())
        whole[place] += 1
        rest[place] = -1
    return whole


def top_of_each_class(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The highest scores of each class, (n,) bool.

    Args:
        scores: (n,) float64; of equal ones, the first are kept.
        labels: (n,) int64 in [0, C).
        counts: (C,) how many of each class; at most as many as it has.
    """
    sizes = np.bincount(labels, minlength=len(counts))
    if HAS_NUMBA and len(labels) >= LARGE:
        return _top_by_thresholds(scores, labels, counts, sizes)
    order = np.lexsort((-scores, labels))
    place = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[order]]
    mask = np.zeros(len(labels), dtype=bool)
    mask[order] = place < counts[labels[order]]
    return mask


def _top_by_thresholds(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """The same by the lowest kept score of each class, without a sort."""
    from dynprune_agents._draws_kernels import deal, fill_top  # slow to import

    starts = np.cumsum(sizes) - sizes
    dealt = np.empty(len(labels))
    deal(scores, labels, starts.copy(), dealt)
    thresholds = np.full(len(counts), np.inf)
    spare = np.zeros(len(counts), dtype=np.int64)
    for label in np.flatnonzero(counts > 0):
        own, least = dealt[starts[label] : starts[label] + sizes[label]], sizes[label]
        least -= min(counts[label], least)
        own.partition(least)
        thresholds[label] = own[least]
        spare[label] = counts[label] - np.count_nonzero(own > own[least])
    mask = np.empty(len(labels), dtype=bool)
    fill_top(scores, labels, thresholds, spare, mask)
    return mask
