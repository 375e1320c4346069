"""What a learned policy sees of each sample, and of the run: the same scale on every task."""

from __future__ import annotations

import numpy as np

from dynprune_env.selection.features import RUN_FEATURES as RUN_FEATURES
from dynprune_env.selection.features import class_means, run_features
from dynprune_env.selection.observations import TASK_SIZE as TASK_SIZE
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import standardise

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
    nat = np.log(np.maximum(2, num_classes))[..., None]
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
    return samples, run_features(columns, known, epochs, num_classes)
