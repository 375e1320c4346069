"""Histories of losses in compiled loops, block by block; `_history` and its rules are plain."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit

_BLOCK = 512
"""Samples whose windows lie in a near cache together."""


@jit
def _move_on(visits, before, heads, length):
    for i in range(len(visits)):
        row = heads[i] + np.int32(visits[i] > before[i])
        heads[i] = np.int32(0) if row == length else row


@jit
def _count(visits, before, known, length):
    for i in range(len(visits)):
        known[i] = min(known[i] + np.int32(visits[i] > before[i]), length)


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
    n, length = len(visits), np.int32(len(losses))
    ids = np.empty(_BLOCK + 1, np.uint32)
    all_losses, all_epochs = losses.reshape(-1), epochs.reshape(-1)
    for at in range(0, n, _BLOCK):
        part = slice(at, min(n, at + _BLOCK))
        seen, last, rows, values = visits[part], before[part], heads[part], loss[part]
        count = np.uint64(0)
        for i in range(len(seen)):
            ids[count] = i  # overwritten unless it is counted
            count += np.uint64(seen[i] > last[i])
        for k in range(count):  # the rings are only touched where something is new
            i = ids[k]
            place = np.uint64(np.uint32(rows[i])) * np.uint64(n) + np.uint64(at) + np.uint64(i)
            all_losses[place] = values[i]
            all_epochs[place] = epoch
        _move_on(seen, last, rows, length)
        _count(seen, last, known[part], length)
        last[:] = seen


# Sums are of differences from a sample's first row, one of its own values: squares of these cancel
# by no more than the number of losses, so that one pass over the rings is enough, and a sample
# that does not vary has sums of exactly 0.


@jit
def _add_four(a, b, c, d, known, first, row, sums, squares):
    for i in range(len(a)):
        start, count = np.float64(first[i]), known[i]
        w = a[i] - start if count > row else 0.0
        x = b[i] - start if count > row + np.int32(1) else 0.0
        y = c[i] - start if count > row + np.int32(2) else 0.0
        z = d[i] - start if count > row + np.int32(3) else 0.0
        sums[i] += (w + x) + (y + z)
        squares[i] += (w * w + x * x) + (y * y + z * z)


@jit
def fill_deviations(losses, known, deviations):
    """Standard deviations of the known losses, 0 for none; (n,) float32, filled.

    Args:
        losses: (length, n) float32.
        known: (n,) int32.
        deviations: (n,) float32, filled.
    """
    length, n = losses.shape
    buffers = np.empty((2, _BLOCK))
    for at in range(0, n, _BLOCK):  # slices, whose places need no look for negative ones
        part = slice(at, min(n, at + _BLOCK))
        count, found = known[part], deviations[part]
        sums, squares = buffers[0, : len(count)], buffers[1, : len(count)]
        sums[:], squares[:] = 0.0, 0.0
        for row in range(1, length, 4):  # beyond the end any row will do: nothing counts there
            a, b = losses[row, part], losses[min(row + 1, length - 1), part]
            c, d = losses[min(row + 2, length - 1), part], losses[min(row + 3, length - 1), part]
            _add_four(a, b, c, d, count, losses[0, part], np.int32(row), sums, squares)
        for i in range(len(count)):
            rate = 1.0 / max(count[i], 1)
            mean = sums[i] * rate
            found[i] = np.sqrt(max(squares[i] * rate - mean * mean, 0.0))


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
        head = np.uint32(heads[i])  # without a sign: no place needs a look for negative ones
        first = head if known[i] == length else np.uint32(0)
        last = (head if head else np.uint32(length)) - np.uint32(1)
        rise = np.float64(losses[last, i]) - np.float64(losses[first, i])
        slopes[i] = rise / max(epochs[last, i] - epochs[first, i], 1) if known[i] > 1 else 0.0


@jit
def _differ(losses, first, known, row, changes):
    for i in range(len(losses)):
        change = np.float64(losses[i]) - np.float64(first[i])
        changes[i] = change if known[i] > row else 0.0


@jit
def _look_up(reference, places, told, known, row, changes):
    for i in range(len(places)):
        change = reference[np.uint32(places[i])] - told[i]
        changes[i] = change if known[i] > row else 0.0


@jit
def _add_products(changes, m, sums):
    for i in range(m):  # two rows at once: the sums are read half as often
        x, y, v, w = changes[0, i], changes[1, i], changes[2, i], changes[3, i]
        sums[0, i] += x + v
        sums[1, i] += y + w
        sums[2, i] += x * x + v * v
        sums[3, i] += y * y + w * w
        sums[4, i] += x * y + v * w


@jit
def fill_correlations(losses, epochs, known, least, reference, correlations):
    """Pearson's of the known losses with the reference in their epochs.

    Args:
        losses: (length, n) float32.
        epochs: (length, n) int32, 0 where none is known.
        known: (n,) int32.
        least: int, 0 is the answer for fewer losses.
        reference: (epochs + 1,) float64.
        correlations: (n,) float64, filled.
    """
    length, n = losses.shape
    sums, told, changes = np.empty((5, _BLOCK)), np.empty(_BLOCK), np.empty((4, _BLOCK))
    for at in range(0, n, _BLOCK):
        part = slice(at, min(n, at + _BLOCK))
        count, found, first = known[part], correlations[part], epochs[0, part]
        sums[:] = 0.0
        for i in range(len(count)):
            told[i] = reference[np.uint32(first[i])]
        for row in range(1, length, 2):
            for k in range(2):  # beyond the end any row will do: nothing counts there
                at_row, place = min(row + k, length - 1), np.int32(row + k)
                _differ(losses[at_row, part], losses[0, part], count, place, changes[2 * k])
                _look_up(reference, epochs[at_row, part], told, count, place, changes[2 * k + 1])
            _add_products(changes, len(count), sums)
        for i in range(len(count)):
            rate = 1.0 / max(count[i], 1)
            x, y = sums[0, i] * rate, sums[1, i] * rate
            squares = max(sums[2, i] - sums[0, i] * x, 0.0)
            lengths = max(sums[3, i] - sums[1, i] * y, 0.0)
            size = np.sqrt(squares * lengths)
            varies = (size > 1e-12) & (count[i] >= least)
            found[i] = (sums[4, i] - sums[0, i] * y) / (size if varies else 1.0) * varies
