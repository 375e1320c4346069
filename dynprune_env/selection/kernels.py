"""Ranks, z-scores and sample values in compiled loops; `ranking` and `statistics` are plain."""

from __future__ import annotations

import math

import numpy as np

from dynprune_env.common.jit import jit

_BLOCK = 256
"""Scores looked at together, eight bools a word."""


@jit
def take_between(scores, low, high, between):
    """What lies in (low, high], how many are above, how many equal low, and how many are NaN.

    Args:
        scores: (n,) floats.
        low: of the same type.
        high: likewise.
        between: (n,) likewise, whose beginning is filled.
    """
    count, above, equal, broken = 0, 0, 0, 0
    inside = np.zeros(_BLOCK, np.bool_)
    words = inside.view(np.uint64)
    whole = len(scores) - len(scores) % _BLOCK
    for at in range(0, whole, _BLOCK):
        part = scores[at : at + _BLOCK]
        for i in range(len(inside)):
            score = part[i]
            inside[i] = (score > low) & (score <= high)
            above += score > high
            equal += score == low
            broken += score != score
        for word in range(len(words)):
            if words[word]:  # most have none
                for i in range(8 * word, 8 * word + 8):
                    between[count] = part[i]  # overwritten unless it is counted
                    count += inside[i]
    for score in scores[whole:]:
        between[count] = score
        count += (score > low) & (score <= high)
        above += score > high
        equal += score == low
        broken += score != score
    return count, above, equal, broken


@jit
def take_drawn(draws, mask, low, high, keep, between, places, at, count):
    """Keeps what is above a bound, and collects what lies in (low, high], of a mask's samples.

    Args:
        draws: (m,) float64.
        mask: (m,) bool.
        low: float64.
        high: float64.
        keep: (m,) bool, filled.
        between: float64, whose next entries are filled; one longer than what there can be.
        places: int64, likewise, with the places of these.
        at: int, the place of the first draw.
        count: int, how many entries are filled.

    Returns:
        How many are filled now.
    """
    inside = np.zeros(_BLOCK, np.bool_)
    words = inside.view(np.uint64)
    for start in range(0, len(draws), _BLOCK):
        part, among, kept = (
            draws[start : start + _BLOCK],
            mask[start : start + _BLOCK],
            keep[start : start + _BLOCK],
        )
        inside[:] = False  # the last block is shorter
        for i in range(len(part)):
            inside[i] = among[i] & (part[i] > low) & (part[i] <= high)
        for i in range(len(part)):
            kept[i] = among[i] & (part[i] > high)
        for word in range(len(words)):
            if words[word]:  # most have none
                for i in range(8 * word, min(8 * word + 8, len(part))):
                    between[count], places[count] = part[i], at + start + i  # else overwritten
                    count += inside[i]
    return count


@jit
def fill_where(mask, values, other, chosen):
    """The values where the mask is, else the other, (n,) each; a number is the other."""
    for i in range(len(mask)):
        value = values[i]  # read in any case, so that nothing branches
        chosen[i] = value if mask[i] else other


@jit
def fill_where_else(mask, values, others, chosen):
    """The same with (n,) others."""
    for i in range(len(mask)):
        value, other = values[i], others[i]
        chosen[i] = value if mask[i] else other


_LOW = np.uint64(0xFFFFFFFF)


@jit
def rising_bits(bits):
    """A number that rises with the float32 of these bits; 0 and -0 are one."""
    key = bits if bits != np.uint32(0x80000000) else np.uint32(0)
    # All bits turned round if negative, else only the sign.
    return ~key if key & np.uint32(0x80000000) else key | np.uint32(0x80000000)


@jit
def fill_keys(scores, keys):
    """Numbers whose order is that of the scores, equal ones by their places.

    Args:
        scores: (n,) float32, no NaN.
        keys: (n,) uint64, filled: the place in the low half.
    """
    bits = scores.view(np.uint32)
    for i in range(len(bits)):
        keys[i] = (np.uint64(rising_bits(bits[i])) << np.uint64(32)) | np.uint64(i)


STEP = np.uint64(0x9E3779B97F4A7C15)
"""By what each draw of splitmix64 moves its state."""


@jit
def shuffle_ties(keys, start, end, state):
    """Shuffles keys[start:end] by Fisher and Yates with splitmix64; the state afterwards."""
    for i in range(end - 1, start, -1):
        state += STEP
        z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        j = start + np.int64(z % np.uint64(i - start + 1))
        keys[i], keys[j] = keys[j], keys[i]
    return state


@jit
def add_ranks(keys, seed, sums):
    """Adds the position of each score in rising order; ties fall at random.

    Shuffles every run of equal scores with splitmix64.

    Args:
        keys: (n,) uint64, sorted; overwritten.
        seed: uint64, of the ties.
        sums: (n,) int64, added to.
    """
    n, half = len(keys), np.uint64(32)
    state, end = np.uint64(seed), 1
    while end < n:
        if keys[end] >> half == keys[end - 1] >> half:
            start = end - 1
            while end < n and keys[end] >> half == keys[start] >> half:
                end += 1
            state = shuffle_ties(keys, start, end, state)
        end += 1
    for place in range(n):
        sums[keys[place] & _LOW] += place


@jit
def fill_z_scores(values, limit, scores):
    """What `selection.standardise` returns, row by row.

    Args:
        values: (m, n) float32 or float64.
        limit: float64, where the z-scores are clipped.
        scores: (m, n) float64, filled.
    """
    m, n = values.shape
    for row in range(m):
        total, squares = 0.0, 0.0
        for i in range(n):
            total += values[row, i]
        mean = total / n
        for i in range(n):
            squares += (values[row, i] - mean) ** 2
        spread = np.sqrt(squares / n)
        scale = 1 / spread if spread > 1e-6 else 0.0
        for i in range(n):
            scores[row, i] = min(max((values[row, i] - mean) * scale, -limit), limit)


@jit
def fill_z_scores_among(values, among, limit, scores):
    """What `selection.standardise_among` returns, row by row.

    Args:
        values: (m, n) float32 or float64.
        among: (m, n) bool, which of them count.
        limit: float64, where the z-scores are clipped.
        scores: (m, n) float64, filled.
    """
    m, n = values.shape
    for row in range(m):
        # Products, since branches on a random mask would be mispredicted half of the time.
        count, total, squares = 0, 0.0, 0.0
        for i in range(n):
            count += among[row, i]
            total += among[row, i] * values[row, i]
        mean = total / max(1, count)
        for i in range(n):
            squares += among[row, i] * (values[row, i] - mean) ** 2
        spread = np.sqrt(squares / max(1, count))
        scale = 1 / spread if spread > 1e-6 else 0.0
        for i in range(n):
            z = min(max((values[row, i] - mean) * scale, -limit), limit)
            scores[row, i] = among[row, i] * z


_ZERO, _ONE = np.float32(0), np.float32(1)


@jit
def put_values(e, z, label, values, i):
    """Writes what one sample's logits reveal into column i of values (5, V).

    Args:
        e: (C,) float32, the exponentials of the logits minus the largest of them.
        z: (C,) float32, the logits.
        label: the sample's.
        values: (5, V) float32.
        i: which column.
    """
    # The others apart from the label: 1 - p would cancel for confident predictions.
    top, other, others, squares = z[label], -np.float32(np.inf), _ZERO, _ZERO
    for j in range(len(z)):
        if j != label:
            if z[j] > other or np.isnan(z[j]):  # as torch's amax: once NaN, it stays so
                other = z[j]
            others += e[j]
            squares += e[j] * e[j]
    top = max(top, other)
    total = others + e[label]
    values[0, i] = math.log(total) - (z[label] - top)
    values[1, i] = e[label] / total
    values[2, i] = z[label] - other
    values[3, i] = math.sqrt(others * others + squares) / total
    values[4, i] = _ONE if z[label] > other else _ZERO


@jit
def fill_sample_values(logits, labels, values):
    """What `statistics.sample_values` returns, for logits (V, C) and labels (V,), into (5, V)."""
    classes = logits.shape[1]
    e = np.empty(classes, np.float32)
    for i in range(len(logits)):
        z, label = logits[i], labels[i]
        top, other = z[label], -np.float32(np.inf)
        for j in range(classes):
            if j != label:
                other = max(other, z[j])
        top = max(top, other)
        for j in range(classes):
            e[j] = math.exp(z[j] - top)
        put_values(e, z, label, values, i)


@jit
def fill_recorded(values, limits, recorded, total):
    """Sample values as they are recorded: clipped, and wrong where one is not finite.

    Args:
        values: (5, B) float32.
        limits: see `record_values`.
        recorded: (5, B) float32, filled.
        total: float64, the sum of the losses before these.

    Returns:
        The sum with these, as they are.
    """
    max_loss, max_margin, wrong = limits
    for k in range(values.shape[1]):
        loss, confidence, margin = values[0, k], values[1, k], values[2, k]
        distance, right = values[3, k], values[4, k]
        total += loss
        finite = np.isfinite(loss) and np.isfinite(confidence) and np.isfinite(margin)
        if not (finite and np.isfinite(distance) and np.isfinite(right)):
            loss, confidence, margin = wrong[0], wrong[1], wrong[2]
            distance, right = wrong[3], wrong[4]
        recorded[0, k] = min(max(loss, _ZERO), max_loss)
        recorded[1, k] = min(max(confidence, _ZERO), _ONE)
        recorded[2, k] = min(max(margin, -max_margin), max_margin)
        recorded[3, k] = min(max(distance, _ZERO), wrong[3])
        recorded[4, k] = right
    return total


@jit
def put(column, row, ids, values):
    """Writes values (B,) of samples (B,) into a replica's row of a column, if it is kept."""
    if column.size:
        for k in range(len(ids)):
            column[row, ids[k]] = values[k]


@jit
def move_moments(means, variances, scored, row, ids, losses):
    """Moves the averages of samples (B,) by their new losses, as far as they are kept."""
    half = np.float32(0.5)
    if means.size:
        for k in range(len(ids)):
            i = ids[k]
            mean, seen = means[row, i], scored[row, i]
            change = losses[k] - mean
            means[row, i] = mean + half * change if seen else mean + change
            scored[row, i] = True
            if variances.size:
                square = change * change if seen else _ZERO
                variances[row, i] += half * (square - variances[row, i])


@jit
def count_forgotten(forgetting, rights, row, ids, right):
    """Counts the samples (B,) that were predicted correctly and are not any more, if it is kept."""
    if forgetting.size:
        for k in range(len(ids)):
            i = ids[k]
            if rights[row, i] > _ZERO and right[k] == _ZERO:
                forgetting[row, i] += 1


@jit
def count_visits(visits, last_visit, row, ids, epoch):
    """Counts a visit of samples (B,), and notes when it was, as far as it is kept."""
    if visits.size:
        for k in range(len(ids)):
            visits[row, ids[k]] += 1
    if last_visit.size:
        for k in range(len(ids)):
            last_visit[row, ids[k]] = epoch


@jit
def record_values(orders, starts, epoch, values, limits, table, counts, scored, averages):
    """What `SampleStatistics.record` does, replica by replica, and their mean losses.

    What is not kept is (0, 0), of the same type.

    Args:
        orders: (V,) int64, samples of replica after replica, none twice in one.
        starts: (R + 1,) int64, where each replica's begin.
        epoch: (R,) int64, the epoch in which they were trained; -1 if they were only scored.
        values: (5, V) float32, their sample values.
        limits: highest loss and margin, and the values (5,) float32 of a broken prediction.
        table: loss, its mean and variance, confidence, margin, el2n, correct, (R, n) float32 each.
        counts: forgetting, visits and last visit, (R, n) int32 each.
        scored: (R, n) bool.
        averages: (R,) float64, filled with the means of the losses as they are; 0 of none.
    """
    losses, means, variances, confidences, margins, distances, rights = table
    forgetting, visits, last_visit = counts
    recorded = np.empty((5, _BLOCK), np.float32)
    places = orders.view(np.uint64)  # of which no sign is looked at
    for row in range(len(averages)):
        total = 0.0
        for start in range(starts[row], starts[row + 1], _BLOCK):
            end = min(start + _BLOCK, starts[row + 1])
            ids = places[start:end]
            total = fill_recorded(values[:, start:end], limits, recorded, total)
            move_moments(means, variances, scored, row, ids, recorded[0])
            count_forgotten(forgetting, rights, row, ids, recorded[4])
            put(losses, row, ids, recorded[0])
            put(confidences, row, ids, recorded[1])
            put(margins, row, ids, recorded[2])
            put(distances, row, ids, recorded[3])
            put(rights, row, ids, recorded[4])
            if epoch[row] >= 0:
                count_visits(visits, last_visit, row, ids, epoch[row])
        averages[row] = total / max(1, starts[row + 1] - starts[row])
