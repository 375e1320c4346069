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
def _z(value, mean, scale):
    return min(max((value - mean) * scale, -3.0), 3.0)


@jit
def _fill_block(columns, means, scales, at, size, x):
    """Clipped z-scores of some samples into x (F + 1, _WIDE), behind a constant."""
    for j in range(len(columns)):
        column, row, mean, scale = columns[j][at : at + size], x[j + 1], means[j], scales[j]
        for i in range(len(column)):
            row[i] = _z(column[i], mean, scale)


# The seven features are written out: only so do they stay in registers.


@jit
def fill_predictions(columns, means, scales, weights, scores):
    """What a linear model predicts.

    Args:
        columns: 7 of (n,) floats each.
        means: (7,) float64.
        scales: (7,) float64, one over the deviations.
        weights: (8,) float64, of the constant and the features.
        scores: (n,) float64, filled.
    """
    column_a, column_b, column_c, column_d, column_e, column_f, column_g = columns
    w, m, s = weights, means, scales
    for i in range(len(scores)):
        score = w[0] + w[1] * _z(column_a[i], m[0], s[0])
        score += w[2] * _z(column_b[i], m[1], s[1])
        score += w[3] * _z(column_c[i], m[2], s[2])
        score += w[4] * _z(column_d[i], m[3], s[3])
        score += w[5] * _z(column_e[i], m[4], s[4])
        score += w[6] * _z(column_f[i], m[5], s[5])
        scores[i] = score + w[7] * _z(column_g[i], m[6], s[6])


@jit
def fill_bounds(columns, means, scales, weights, covariance, alpha, scores):
    """Predictions, and alpha times their uncertainty.

    Args:
        columns: 7 of (n,) floats each.
        means: (7,) float64.
        scales: (7,) float64, one over the deviations.
        weights: (8,) float64, of the constant and the features.
        covariance: (8, 8) float64, symmetric.
        alpha: float64.
        scores: (n,) float64, filled.
    """
    column_a, column_b, column_c, column_d, column_e, column_f, column_g = columns
    w, m, s = weights, means, scales
    p = 2 * covariance  # what lies above the diagonal is added below it
    for j in range(len(p)):
        p[j, j] = covariance[j, j]
    for i in range(len(scores)):
        a, b = _z(column_a[i], m[0], s[0]), _z(column_b[i], m[1], s[1])
        c, d = _z(column_c[i], m[2], s[2]), _z(column_d[i], m[3], s[3])
        e, f = _z(column_e[i], m[4], s[4]), _z(column_f[i], m[5], s[5])
        g = _z(column_g[i], m[6], s[6])
        square = p[0, 0] + (p[1, 0] + p[1, 1] * a) * a
        square += (p[2, 0] + p[2, 1] * a + p[2, 2] * b) * b
        square += (p[3, 0] + p[3, 1] * a + p[3, 2] * b + p[3, 3] * c) * c
        square += (p[4, 0] + p[4, 1] * a + p[4, 2] * b + p[4, 3] * c + p[4, 4] * d) * d
        part = p[5, 0] + p[5, 1] * a + p[5, 2] * b + p[5, 3] * c + p[5, 4] * d
        square += (part + p[5, 5] * e) * e
        part = p[6, 0] + p[6, 1] * a + p[6, 2] * b + p[6, 3] * c + p[6, 4] * d
        square += (part + p[6, 5] * e + p[6, 6] * f) * f
        part = p[7, 0] + p[7, 1] * a + p[7, 2] * b + p[7, 3] * c + p[7, 4] * d
        square += (part + p[7, 5] * e + p[7, 6] * f + p[7, 7] * g) * g
        score = alpha * np.sqrt(max(square, 0.0)) + w[0] + w[1] * a + w[2] * b + w[3] * c
        scores[i] = score + w[4] * d + w[5] * e + w[6] * f + w[7] * g


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
