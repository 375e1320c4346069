"""Decisions by ranks of which only few have to be known: those that bounds leave open."""

from __future__ import annotations

import numpy as np

from dynprune_agents._blocks import blocks
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.ranking import rank

_SHIFT = 16
"""Bits of a key that its cell leaves out."""


def drawn_by_rank(scores: np.ndarray, beta: float, rng: ReplicaRandom) -> np.ndarray:
    """Whether a uniform draw is below (rank(scores, rng) / n) ** beta, (n,) bool.

    The same as with all ranks. Most draws are decided by the first and the last rank of the cell
    that a score is in, so that sorting 32 bits a sample is enough, and nothing is put back.

    Args:
        scores: (n,) float32, no NaN.
        beta: at least 0.
        rng: of one replica.
    """
    from dynprune_agents._percentiles_kernels import decide, fill_firsts, fill_keys  # slow

    n, generator = len(scores), rng.row(0)
    before = generator.bit_generator.state
    seed = generator.integers(1 << 63, dtype=np.uint64)
    keys, firsts = np.empty(n, np.uint32), np.empty((1 << 32 - _SHIFT) + 1, np.int64)
    order = np.empty_like(keys)
    fill_keys(np.ascontiguousarray(scores), keys, order)
    order.sort()
    fill_firsts(order, _SHIFT, firsts)
    bounds, drawn = _powers(firsts, n, beta), np.empty(n, dtype=bool)
    unsure, theirs, count = np.empty(1 + n // 16, np.int64), np.empty(1 + n // 16), 0
    for part in blocks(n):
        draws = generator.random(len(drawn[part]))
        some = (keys[part], draws, bounds, _SHIFT, drawn[part], part.start)
        count = decide(*some, unsure, theirs, count)
    if count > len(unsure):  # many equal scores
        generator.bit_generator.state = before
        percentiles = rank(scores, rng) / n
        return rng.random(n) < percentiles**beta
    unsure, theirs = unsure[:count], theirs[:count]
    ids, ranks = _ranks(keys, order, np.unique(keys[unsure]), seed)
    places = np.searchsorted(unsure, ids)  # some have the key of another that is unsure
    among = np.flatnonzero(unsure.take(places, mode="clip") == ids) if count else places
    drawn[ids[among]] = theirs[places[among]] < (ranks[among] / n) ** beta
    return drawn


def _powers(firsts: np.ndarray, n: int, beta: float) -> np.ndarray:
    """(firsts / n) ** beta, same shape; most cells are empty and begin where the next one does."""
    ends = np.flatnonzero(np.diff(firsts, append=-1))
    powers: np.ndarray = (firsts[ends] / n) ** beta
    return np.repeat(powers, np.diff(ends, prepend=-1))


def _ranks(
    keys: np.ndarray, order: np.ndarray, wanted: np.ndarray, seed: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """Who has a wanted key, and their ranks as `selection.rank` gives them; (m,) int64 each.

    Args:
        keys: (n,) uint32.
        order: (n,) the same, sorted.
        wanted: some of them, sorted, each once.
        seed: of the ties.
    """
    from dynprune_agents._percentiles_kernels import count_equal, find, shuffle  # slow to import

    begins = np.searchsorted(order, wanted)
    sizes = np.searchsorted(order, wanted, side="right") - begins
    ids = np.empty(sizes.sum(), np.int64)
    find(keys, wanted, ids)
    pairs = (keys[ids].astype(np.uint64) << np.uint64(32)) | ids.astype(np.uint64)
    pairs.sort()
    equal, ranks = np.empty(len(wanted), np.uint64), np.empty(len(ids), np.int64)
    count_equal(order, begins, equal)
    shuffle(pairs, sizes, begins, equal, seed, ranks)
    return (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64), ranks
