"""What is told of a run as a whole, and of the classes: the same scale on every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RUN_FEATURES = (
    "progress",
    "budget",
    "visits",
    "unvisited",
    "loss",
    "confidence",
    "correct",
    "above_uniform",
    "val_loss",
    "val_accuracy",
    "gap",
)
"""Per run. progress, budget; log10 of the visits per sample that the budget pays for; the share of
samples never visited; over the visited ones the mean last loss over ln C, confidence and share
predicted correctly, and the share with a loss above that of a uniform prediction; val loss over
ln C, val accuracy, and val accuracy minus the share of visited samples predicted correctly, which
wrong labels make positive."""

LABEL_FEATURES = ("label_share", "label_implausible", "once_right")
"""Per run, over the visited samples whose last prediction was wrong: the mean of their
`label_shares`, the share of them below 0, and of those visited at least three times the share that
was ever predicted correctly. Wrong labels lower the first and the last and raise the second; hard
samples with right labels, such as augmented images, hardly do."""

LABEL_COLUMNS = ("visits", "correct", "confidence", "margin", "forgetting")
"""The columns that these are made from."""


RUN_COLUMNS = ("visits", "loss", "confidence", "correct")
"""The columns that these are made from."""


def quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The numbers that `np.quantile` gives along the last axis (type 7 of Hyndman & Fan 1996).

    It partitions where this sorts, which takes longer.

    Args:
        values: (..., n) float32, none NaN.
        shares: in [0, 1].

    Returns:
        (len(shares), ...) float64.
    """
    ordered = np.sort(values, axis=-1)
    last = values.shape[-1] - 1
    places = last * np.asarray(shares)
    below = places.astype(np.int64)
    rest = places - below
    low, high = ordered[..., below], ordered[..., np.minimum(below + 1, last)]
    step = high - low
    between = np.where(rest < 0.5, low + step * rest, high - step * (1 - rest))
    return np.moveaxis(between, -1, 0)


def class_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean over the samples of the same label, (R, n) float64, from (R, n) each."""
    rows, classes = len(labels), int(labels.max(initial=0)) + 1
    groups = (labels.astype(np.int64) + classes * np.arange(rows)[:, None]).ravel()
    sums = np.bincount(groups, values.ravel(), rows * classes)
    counts = np.bincount(groups, minlength=rows * classes)
    means: np.ndarray = (sums / np.maximum(1, counts))[groups].reshape(labels.shape)
    return means


def run_features(
    columns: Mapping[str, np.ndarray],
    known: Mapping[str, np.ndarray],
    epochs: int | np.ndarray,
    num_classes: int | np.ndarray,
) -> np.ndarray:
    """The entries of RUN_FEATURES, (R, len(RUN_FEATURES)) float32.

    Args:
        columns: those of RUN_COLUMNS, (R, n) each.
        known: the entries of `progress` by name, (R,) each.
        epochs: T, one number or (R,).
        num_classes: C, one number or (R,).
    """
    scale = np.log(np.maximum(2, num_classes))
    nat = scale[..., None]
    visited = columns["visits"] > 0
    seen = np.maximum(1, visited.sum(-1))

    def mean(values: np.ndarray) -> np.ndarray:
        """Over the visited samples; 0 before the first visit."""
        known_mean: np.ndarray = np.where(visited, values, 0).sum(-1) / seen
        return known_mean

    correct = mean(columns["correct"])
    started = visited.any(-1)
    features: np.ndarray = np.stack(
        [
            known["progress"],
            known["budget"],
            np.log10(np.maximum(known["budget"] * epochs, 1e-3)),
            1 - visited.mean(-1),
            mean(np.minimum(columns["loss"] / nat, 4)) - started,
            mean(columns["confidence"]),
            correct,
            mean(columns["loss"] > nat),
            np.minimum(known["val_loss"] / scale, 2) - 1,
            known["val_accuracy"],
            np.where(started, known["val_accuracy"] - correct, 0),
        ],
        axis=-1,
    ).astype(np.float32)
    return features


def label_shares(columns: Mapping[str, np.ndarray], num_classes: int | np.ndarray) -> np.ndarray:
    """The part that a label has in the probability that the best other class leaves, (R, n).

    As ln((C - 1) share) / ln(C - 1), at least -2: 1 where it has all of it, 0 where it has what a
    label drawn at random has on average. A hard sample's label is often the second guess.

    Args:
        columns: `confidence` and `margin`, (R, n) each.
        num_classes: C, one number or (R,).
    """
    others = np.maximum(2, np.asarray(num_classes) - 1)[..., None]
    label = np.maximum(columns["confidence"], 1e-9)
    best_other = np.minimum(label * np.exp(-columns["margin"]), 1 - 1e-6)
    shares: np.ndarray = np.log(others * label / (1 - best_other)) / np.log(others)
    return np.clip(shares, -2, 1)


def label_features(columns: Mapping[str, np.ndarray], num_classes: int | np.ndarray) -> np.ndarray:
    """The entries of LABEL_FEATURES, (R, 3) float32; 0 where there is no such sample.

    Args:
        columns: those of LABEL_COLUMNS, (R, n) each.
        num_classes: C, one number or (R,).
    """
    wrong = (columns["visits"] > 0) & (columns["correct"] == 0)
    often = wrong & (columns["visits"] >= 3)
    shares = label_shares(columns, num_classes)

    def mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.where(where, values, 0).sum(-1) / np.maximum(1, where.sum(-1))
        return found

    features = [
        mean(shares, wrong),
        mean(shares < 0, wrong),
        mean(columns["forgetting"] > 0, often),
    ]
    return np.stack(features, axis=-1).astype(np.float32)
