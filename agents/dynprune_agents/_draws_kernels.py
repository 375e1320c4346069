"""Draws class by class and batch by batch in compiled loops; `_draws` and the rules are plain."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit


@jit
def deal(scores, labels, places, dealt):
    """The scores of class after class.

    Args:
        scores: (n,) float64.
        labels: (n,) int64 in [0, C).
        places: (C,) int64, where each class begins; overwritten.
        dealt: (n,) float64, filled.
    """
    for i in range(len(scores)):
        label = np.uint64(labels[i])
        dealt[places[label]] = scores[i]
        places[label] += 1


@jit
def fill_top(scores, labels, thresholds, spare, mask):
    """Which scores are above their class's threshold, and the first of those that equal it.

    Args:
        scores: (n,) float64.
        labels: (n,) int64 in [0, C).
        thresholds: (C,) float64.
        spare: (C,) int64, how many of the equal ones; overwritten.
        mask: (n,) bool, filled.
    """
    for i in range(len(scores)):
        label = np.uint64(labels[i])
        mask[i] = scores[i] > thresholds[label]
        if scores[i] == thresholds[label] and spare[label] > 0:
            spare[label] -= 1
            mask[i] = True


@jit
def mark_steps(chances, order, offset, drawn):
    """Which samples a step falls on, where each takes its chance of the way, in this order.

    Args:
        chances: (n,) float64, whose sum is whole but for rounding.
        order: (n,) int64.
        offset: float64 in [0, 1), of the steps.
        drawn: (n,) bool, filled.
    """
    end, last = 0.0, 0.0
    for place in range(len(order)):
        i = np.uint64(order[place])
        end += chances[i]
        if place == len(order) - 1:
            end = np.rint(end)
        step = np.floor(end + offset)
        drawn[i] = step > last
        last = step


@jit
def fill_keys(draws, mask, keys):
    """Numbers in the order of uniform draws, as far as these fit above their places.

    Args:
        draws: (m,) float64 in [0, 1).
        mask: uint64, the bits of a place.
        keys: (m,) uint64, filled.
    """
    for i in range(len(draws)):
        high = np.uint64(draws[i] * 9007199254740992.0) << np.uint64(11)  # 53 bits, all of it
        keys[i] = (high & ~mask) | np.uint64(i)


@jit
def fill_order(keys, draws, mask, order):
    """The places of draws in rising order.

    Args:
        keys: (m,) uint64, sorted.
        draws: (m,) float64 in [0, 1).
        mask: uint64, the bits of a place.
        order: (m,) int64, filled.
    """
    for k in range(len(keys)):
        i, at = np.int64(keys[k] & mask), k
        while at > 0 and keys[at - 1] & ~mask == keys[k] & ~mask:  # rare: the rest decides
            if draws[order[at - 1]] <= draws[i]:
                break
            order[at] = order[at - 1]
            at -= 1
        order[at] = i


@jit
def mark_easy(loss, ids, batch, easy):
    """Which samples are below the mean of their batch, by more than rounding.

    Args:
        loss: (n,) float32.
        ids: (m,) int64, batch after batch.
        batch: int, the size of one.
        easy: (n,) bool, filled where the ids are.
    """
    for at in range(0, len(ids), batch):
        part = ids[at : at + batch]
        total = 0.0
        for i in part:
            total += loss[i]
        mean = total / len(part)
        for i in part:
            easy[i] = loss[i] < mean - 1e-6 * np.abs(mean)


_LANES = 64
"""Sums side by side, so that none waits for the last addition."""


@jit
def fill_inclusion(importance, count, chances):
    """What `importance_sampling.inclusion` returns, but for rounding.

    Args:
        importance: (n,) float64, positive.
        count: int, at most n.
        chances: (n,) float64, filled.
    """
    n = len(importance)
    limit, open_, rate = np.inf, n, 0.0
    while True:
        sums, counts = np.zeros(_LANES), np.zeros(_LANES, np.int64)
        for at in range(0, n, _LANES):
            part = importance[at : at + _LANES]
            for i in range(len(part)):
                sums[i] += part[i] if part[i] < limit else 0.0
            for i in range(len(part)):
                counts[i] += part[i] < limit
        found, total = counts.sum(), sums.sum()
        left = count - (n - found)
        if left >= found:  # all: no rounding may leave one out
            chances[:] = 1
            return
        if found == open_ and limit < np.inf:
            break
        open_, rate = found, left / total if total > 0 else 0.0
        if rate <= 0:
            break
        limit = min(limit, 1 / rate)
    for i in range(n):
        chances[i] = min(importance[i] * rate, 1.0) if importance[i] < limit else 1.0
