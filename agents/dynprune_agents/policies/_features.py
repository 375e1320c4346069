"""What a learned policy sees of each sample, and of the run: the same scale on every task."""

from __future__ import annotations

import numpy as np

from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import standardise

TASK_SIZE = "task_size"
"""Key that is added to observations of kind `samples`: (T, C), the epochs and the classes."""

TASK_SIZE_KEYS = (TASK_SIZE, "game")
"""All keys that it ever had: policies trained before 0.2 know the last one."""

SAMPLE_FEATURES = (
    "z_loss",
    "z_loss_mean",
    "z_loss_deviation",
    "z_confidence",
    "z_age",
    "z_visits",
    "loss_mean",
    "confidence",
    "correct",
    "forgetting",
    "unvisited",
    "z_margin",
    "z_class_loss",
    "z_loss_in_class",
)
"""Per sample. z_: clipped z-scores over the samples of the run; the others as they are, scaled into
about [-1, 1]: loss_mean over ln C minus 1 (0 is a uniform prediction), confidence, whether the last
prediction was right, forgetting events, whether it was never visited. class_loss is the mean
loss_mean of the samples with the same label, loss_in_class what loss_mean exceeds it by: early in a
run some classes are known and others are not, and a high loss says nothing of a label yet."""

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


def class_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean over the samples of the same label, (R, n) float64, from (R, n) each."""
    rows, classes = len(labels), int(labels.max(initial=0)) + 1
    groups = (labels.astype(np.int64) + classes * np.arange(rows)[:, None]).ravel()
    sums = np.bincount(groups, values.ravel(), rows * classes)
    counts = np.bincount(groups, minlength=rows * classes)
    means: np.ndarray = (sums / np.maximum(1, counts))[groups].reshape(labels.shape)
    return means


def sample_features(
    observation: dict[str, np.ndarray], epochs: int | np.ndarray, num_classes: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features from an observation of kind `samples`.

    Args:
        observation: columns (R, n) and `progress` (R, 7).
        epochs: T, one number or (R,).
        num_classes: C, one number or (R,).

    Returns:
        (R, n, len(SAMPLE_FEATURES)) and (R, len(RUN_FEATURES)), float32.
    """
    columns = observation
    scale = np.log(np.maximum(2, num_classes))
    nat = scale[..., None]
    visited = columns["visits"] > 0
    relative = np.minimum(columns["loss_mean"] / nat, 4)
    class_loss = class_means(columns["loss_mean"], columns["label"])
    samples = np.stack(
        [
            standardise(columns["loss"]),
            standardise(columns["loss_mean"]),
            standardise(np.sqrt(columns["loss_var"])),
            standardise(columns["confidence"]),
            standardise(columns["age"]),
            standardise(columns["visits"]),
            relative - 1,
            2 * columns["confidence"] - 1,
            2 * columns["correct"] - 1,
            np.minimum(columns["forgetting"], 3) / 3,
            ~visited,
            standardise(columns["margin"]),
            standardise(class_loss),
            standardise(columns["loss_mean"] - class_loss),
        ],
        axis=-1,
    ).astype(np.float32)

    known = progress_entries(columns["progress"])
    seen = np.maximum(1, visited.sum(-1))

    def mean(values: np.ndarray) -> np.ndarray:
        """Over the visited samples; 0 before the first visit."""
        known_mean: np.ndarray = np.where(visited, values, 0).sum(-1) / seen
        return known_mean

    correct = mean(columns["correct"])
    started = visited.any(-1)
    run = np.stack(
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
    return samples, run
