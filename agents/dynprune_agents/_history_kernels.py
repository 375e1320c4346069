"""Histories of losses in compiled loops, block by block; `_history` and its rules are plain."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit

_BLOCK = 512
"""Samples whose windows lie in a near cache together."""


@jit
def remember(visits, before, loss, epoch, heads, known, losses, epochs):
    """Takes one replica's new losses in.

    Args:
        visits: (n,) float32, so far.
        before: (n,) float32, those at the last call; overwritten.
        loss: (n,) float32, the last ones.
        epoch: int64, epochs done.
        heads: (n,) int32, the row that each sample's next loss goes to; overwritten.
        known: (n,) int32, how many losses are kept; overwritten.
        losses: (length, n) float32, overwritten.
        epochs: (length, n) int32, overwritten.
    """
    length = np.int32(len(losses))
    for i in range(len(visits)):
        new, row = visits[i] > before[i], heads[i]
        value, at = losses[row, i], epochs[row, i]  # written back where nothing is new: no branch
        losses[row, i] = loss[i] if new else value
        epochs[row, i] = epoch if new else at
        row += np.int32(new)
        heads[i] = np.int32(0) if row == length else row
        known[i] = min(known[i] + np.int32(new), length)
        before[i] = visits[i]


# One array written a loop: more would have to be proven apart, and it would not be vectorised.


@jit
def _add(values, total):
    for i in range(len(values)):
        total[i] += values[i]


@jit
def _add_squares(values, means, known, row, total):
    for i in range(len(values)):
        change = values[i] - means[i]
        total[i] += change * change if known[i] > row else 0.0


@jit
def fill_deviations(losses, known, deviations):
    """Standard deviations of the known losses, 0 for none; (n,) float32, filled.

    Args:
        losses: (length, n) float32, 0 where none is known.
        known: (n,) int32.
        deviations: (n,) float32, filled.
    """
    length, n = losses.shape
    for at in range(0, n, _BLOCK):  # slices, whose places need no look for negative ones
        part = slice(at, min(n, at + _BLOCK))
        count, found = known[part], deviations[part]
        means, squares = np.zeros(len(count)), np.zeros(len(count))
        for row in range(length):
            _add(losses[row, part], means)
        for i in range(len(count)):
            means[i] /= max(count[i], 1)
        for row in range(length):
            _add_squares(losses[row, part], means, count, row, squares)
        for i in range(len(count)):
            found[i] = np.sqrt(squares[i] / max(count[i], 1))


@jit
def fill_slopes(losses, epochs, heads, known, slopes):
    """From the first known loss to the newest, per epoch; 0 where there are not two of them.

    Args:
        losses: (length, n) float32.
        epochs: (length, n) int32.
        heads: (n,) int32, the row behind the newest.
        known: (n,) int32.
        slopes: (n,) float64, filled.
    """
    length = len(losses)
    for i in range(len(slopes)):
        first = heads[i] if known[i] == length else 0
        last = heads[i] - 1 if heads[i] else length - 1
        rise = np.float64(losses[last, i]) - np.float64(losses[first, i])
        slopes[i] = rise / max(epochs[last, i] - epochs[first, i], 1) if known[i] > 1 else 0.0


@jit
def _look_up(reference, places, known, row, values):
    for i in range(len(values)):
        value = reference[np.uint32(places[i])]
        values[i] = value if known[i] > row else 0.0


@jit
def _centre(values, means, known, row, centred):
    for i in range(len(values)):
        change = values[i] - means[i]
        centred[i] = change if known[i] > row else 0.0


@jit
def _add_products(left, right, total):
    for i in range(len(left)):
        total[i] += left[i] * right[i]


@jit
def fill_correlations(losses, epochs, known, least, reference, correlations):
    """Pearson's of the known losses with the reference in their epochs.

    Args:
        losses: (length, n) float32, 0 where none is known.
        epochs: (length, n) int32, 0 likewise.
        known: (n,) int32.
        least: int, 0 is the answer for fewer losses.
        reference: (epochs + 1,) float64.
        correlations: (n,) float64, filled.
    """
    length, n = losses.shape
    values, buffer = np.empty((length, _BLOCK)), np.empty(_BLOCK)
    for at in range(0, n, _BLOCK):
        part = slice(at, min(n, at + _BLOCK))
        count, found = known[part], correlations[part]
        m = len(count)
        means, others = np.zeros(m), np.zeros(m)
        products, squares, lengths = np.zeros(m), np.zeros(m), np.zeros(m)
        for row in range(length):
            _add(losses[row, part], means)
            _look_up(reference, epochs[row, part], count, row, values[row, :m])
            _add(values[row, :m], others)
        for i in range(m):
            means[i] /= max(count[i], 1)
            others[i] /= max(count[i], 1)
        for row in range(length):
            left, right = buffer[:m], values[row, :m]
            _centre(losses[row, part], means, count, row, left)
            _centre(right, others, count, row, right)
            _add_products(left, right, products)
            _add_products(left, left, squares)
            _add_products(right, right, lengths)
        for i in range(m):
            size = np.sqrt(squares[i] * lengths[i])
            varies = (size > 1e-12) & (count[i] >= least)
            found[i] = products[i] / (size if varies else 1.0) * varies
