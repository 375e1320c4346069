"""Draws class by class and batch by batch in compiled loops; `_draws` and the rules are plain."""

from __future__ import annotations

import numpy as np

from dynprune_env.common.jit import jit


@jit
def add_by_class(weights, labels, mask, sizes, sums, held):
    """What `_draws.class_sums` returns.

    Args:
        weights: (n,) float64.
        labels: (n,) whole numbers in [0, C).
        mask: (n,) bool.
        sizes: (C,) int64, zeros to add to.
        sums: (C,) float64, likewise.
        held: (C,) float64, likewise.
    """
    for i in range(len(weights)):
        label = np.uint64(labels[i])
        sizes[label] += 1
        sums[label] += weights[i]
        held[label] += weights[i] * mask[i]


@jit
def add_rows_by_class(rows, labels, sums):
    """The sum of the rows of each class.

    Args:
        rows: (n, d) floats.
        labels: (n,) whole numbers in [0, C).
        sums: (C, d) float64, zeros to add to.
    """
    for i in range(len(rows)):
        row, own = rows[i], sums[np.uint64(labels[i])]
        for j in range(len(row)):
            own[j] += row[j]


@jit
def take_by_class(scores, labels, low, high, above, between, whose):
    """What lies in its class's (low, high], and how many of each class are above.

    Args:
        scores: (n,) float64.
        labels: (n,) whole numbers in [0, C).
        low: (C,) float64.
        high: (C,) float64.
        above: (C,) int64, zeros to add to.
        between: (n,) float64, whose beginning is filled.
        whose: (n,) of the labels' type, likewise.

    Returns:
        How many lie between.
    """
    count = 0
    for i in range(len(scores)):
        label, score = np.uint64(labels[i]), scores[i]
        between[count], whose[count] = score, labels[i]  # overwritten unless it is counted
        count += (score > low[label]) & (score <= high[label])
        above[label] += score > high[label]
    return count


@jit
def deal(scores, labels, places, dealt):
    """The scores of class after class.

    Args:
        scores: (n,) float64.
        labels: (n,) whole numbers in [0, C).
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
        labels: (n,) whole numbers in [0, C).
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


_GROUPS = 256


@jit
def mark_steps_by_group(chances, groups, offset, drawn):
    """The same where the order is that of the groups, and of the places within each.

    Args:
        chances: (n,) float64, whose sum is whole but for rounding.
        groups: (n,) uint8.
        offset: float64 in [0, 1), of the steps.
        drawn: (n,) bool, filled.
    """
    sums = np.zeros(_GROUPS)
    for i in range(len(chances)):
        sums[groups[i]] += chances[i]
    begins = np.empty(_GROUPS)
    begin = offset
    for group in range(_GROUPS):
        begins[group] = begin
        begin += sums[group]
    sums[:] = 0  # once more, in the same order: where a group ends the next begins
    for i in range(len(chances)):
        group = groups[i]
        before = sums[group]
        after = before + chances[i]
        drawn[i] = np.floor(begins[group] + after) > np.floor(begins[group] + before)
        sums[group] = after


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
def take_used(used, dealt, ids, draws):
    """Which samples were used, and their draws.

    Args:
        used: (n,) bool.
        dealt: (n,) float64.
        ids: (n,) int64, whose beginning is filled.
        draws: (n,) float64, likewise.

    Returns:
        How many were used.
    """
    count = 0
    for i in range(len(used)):
        ids[count], draws[count] = i, dealt[i]  # overwritten unless it is counted
        count += used[i]
    return count


@jit
def mark_easy(loss, ids, order, batch, easy):
    """Which samples are below the mean of their batch, by more than rounding.

    Args:
        loss: (n,) float32.
        ids: (m,) int64, the samples that are dealt out.
        order: (m,) int64, of the ids, batch after batch.
        batch: int, the size of one.
        easy: (n,) bool, filled where the ids are.
    """
    values = np.empty(batch)
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        total = 0.0
        for k in range(len(part)):
            values[k] = loss[ids[part[k]]]
            total += values[k]
        mean = total / len(part)
        for k in range(len(part)):
            easy[ids[part[k]]] = values[k] < mean - 1e-6 * np.abs(mean)


@jit
def bring_back(rho, epochs, most, used, easy, draws, visits, weights):
    """The weights of `repb`: drops easy samples that were used, brings others back.

    Args:
        rho: float64, how probable it is to drop one, and not to bring one back.
        epochs: int, with the coming one; 0 if all weigh the same.
        most: float, the highest weight.
        used: (m,) bool.
        easy: (m,) bool, of the used ones.
        draws: (m,) float64 in [0, 1).
        visits: (m,) float32.
        weights: (m,) float32, filled.
    """
    total, rise = np.float32(max(epochs, 1)), np.float32(epochs > 0)
    for i in range(len(draws)):
        low, high = rho if easy[i] else 0.0, 1.0 if used[i] else 1 - rho
        weight = total / (visits[i] * rise + np.float32(1))
        kept = (draws[i] >= low) & (draws[i] < high)
        weights[i] = np.float32(kept) * min(weight, np.float32(most))


@jit
def fill_mixed(loss, mean, uniform, importance):
    """Losses over their mean, mixed with ones.

    Args:
        loss: (n,) floats.
        mean: float64, positive.
        uniform: float64, the share of the ones.
        importance: (n,) float64, filled.
    """
    for i in range(len(loss)):
        importance[i] = (1 - uniform) * (loss[i] / mean) + uniform


@jit
def weigh(kept, chances, count, most, weights):
    """One over the chance of what is kept, as a multiple of one over that of all alike.

    Args:
        kept: (n,) bool.
        chances: (n,) float64.
        count: int, their sum.
        most: float, the highest weight.
        weights: (n,) float32, filled.
    """
    for i in range(len(kept)):
        weight = count / (max(chances[i], 1e-12) * len(kept))
        weights[i] = min(kept[i] * weight, most)


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
