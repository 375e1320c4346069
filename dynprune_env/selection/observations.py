"""What an agent sees: per-sample columns, or a vector whose length does not depend on n."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from dynprune_env.selection.budget import VisitBudget
from dynprune_env.selection.features import (
    LABEL_COLUMNS,
    LABEL_FEATURES,
    RUN_COLUMNS,
    RUN_FEATURES,
    label_features,
    quantiles,
    run_features,
)
from dynprune_env.selection.rewards import Metrics
from dynprune_env.selection.statistics import MAX_LOSS, SampleStatistics, own_copies

PROGRESS = ("progress", "epoch", "spent", "budget", "val_loss", "val_accuracy", "train_loss")
"""Entries of the `progress` vector: progress, epoch / T, share of the budget spent, the budget
itself, val loss (nats), val accuracy, mean loss of the last epoch's visits (nats)."""

_PROGRESS_HIGH = np.array([1, 1, 1, 1, MAX_LOSS, 1, MAX_LOSS], dtype=np.float32)


TASK_SIZE = "task_size"
"""Key of (T, C), the epochs and the classes, in observations of kind `samples`."""

MOST = np.float32(1e6)
"""No run has as many epochs, no task as many classes."""


def progress_vector(budget: VisitBudget, metrics: Metrics) -> np.ndarray:
    """The entries of PROGRESS for R runs, (R, len(PROGRESS)) float32."""
    entries = np.empty((len(budget.epoch), len(PROGRESS)), dtype=np.float32)
    entries[:, 0] = budget.progress
    entries[:, 1] = budget.epoch / budget.epochs
    entries[:, 2] = budget.spent
    entries[:, 3] = budget.share
    entries[:, 4], entries[:, 5], entries[:, 6] = metrics.observed
    return entries


def progress_entries(progress: np.ndarray) -> dict[str, np.ndarray]:
    """Views of a progress vector (..., 7) by the names of PROGRESS, (...) each."""
    return {name: progress[..., place] for place, name in enumerate(PROGRESS)}


def row_of(observations: Any, row: int = 0) -> Any:
    """One replica's observation, without the replica axis; views."""
    if isinstance(observations, dict):
        return {name: value[row] for name, value in observations.items()}
    return observations[row]


def with_replica_axis(observation: Any) -> Any:
    """One replica's observation as R = 1 of them, and R of them as they are, (R, ...); views."""
    if isinstance(observation, dict):
        return {name: np.atleast_2d(value) for name, value in observation.items()}
    return np.atleast_2d(observation)


@dataclass(frozen=True)
class TaskSize:
    """What a space must know: n samples, T epochs, C classes, and the columns to observe."""

    num_samples: int
    epochs: int
    num_classes: int
    columns: tuple[str, ...] = SampleStatistics.COLUMNS


class Observation(Protocol):
    """Declares a space and fills it for R replicas."""

    def __init__(self, shape: TaskSize): ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that `observe` asks for."""

    def space(self) -> spaces.Space[Any]:
        """The space of one replica's observation."""

    def observe(self, columns: Mapping[str, np.ndarray], progress: np.ndarray) -> Any:
        """Batched observations.

        Args:
            columns: (R, n) float32 each; what cannot be written to is lent, the rest may be kept.
            progress: (R, len(PROGRESS)) float32.
        """


class Samples:
    """A Dict of (n,) columns, those of `shape.columns`, and of `progress` and `task_size`."""

    def __init__(self, shape: TaskSize):
        self.shape = shape
        self.reads = shape.columns

    def space(self) -> spaces.Dict:
        """One bounded float32 Box per column, and of `progress` and `task_size`."""
        shape = self.shape
        boxes: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(
                *SampleStatistics.bounds(name, shape.epochs, shape.num_classes),
                (shape.num_samples,),
                np.float32,
            )
            for name in self.reads
        }
        boxes["progress"] = spaces.Box(np.zeros_like(_PROGRESS_HIGH), _PROGRESS_HIGH)
        # From 0: libraries fill with zeros where there is no observation.
        boxes[TASK_SIZE] = spaces.Box(0, MOST, (2,), np.float32)
        return spaces.Dict(boxes)

    def observe(
        self, columns: Mapping[str, np.ndarray], progress: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Each column (R, n), progress (R, 7), task_size (R, 2)."""
        size = np.empty((len(progress), 2), dtype=np.float32)
        size[:] = self.shape.epochs, self.shape.num_classes
        return {**own_copies(columns, self.reads), "progress": progress, TASK_SIZE: size}


class Summary:
    """A vector of fixed length whatever n: `progress`, then five robust moments of each column.

    For loss, loss_mean, √loss_var (all three over ln C), confidence, margin / 10, EL2N, age / T,
    visits / T and forgetting / T: median, interquartile range, and the asymmetry of the 10 %, 50 %
    and 90 % quantiles in [-1, 1] (Hinkley 1975), followed by the shares of samples predicted
    correctly and never visited.
    """

    COLUMNS = (*SampleStatistics.COLUMNS[:6], "age", "visits", "forgetting")
    reads = (*COLUMNS, "correct")
    NAMES = (
        *PROGRESS,
        *(f"{name}_{moment}" for name in COLUMNS for moment in ("median", "spread", "asymmetry")),
        "share_correct",
        "share_unvisited",
    )
    SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
    LIMIT = 10.0

    def __init__(self, shape: TaskSize):
        self.shape = shape
        per_nat = 1 / np.log(max(2, shape.num_classes))
        self.scale = {
            "loss": per_nat,
            "loss_mean": per_nat,
            "loss_var": per_nat,
            "margin": 0.1,
            "age": 1 / shape.epochs,
            "visits": 1 / shape.epochs,
            "forgetting": 1 / shape.epochs,
        }

    def space(self) -> spaces.Box:
        """A bounded float32 Box of shape (len(NAMES),)."""
        return spaces.Box(-self.LIMIT, self.LIMIT, (len(self.NAMES),), np.float32)

    def observe(self, columns: Mapping[str, np.ndarray], progress: np.ndarray) -> np.ndarray:
        """(R, len(NAMES)) float32."""
        progress = progress.copy()
        progress[:, _PROGRESS_HIGH > 1] /= np.log(max(2, self.shape.num_classes))
        parts = [progress]
        for name in self.COLUMNS:
            column = columns[name] * np.float32(self.scale.get(name, 1))
            if name == "loss_var":
                column = np.sqrt(columns[name]) * np.float32(self.scale[name])
            low, first, median, third, high = quantiles(column, self.SHARES)
            width = high - low
            asymmetry = (high + low - 2 * median) / np.where(width > 0, width, 1)
            parts.append(np.stack([median, third - first, asymmetry], axis=1))
        parts.append(columns["correct"].mean(-1, keepdims=True))
        parts.append((columns["visits"] == 0).mean(-1, keepdims=True))
        return np.concatenate(parts, axis=1).clip(-self.LIMIT, self.LIMIT).astype(np.float32)


class Run:
    """A short vector whatever n: a one, and RUN_FEATURES. The fast observation.

    Bounded, on the same scale for every task, and few enough for a small policy to learn from.
    """

    NAMES: tuple[str, ...] = ("one", *RUN_FEATURES)
    LIMIT = 10.0
    reads: tuple[str, ...] = RUN_COLUMNS

    def __init__(self, shape: TaskSize):
        self.shape = shape

    def space(self) -> spaces.Box:
        """A bounded float32 Box of shape (len(NAMES),)."""
        return spaces.Box(-self.LIMIT, self.LIMIT, (len(self.NAMES),), np.float32)

    def observe(self, columns: Mapping[str, np.ndarray], progress: np.ndarray) -> np.ndarray:
        """(R, 12) float32."""
        known = progress_entries(progress)
        features = run_features(columns, known, self.shape.epochs, self.shape.num_classes)
        one = np.ones((len(features), 1), dtype=np.float32)
        return np.concatenate([one, features], axis=1).clip(-self.LIMIT, self.LIMIT)


class Diagnostics(Run):
    """`Run`, and LABEL_FEATURES: what tells wrong labels from samples that are merely hard."""

    NAMES = (*Run.NAMES, *LABEL_FEATURES)
    reads = tuple(dict.fromkeys((*RUN_COLUMNS, *LABEL_COLUMNS)))

    def observe(self, columns: Mapping[str, np.ndarray], progress: np.ndarray) -> np.ndarray:
        """(R, 15) float32."""
        of_labels = label_features(columns, self.shape.num_classes)
        return np.concatenate([super().observe(columns, progress), of_labels], axis=1)


OBSERVATIONS: dict[str, type[Observation]] = {
    "samples": Samples,
    "summary": Summary,
    "run": Run,
    "diagnostics": Diagnostics,
}
