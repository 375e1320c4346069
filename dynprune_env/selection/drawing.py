"""Random subsets of an exact size, without an array of what was drawn."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import HAS_NUMBA, LARGE
from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection.ranking import draws_among, keep_top

_PART = 8_192
"""Draws that are made and looked at while they lie in a near cache."""


def keep_random(
    n: int, count: int | np.ndarray, rng: ReplicaRandom, among: np.ndarray | None = None
) -> np.ndarray:
    """Keeps so many samples of each row at random: those of the highest uniform draws.

    What `keep_top(rng.random(n), count, rng)` returns, and of `draws_among(among, rng)`.

    Args:
        n: how many samples there are.
        count: how many to keep in each row, one number or (R,); clipped to [0, n].
        rng: draws, n for each row.
        among: (R, n) or (n,) bool, who is kept first; None means all.

    Returns:
        Bool mask, (R, n) or (n,), with exactly `count` True in each row.
    """
    if not HAS_NUMBA or n < LARGE:
        return keep_top(rng.random(n) if among is None else draws_among(among, rng), count, rng)
    keep = np.empty((len(rng.seeds), n), dtype=bool)
    masks = np.ones((1, n), dtype=bool) if among is None else np.atleast_2d(among)
    masks = np.broadcast_to(np.ascontiguousarray(masks), keep.shape)
    for row, k in enumerate(np.broadcast_to(np.clip(count, 0, n), len(keep))):
        generator, mask = rng.row(row), masks[row]
        before = generator.bit_generator.state
        if not _fill_kept(mask, int(k), generator, keep[row]):
            generator.bit_generator.state = before
            only = rng.only(row)
            keep[row] = keep_top(draws_among(mask, only), int(k), only)
    return keep if rng.batched else keep[0]


def _fill_kept(mask: np.ndarray, k: int, generator: np.random.Generator, keep: np.ndarray) -> bool:
    """Fills one row of `keep_random`; False if the threshold is not where it was looked for.

    Draws are uniform, so that the k-th highest of them is known but for six deviations.
    """
    from dynprune_env.selection.kernels import take_drawn  # slow to import

    among = np.count_nonzero(mask)
    if not 0 < k <= among:
        return False
    low, high = 1 - k / among + np.array([-3, 3]) / np.sqrt(among)
    between, places = np.empty(among + 1), np.empty(among + 1, dtype=np.int64)
    draws, taken = np.empty(_PART), 0
    for at in range(0, len(mask), _PART):
        part = slice(at, min(len(mask), at + _PART))
        drawn = draws[: part.stop - at]
        generator.random(out=drawn)
        taken = take_drawn(drawn, mask[part], low, high, keep[part], between, places, at, taken)
    between, places = between[:taken], places[:taken]
    left = k - np.count_nonzero(keep)
    if not 0 < left <= taken:
        return False
    threshold = np.partition(between, taken - left)[taken - left]
    keep[places[between > threshold]] = True
    tied = places[between == threshold]
    spare = left - np.count_nonzero(between > threshold)
    if spare < len(tied):  # as `keep_top` chooses among them
        tied = generator.choice(tied, spare, replace=False, shuffle=False)
    keep[tied] = True
    return True
