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
def fill_order(draws, order):
    """The places of uniform draws in rising order: buckets of a few, then insertion.

    Args:
        draws: (m,) float64 in [0, 1).
        order: (m,) int64, filled.
    """
    m = len(draws)
    buckets = m // 4 + 1
    places = np.zeros(buckets + 1, np.int64)
    for i in range(m):
        places[np.uint64(draws[i] * buckets) + np.uint64(1)] += 1
    for bucket in range(buckets):
        places[bucket + 1] += places[bucket]
    for i in range(m):
        bucket = np.uint64(draws[i] * buckets)
        order[places[bucket]] = i
        places[bucket] += 1
    for k in range(1, m):  # nothing has far to go
        i, at = order[k], k
        while at > 0 and draws[order[at - 1]] > draws[i]:
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
