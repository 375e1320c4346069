"""What a learned policy sees of each sample, and of the run: the same scale on every task."""

from __future__ import annotations

import numpy as np

from dynprune_env.selection.features import (
    LABEL_FEATURES,
    RUN_FEATURES,
    class_means,
    label_features,
    label_shares,
    run_features,
)
from dynprune_env.selection.observations import TASK_SIZE as TASK_SIZE
from dynprune_env.selection.observations import progress_entries
from dynprune_env.selection.ranking import standardise
from dynprune_env.selection.statistics import SampleStatistics

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
    "margin",
    "deviation",
    "forgetting_rate",
    "label_share",
)
"""Per sample. z_: clipped z-scores over the samples of the run; the others as they are, scaled into
about [-1, 1]: loss_mean over ln C minus 1 (0 is a uniform prediction), confidence, whether the last
prediction was right, forgetting events (up to three, and per visit), whether it was never visited;
margin over 10 and √loss_var over ln C, which tell a confident mistake from a hard sample of a weak
model, and that of `label_shares` for the same end (0 where never visited). class_loss is the mean
loss_mean of the samples with the same label, loss_in_class what loss_mean exceeds it by: early in a
run some classes are known and others are not, and a high loss says nothing of a label yet."""


SAMPLE_COLUMNS = tuple(name for name in SampleStatistics.COLUMNS if name != "el2n")
"""The columns that `sample_features` reads."""


CONTEXT_FEATURES = (*RUN_FEATURES, "recent_gap", "loss_spread", *LABEL_FEATURES)
"""Per run. recent_gap is the gap to what was visited in the last two epochs alone, whose
predictions are not old; loss_spread the standard deviation of loss_mean over ln C among the
visited samples."""


def sample_features(
    observation: dict[str, np.ndarray], epochs: int | np.ndarray, num_classes: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features from an observation of kind `samples`.

    Args:
        observation: columns (R, n) and `progress` (R, 7).
        epochs: T, one number or (R,).
        num_classes: C, one number or (R,).

    Returns:
        (R, n, len(SAMPLE_FEATURES)) and (R, len(CONTEXT_FEATURES)), float32.
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
            np.clip(columns["margin"] / 10, -2, 2),
            np.minimum(np.sqrt(columns["loss_var"]) / nat, 3),
            columns["forgetting"] / np.maximum(columns["visits"], 1),
            np.where(visited, label_shares(columns, num_classes), 0),
        ],
        axis=-1,
    ).astype(np.float32)

    known = progress_entries(columns["progress"])
    run = run_features(columns, known, epochs, num_classes)
    recent = visited & (columns["age"] <= 1)
    mean, square = (_mean(power, visited) for power in (relative, relative**2))
    further = [
        np.where(recent.any(-1), known["val_accuracy"] - _mean(columns["correct"], recent), 0),
        np.sqrt(np.maximum(square - mean**2, 0)),
    ]
    parts = [run, np.stack(further, -1).astype(np.float32), label_features(columns, num_classes)]
    return samples, np.concatenate(parts, axis=1)


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(R,) means over some of the (R, n); 0 where there are none."""
    found: np.ndarray = np.where(where, values, 0).sum(-1) / np.maximum(1, where.sum(-1))
    return found
