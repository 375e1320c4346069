"""Loops over small nets and their logits, compiled by numba; the plain torch code is the reference.

A batch of 64 samples through a net of 64 hidden units is microseconds of arithmetic: what costs is
calling an operation at a time. Here one call trains whole passes, and holds no interpreter lock.
"""

from __future__ import annotations

import math

import numpy as np

from dynprune_env.common.jit import jit
from dynprune_env.selection.kernels import _ONE, _ZERO, fill_sample_values, put_values


@jit
def forward(x, sizes, parameters, activations):
    """Fills `activations` layer by layer, (m, units) each in one flat row per layer.

    Args:
        x: (m, F) float32 inputs.
        sizes: (L, 2) int64, inputs and outputs of each layer.
        parameters: (P,) float32, weights (inputs, outputs) and bias of layer after layer.
        activations: (L, length) float32 with length at least m times the widest layer.

    Returns:
        (m, C) float32 logits, a view of the last row of `activations`.
    """
    m, start, h = len(x), 0, x
    for layer in range(len(sizes)):
        inputs, outputs = sizes[layer]
        middle = start + inputs * outputs
        weight = parameters[start:middle].reshape(inputs, outputs)
        bias = parameters[middle : middle + outputs]
        start = middle + outputs
        above = activations[layer, : m * outputs].reshape(m, outputs)
        np.dot(h, weight, above)
        floor = _ZERO if layer < len(sizes) - 1 else -np.float32(np.inf)
        for i in range(m):
            for j in range(outputs):
                value = above[i, j] + bias[j]
                above[i, j] = floor if value < floor else value  # NaN stays NaN
        h = above
    return h


@jit
def gather(raw, ids, scale, shift, x):
    """Fills x (m, F) float32 with the normalised inputs of these ids."""
    for i in range(len(ids)):
        sample = raw[ids[i]]
        for j in range(len(sample)):
            x[i, j] = np.float32(sample[j]) * scale[j] + shift[j]


@jit
def loss_slope(logits, labels, weights, smoothing, slope, values):
    """Fills slope (m, C) with the gradient of the weighted mean cross-entropy.

    What the logits reveal of the samples goes into values (5, m).
    """
    m, classes = logits.shape
    share = smoothing / np.float32(classes)
    for i in range(m):
        top = logits[i, 0]
        for j in range(1, classes):
            top = max(top, logits[i, j])
        total = _ZERO
        for j in range(classes):
            slope[i, j] = math.exp(logits[i, j] - top)
            total += slope[i, j]
        put_values(slope[i], logits[i], labels[i], values, i)
        gain = weights[i] / np.float32(m)
        for j in range(classes):
            slope[i, j] = (slope[i, j] / total - share) * gain
        slope[i, labels[i]] -= (_ONE - smoothing) * gain


@jit
def backward(x, sizes, parameters, activations, slopes, update):
    """Fills update (P,) with the gradient of all parameters, from the slope of the logits.

    `slopes` holds two flat rows; layer l reads row (l + 1) % 2 and writes row l % 2.
    """
    m, start = len(x), len(parameters)
    for layer in range(len(sizes) - 1, -1, -1):
        inputs, outputs = sizes[layer]
        middle = start - outputs
        start = middle - inputs * outputs
        slope = slopes[(layer + 1) % 2, : m * outputs].reshape(m, outputs)
        h = x
        if layer > 0:
            h = activations[layer - 1, : m * inputs].reshape(m, inputs)
        np.dot(h.T, slope, update[start:middle].reshape(inputs, outputs))
        update[middle : middle + outputs] = _ZERO
        for i in range(m):
            for j in range(outputs):
                update[middle + j] += slope[i, j]
        if layer > 0:
            lower = slopes[layer % 2, : m * inputs].reshape(m, inputs)
            np.dot(slope, parameters[start:middle].reshape(inputs, outputs).T, lower)
            for i in range(m):
                for j in range(inputs):
                    if not h[i, j] > _ZERO:
                        lower[i, j] = _ZERO


@jit
def descend(parameters, velocity, update, rate, momentum, decay):
    """A step with Nesterov momentum and weight decay, as `torch.optim.SGD` makes it."""
    for k in range(len(parameters)):
        gradient = update[k] + decay * parameters[k]
        velocity[k] = momentum * velocity[k] + gradient
        parameters[k] -= rate * (gradient + momentum * velocity[k])


@jit
def train_passes(rows, data, passes, recipe, sizes, parameters, velocities, averages, seen):
    """The hot loop: one pass over the kept samples of each of these replicas, in place.

    Args:
        rows: (m,) int64, which replicas.
        data: raw inputs (n, F) float32 or uint8, their scale and shift (F,) float32, labels
            (n,) int64.
        passes: of replica after replica: order (V,) int64, gradient weights (V,) float32, where
            each begins in them (R + 1,) int64; rates of its batches float32, where they begin.
        recipe: batch size; momentum, weight decay, label smoothing, and how far an average moves
            towards its model after each step (0: there are no averages), float32.
        sizes: (L, 2) int64, inputs and outputs of each layer.
        parameters: (R, P) float32, changed in place.
        velocities: (R, P) float32, the momenta, likewise.
        averages: (R, P) float32, likewise.
        seen: (5, V) float32, takes the sample values of every visit.
    """
    raw, scale, shift, labels = data
    order, weights, starts, rates, rate_starts = passes
    batch_size, momentum, decay, smoothing, step = recipe
    largest = batch_size + batch_size // 2  # of the last batch; see `batch_sizes`
    length = largest * np.max(sizes[:, 1])
    inputs = np.empty((largest, raw.shape[1]), np.float32)
    activations = np.empty((len(sizes), length), np.float32)
    slopes = np.empty((2, length), np.float32)
    update = np.empty(parameters.shape[1], np.float32)
    for row in rows:
        begin, own, velocity = starts[row], parameters[row], velocities[row]
        for batch in range(rate_starts[row], rate_starts[row + 1]):
            last, rate = batch + 1 == rate_starts[row + 1], rates[batch]
            end = starts[row + 1] if last else begin + batch_size
            ids, m = order[begin:end], end - begin
            x = inputs[:m]
            gather(raw, ids, scale, shift, x)
            logits = forward(x, sizes, own, activations)
            slope = slopes[len(sizes) % 2, : logits.size].reshape(logits.shape)
            given = weights[begin:end]
            loss_slope(logits, labels[ids], given, smoothing, slope, seen[:, begin:end])
            backward(x, sizes, own, activations, slopes, update)
            descend(own, velocity, update, rate, momentum, decay)
            if step > _ZERO:
                average = averages[row]
                for k in range(len(own)):
                    average[k] += step * (own[k] - average[k])
            begin = end


@jit
def score_rows(rows, table, ids, sizes, parameters, logits):
    """Logits of these samples under each of these replicas.

    Args:
        rows: (m,) int64, which of the replicas; row i fills logits[i].
        table: raw inputs (n, F), their scale and shift (F,) float32.
        ids: (k,) int64.
        sizes: (L, 2) int64, inputs and outputs of each layer.
        parameters: (R, P) float32.
        logits: (m, k, C) float32, filled.
    """
    raw, scale, shift = table
    size = 256
    activations = np.empty((len(sizes), size * np.max(sizes[:, 1])), np.float32)
    inputs = np.empty((size, raw.shape[1]), np.float32)
    for begin in range(0, len(ids), size):
        chunk = ids[begin : begin + size]
        x = inputs[: len(chunk)]
        gather(raw, chunk, scale, shift, x)
        for i in range(len(rows)):
            found = forward(x, sizes, parameters[rows[i]], activations)
            logits[i, begin : begin + size] = found


@jit
def evaluate_rows(rows, table, labels, sizes, parameters, values):
    """Loss and correctness of all samples of a table under each of these replicas.

    Args:
        rows: (m,) int64, which of the replicas; row i fills values[i].
        table: raw inputs (k, F), their scale and shift (F,) float32.
        labels: (k,) int64.
        sizes: (L, 2) int64, inputs and outputs of each layer.
        parameters: (R, P) float32.
        values: (m, 2, k) float32, filled.
    """
    raw, scale, shift = table
    size = 256
    activations = np.empty((len(sizes), size * np.max(sizes[:, 1])), np.float32)
    inputs = np.empty((size, raw.shape[1]), np.float32)
    found = np.empty((5, size), np.float32)
    for begin in range(0, len(raw), size):
        end = min(begin + size, len(raw))
        x = inputs[: end - begin]
        gather(raw, np.arange(begin, end), scale, shift, x)
        for i in range(len(rows)):
            logits = forward(x, sizes, parameters[rows[i]], activations)
            fill_sample_values(logits, labels[begin:end], found)
            values[i, 0, begin:end] = found[0, : end - begin]
            values[i, 1, begin:end] = found[4, : end - begin]
