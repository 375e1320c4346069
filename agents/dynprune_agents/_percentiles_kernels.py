"""Cells, bounds and ranks of some samples in compiled loops, for `_percentiles`."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit
from dynprune_env.selection.kernels import STEP, rising_bits, shuffle_ties

_FILTER = 20
"""Bits of a hash: keys that share none with a wanted one are passed over."""

_STRIDE = 64
"""Sorted keys that are passed over where the last of them is in the cell of the first."""


@jit
def fill_keys(scores, keys, order):
    """Numbers in the order of the scores.

    Args:
        scores: (n,) float32, no NaN.
        keys: (n,) uint32, filled.
        order: (n,) uint32, filled with the same.
    """
    bits = scores.view(np.uint32)
    for i in range(len(bits)):
        key = rising_bits(bits[i])
        keys[i] = key
        order[i] = key


@jit
def fill_firsts(order, shift, firsts):
    """The place of the first key in each cell or behind it.

    Args:
        order: (n,) uint32, sorted.
        shift: int, the bits within a cell.
        firsts: (cells + 1,) int64, filled.
    """
    cell, i, n = np.int64(0), 0, len(order)
    while i < n:
        here = np.int64(order[i] >> shift)
        firsts[cell : here + 1] = i
        cell = here + 1
        while i + _STRIDE < n and order[i + _STRIDE] >> shift == here:
            i += _STRIDE
        while i < n and order[i] >> shift == here:
            i += 1
    firsts[cell:] = n


@jit
def decide(keys, draws, bounds, shift, drawn, at, unsure, theirs, count):
    """Which draws are below the bound where their cell begins, and which between this and its end.

    Args:
        keys: (m,) uint32.
        draws: (m,) float64.
        bounds: (cells + 1,) float64, rising.
        shift: int, the bits within a cell.
        drawn: (m,) bool, filled.
        at: int, the place of the first.
        unsure: (some,) int64, filled on as far as it goes, with places.
        theirs: (some,) float64, likewise, with the draws of these.
        count: int, how many are unsure so far.

    Returns:
        How many are unsure now.
    """
    last = len(unsure) - 1
    for i in range(len(keys)):
        cell, draw = np.uint64(keys[i] >> shift), draws[i]
        below = draw < bounds[cell]
        drawn[i] = below
        place = np.uint64(min(count, last))
        unsure[place], theirs[place] = at + i, draw  # overwritten unless they are counted
        count += (not below) & (draw < bounds[cell + np.uint64(1)])
    return count


@jit
def find(keys, wanted, ids):
    """Who has a wanted key.

    Args:
        keys: (n,) uint32.
        wanted: (k,) uint32, sorted.
        ids: as many int64 as there are, filled.
    """
    marked = np.zeros(1 << _FILTER, np.bool_)
    mask = np.uint32((1 << _FILTER) - 1)
    for key in wanted:
        marked[key & mask] = True
    count = 0
    for i in range(len(keys)):
        if marked[keys[i] & mask]:
            place = np.searchsorted(wanted, keys[i])
            if place < len(wanted) and wanted[place] == keys[i]:
                ids[count] = i
                count += 1


@jit
def count_equal(order, begins, equal):
    """How many keys before each place equal the one before them.

    Args:
        order: (n,) uint32, sorted.
        begins: (k,) int64, rising.
        equal: (k,) uint64, filled.
    """
    total, at = 0, 0
    for k in range(len(begins)):
        here, before = order[max(at, 1) : begins[k]], order[max(at, 1) - 1 : begins[k]]
        for i in range(len(here)):
            total += here[i] == before[i]
        at = begins[k]
        equal[k] = total


@jit
def shuffle(pairs, sizes, begins, equal, seed, ranks):
    """The ranks of keys, of which equal ones are put in the order that `add_ranks` gives them.

    Args:
        pairs: (m,) uint64, sorted: the key in the high half, the sample in the low one;
            overwritten.
        sizes: (k,) int64, how many have each key.
        begins: (k,) int64, the first rank of each.
        equal: (k,) uint64, how many ties there are before each.
        seed: uint64, of the ties.
        ranks: (m,) int64, filled.
    """
    start = 0
    for k in range(len(sizes)):
        end = start + sizes[k]
        shuffle_ties(pairs, start, end, np.uint64(seed) + STEP * equal[k])
        for place in range(start, end):
            ranks[place] = begins[k] + place - start
        start = end
