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
