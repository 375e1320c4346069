"""How several rules draw: by probabilities without replacement, and class by class."""

from __future__ import annotations

import numpy as np

from dynprune_agents._blocks import blocks
from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.common.randomness import ReplicaRandom

SAMPLE = 32_768
"""Scores of all classes from which the bounds of a threshold are guessed."""


def gumbel(count: int, rng: ReplicaRandom) -> np.ndarray:
    """Standard Gumbel noise, (R, n) or (n,).

    The top k of log p and this are k draws without replacement, each with a probability
    proportional to p among what is left (Kool et al. 2019, arXiv:1903.06059).
    """
    noise = rng.random(count)
    np.log(np.maximum(noise, 1e-300, out=noise), out=noise)
    np.log(np.negative(noise, out=noise), out=noise)
    return np.negative(noise, out=noise)


def race(weights: np.ndarray, rng: ReplicaRandom) -> np.ndarray:
    """Scores whose top k are k draws without replacement in proportion to weights.

    Those of `log(weights) + gumbel(...)` in another measure: minus the arrival times of Poisson
    processes with these rates (Efraimidis & Spirakis 2006). One logarithm instead of three.

    Args:
        weights: (R, n) or (n,) float64, at least 0; those of 0 come last, at -inf.
        rng: draws.
    """
    scores = np.empty(weights.shape)
    with np.errstate(divide="ignore", over="ignore"):
        for row, scored in enumerate(np.atleast_2d(scores)):
            rates, generator = weights.reshape(-1, weights.shape[-1])[row], rng.row(row)
            for part in blocks(len(rates)):
                times = scored[part]
                generator.random(out=times)
                np.log(np.maximum(times, 1e-300, out=times), out=times)
                np.divide(times, rates[part], out=times)
    return scores


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


def class_sums(
    weights: np.ndarray, labels: np.ndarray, mask: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class: how many samples, and the weights of all and of those of the mask, (C,) each.

    Args:
        weights: (n,) float64.
        labels: (n,) whole numbers in [0, C).
        mask: (n,) bool.
        classes: C.
    """
    if HAS_NUMBA:
        from dynprune_agents._draws_kernels import add_by_class  # slow to import

        sizes, (sums, held) = np.zeros(classes, dtype=np.int64), np.zeros((2, classes))
        add_by_class(weights, np.ascontiguousarray(labels), mask, sizes, sums, held)
        return sizes, sums, held
    labels = labels.astype(np.int64)
    sizes = np.bincount(labels, minlength=classes)
    return (
        sizes,
        np.bincount(labels, weights, classes),
        np.bincount(labels, weights * mask, classes),
    )


def top_of_each_class(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """The highest scores of each class, (n,) bool.

    Args:
        scores: (n,) float64; of equal ones, the first are kept.
        labels: (n,) whole numbers in [0, C).
        counts: (C,) how many of each class; at most as many as it has.
        sizes: (C,) int64, how many it has.
    """
    if HAS_NUMBA and len(labels) >= LARGE:
        return _top_by_thresholds(scores, labels, counts, sizes)
    labels = labels.astype(np.int64)
    order = np.lexsort((-scores, labels))
    place = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[order]]
    mask = np.zeros(len(labels), dtype=bool)
    mask[order] = place < counts[labels[order]]
    return mask


def _top_by_thresholds(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """The same by the lowest kept score of each class, without a sort.

    Looks for it only between two bounds that a sample gives, as `keep_top` does.
    """
    from dynprune_agents._draws_kernels import fill_top, take_by_class  # slow to import

    labels, above = np.ascontiguousarray(labels), np.zeros(len(counts), dtype=np.int64)
    between, whose = np.empty_like(scores), np.empty_like(labels)
    bounds = _bounds_of_classes(scores, labels, counts / np.maximum(sizes, 1))
    taken = take_by_class(scores, labels, *bounds, above, between, whose)
    found = _thresholds(between[:taken], whose[:taken], counts - above)
    if found is None:
        found = _thresholds(scores, labels, counts)
    mask = np.empty(len(labels), dtype=bool)
    fill_top(scores, labels, *found, mask)  # type: ignore[misc]
    return mask


def _bounds_of_classes(
    scores: np.ndarray, labels: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Between which two scores the lowest of each class's kept share (C,) should be, (C,) each."""
    step = max(1, len(scores) // SAMPLE)
    low, high = np.full(len(kept), -np.inf), np.full(len(kept), np.inf)
    for label, own in enumerate(_by_class(scores[::step], labels[::step], len(kept))):
        own.sort()
        middle, margin = len(own) * (1 - kept[label]), 3 * np.sqrt(len(own))
        if middle > margin:
            low[label] = own[int(middle - margin)]
        if middle + margin < len(own):
            high[label] = own[int(middle + margin)]
    return low, high


def _thresholds(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest kept score of each class, and how many that equal it are kept; (C,) each.

    None if a class has not as many as are to be kept.
    """
    thresholds, spare = np.full(len(counts), np.inf), np.zeros(len(counts), dtype=np.int64)
    for label, own in enumerate(_by_class(scores, labels, len(counts))):
        least = len(own) - counts[label]
        if not 0 <= least <= len(own):
            return None
        if least < len(own):
            own.partition(least)
            thresholds[label] = own[least]
            spare[label] = counts[label] - np.count_nonzero(own > own[least])
    return thresholds, spare


def _by_class(scores: np.ndarray, labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """The scores of each class, copied."""
    from dynprune_agents._draws_kernels import deal  # slow to import

    ends = np.cumsum(np.bincount(labels.astype(np.int64), minlength=classes))
    dealt = np.empty(len(labels))
    deal(scores, labels, np.concatenate([[0], ends[:-1]]), dealt)
    return np.split(dealt, ends[:-1])
