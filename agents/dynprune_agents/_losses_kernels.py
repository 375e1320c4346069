"""Passes over the losses of many samples in compiled loops; `_losses` and the rules are plain."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit

_LANES = 64
"""Sums side by side, so that none waits for the last addition."""


@jit
def fill_below_mean(values, below):
    """What `_losses.below_mean` returns, row by row, but for rounding of the mean.

    Args:
        values: (m, n) floats.
        below: (m, n) bool, filled.
    """
    m, n = values.shape
    for row in range(m):
        sums = np.zeros(_LANES)
        for at in range(0, n, _LANES):
            part = values[row, at : at + _LANES]
            for i in range(len(part)):
                sums[i] += part[i]
        mean = sums.sum() / n
        limit = mean - 1e-6 * np.abs(mean)
        for i in range(n):
            below[row, i] = values[row, i] < limit


@jit
def fill_weights(easy, dropped, kept, weights):
    """1 for what is not easy, 0 for what is dropped of the rest, and `kept` for what is not.

    Args:
        easy: (n,) bool.
        dropped: (n,) bool, easy ones only.
        kept: float32.
        weights: (n,) float32, filled.
    """
    for i in range(len(easy)):
        weight = kept if easy[i] else np.float32(1)
        weights[i] = np.float32(0) if dropped[i] else weight


@jit
def fill_changes(trained, now, averaged, scores, changes):
    """How far two losses are apart where a sample was trained; elsewhere the scores.

    Args:
        trained: (m,) bool.
        now: (m,) float32.
        averaged: (m,) float32; where the difference is no number, it counts as 0.
        scores: (m,) float32.
        changes: (m,) float32, filled.
    """
    most, none = np.float32(np.finfo(np.float32).max), np.float32(0)
    for i in range(len(trained)):
        change, score = np.abs(now[i] - averaged[i]), scores[i]
        change = min(change, most) if change == change else none
        changes[i] = change if trained[i] else score


@jit
def follow(loss, visits, old_loss, old_visits, a, from_zero, seen, mean, var):
    """What `LossMoments.watch` does.

    Args:
        loss: (n,) floats.
        visits: (n,) floats.
        old_loss: (n,) floats, at the last call.
        old_visits: (n,) floats, likewise.
        a: of the losses' type, weight of the newest.
        from_zero: bool, whether the first loss deviates from 0.
        seen: (n,) bool, overwritten.
        mean: (n,) of the losses' type, overwritten.
        var: (n,) likewise.
    """
    none = a - a  # 0 of this type
    for i in range(len(loss)):
        value, known = loss[i], seen[i]
        new = (visits[i] > old_visits[i]) | (value != old_loss[i])
        first, difference = new & (not known), value - mean[i]
        moved = var[i] + (a * (difference * difference - var[i]) if new & known else none)
        var[i] = a * (value * value) if first & from_zero else moved
        moved = mean[i] + (a * difference if new & known else none)
        mean[i] = value if first else moved
        seen[i] = new | known


@jit
def evolve(loss, before, age, b1, b2, scores, weights):
    """Moves the scores and weights of `es` by what an epoch revealed.

    Args:
        loss: (n,) floats.
        before: (n,) floats, the losses at the last call.
        age: (n,) floats, epochs since the last visit.
        b1: float64, weight of the old score in the weight.
        b2: float64, likewise in the new score.
        scores: (n,) float64, overwritten where a loss is new.
        weights: (n,) float64, likewise.
    """
    for i in range(len(loss)):
        new, score, weight = (loss[i] != before[i]) | (age[i] == 0), scores[i], weights[i]
        weights[i] = b1 * score + (1 - b1) * loss[i] if new else weight
        scores[i] = b2 * score + (1 - b2) * loss[i] if new else score
