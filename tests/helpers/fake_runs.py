"""Scoring runs whose observations and predictions are made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dynprune_env.selection.statistics import SampleValues


class FakeRuns:
    """Run i shows row t of the columns `runs[i]` after epoch t.

    Args:
        *runs: columns by name, (T, ..., n) each.
        checkpoints: of each run, columns by name under the model after epoch t, (T, ..., n).
        probabilities: of each run, the predictions of the model after epoch t, (T, ..., n, C).
    """

    def __init__(
        self,
        *runs: dict[str, Any],
        checkpoints: Sequence[dict[str, Any]] = (),
        probabilities: Sequence[np.ndarray] = (),
    ):
        self.runs = [{name: np.float32(rows) for name, rows in run.items()} for run in runs]
        self.checkpoints, self.given = checkpoints, probabilities
        self.epochs, *_, self.num_samples = next(iter(self.runs[0].values())).shape
        self.asked: list[tuple[int, int]] = []

    def run(self, index: int, epochs: int) -> Iterator[dict[str, np.ndarray]]:
        """See `ScoringRuns.run`."""
        assert epochs <= self.epochs
        self.asked.append((index, epochs))
        for epoch in range(epochs):
            self.now = index, epoch
            yield {name: rows[epoch] for name, rows in self.runs[index].items()}

    def values(self) -> SampleValues:
        """See `ScoringRuns.values`: zeros for what was not given."""
        index, epoch = self.now
        columns = self.checkpoints[index]
        shape = np.shape(next(iter(columns.values())))[1:]
        return SampleValues(
            *(
                np.float32(columns[name][epoch]) if name in columns else np.zeros(shape)
                for name in SampleValues._fields
            )
        )

    def probabilities(self) -> np.ndarray:
        """See `ScoringRuns.probabilities`."""
        index, epoch = self.now
        return np.float32(self.given[index][epoch])
