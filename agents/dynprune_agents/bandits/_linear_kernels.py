"""The linear bandits' sums and scores in compiled loops, block by block; `_linear` is plain."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit

_WIDE, _BLOCK = 256, 64
"""Samples whose features, and fewer whose sums of products too, lie in a near cache together."""


@jit
def fill_moments(columns, means, scales):
    """Means of columns and one over their deviations, 0 for none, in one pass.

    Args:
        columns: F of (n,) floats each.
        means: (F,) float64, filled.
        scales: (F,) float64, filled.
    """
    n = len(columns[0])
    for j in range(len(columns)):
        column = columns[j]
        start = 0.0  # near the mean, so that the squares do not cancel
        for i in range(min(n, _WIDE)):
            start += column[i]
        start /= min(n, _WIDE)
        sums, squares = np.zeros(_WIDE), np.zeros(_WIDE)
        for at in range(0, n, _WIDE):
            block = column[at : at + _WIDE]
            for i in range(len(block)):
                change = block[i] - start
                sums[i] += change
                squares[i] += change * change
        change = sums.sum() / n
        spread = np.sqrt(max(squares.sum() / n - change * change, 0.0))
        means[j] = start + change
        scales[j] = 1 / spread if spread > 1e-6 else 0.0


@jit
def _fill_block(columns, means, scales, at, size, x):
    """Clipped z-scores of some samples into x (F + 1, _WIDE), behind a constant."""
    for j in range(len(columns)):
        column, row, mean, scale = columns[j][at : at + size], x[j + 1], means[j], scales[j]
        for i in range(len(column)):
            row[i] = min(max((column[i] - mean) * scale, -3.0), 3.0)


@jit
def _add_scaled(factor, values, total):
    for i in range(len(values)):
        total[i] += factor * values[i]


@jit
def _fill_uncertainty(x, covariance, uncertainty, part):
    """The roots of x' C x of a block; `part` is overwritten."""
    uncertainty[:] = 0
    for j in range(len(x)):
        part[:] = 0
        for k in range(j):
            _add_scaled(2 * covariance[j, k], x[k], part)
        _add_scaled(covariance[j, j], x[j], part)
        row = x[j]
        for i in range(len(row)):
            uncertainty[i] += part[i] * row[i]
    for i in range(len(uncertainty)):
        uncertainty[i] = np.sqrt(max(uncertainty[i], 0.0))


@jit
def fill_scores(columns, means, scales, weights, covariance, alpha, scores):
    """Predictions, and alpha times their uncertainty.

    Args:
        columns: F of (n,) floats each.
        means: (F,) float64.
        scales: (F,) float64, one over the deviations.
        weights: (F + 1,) float64, of the constant and the features.
        covariance: (F + 1, F + 1) float64, symmetric.
        alpha: float64.
        scores: (n,) float64, filled.
    """
    n, size = len(scores), len(weights)
    x, part, square = np.ones((size, _WIDE)), np.empty(_WIDE), np.empty(_WIDE)
    for at in range(0, n, _WIDE):
        m = min(_WIDE, n - at)
        _fill_block(columns, means, scales, at, m, x)
        part[:] = 0
        if alpha:
            _fill_uncertainty(x, covariance, part, square)
        part *= alpha
        for j in range(size):
            _add_scaled(weights[j], x[j], part)
        scores[at : at + m] = part[:m]


@jit
def fill_sums(columns, means, scales, visited, paid, precision, moment):
    """Sums of x x' and of x times what was paid, over the visited samples.

    Args:
        columns: F of (n,) floats each.
        means: (F,) float64.
        scales: (F,) float64, one over the deviations.
        visited: (n,) bool.
        paid: (n,) floats.
        precision: (F + 1, F + 1) float64, filled.
        moment: (F + 1,) float64, filled.
    """
    n, size = len(visited), len(moment)
    x, used, value = np.ones((size, _BLOCK)), np.zeros(_BLOCK), np.zeros(_BLOCK)
    products, sums = np.zeros((size, size, _BLOCK)), np.zeros((size, _BLOCK))
    for at in range(0, n, _BLOCK):
        m = min(_BLOCK, n - at)
        _fill_block(columns, means, scales, at, m, x)
        used[:] = 0
        for i in range(m):
            used[i] = visited[at + i]
            value[i] = paid[at + i]
        for j in range(size):
            for k in range(j + 1):
                for i in range(_BLOCK):
                    products[j, k, i] += used[i] * x[j, i] * x[k, i]
            for i in range(_BLOCK):
                sums[j, i] += used[i] * x[j, i] * value[i]
    for j in range(size):
        moment[j] = sums[j].sum()
        for k in range(j + 1):
            precision[j, k] = precision[k, j] = products[j, k].sum()
