"""Small nets on a CPU, trained replica by replica in compiled loops, several threads at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.threads import allowed_threads
from dynprune_env.training.kernels import evaluate_rows, score_rows, train_passes
from dynprune_env.training.learner import Passes
from dynprune_env.training.stacked_learner import StackedLearner


class NumbaLearner(StackedLearner):
    """The same nets and numbers as StackedLearner's (to rounding), several times faster on a CPU.

    A replica's numbers do not depend on its company, nor on the number of threads. The recipe must
    have no augmentation.

    Attributes:
        threads: that the replicas are dealt out to, as many as torch was allowed.
    """

    kind = "numba"

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.threads = allowed_threads()
        self._sizes = np.array(self.sizes, dtype=np.int64)
        self._labels = self.labels.numpy()
        self._all = np.arange(len(self.parameters))
        self._tables = {name: table.rows() for name, table in self.inputs.items()}
        recipe, averaging = self.recipe, self.averaging
        self._constants = (
            recipe.batch_size,
            np.float32(recipe.momentum),
            np.float32(recipe.weight_decay),
            np.float32(recipe.label_smoothing),
            np.float32(0 if averaging is None else 1 - averaging),
        )

    def train(self, passes: Passes) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        seen = np.empty((5, len(passes.order)), dtype=np.float32)
        rates = passes.rates.astype(np.float32)
        arguments = (
            (*self._tables["train"], self._labels),
            (passes.order, passes.weights, passes.starts, rates, passes.rate_starts),
            self._constants,
            self._sizes,
            self.parameters.numpy(),
            self.momentum.numpy(),
            self.averages.numpy(),
            seen,
        )
        self._share(train_passes, [(part, *arguments) for part in self._dealt(passes)])
        return torch.from_numpy(seen)

    def _dealt(self, passes: Passes) -> list[np.ndarray]:
        """Which replicas each thread trains, from the longest pass on: about the same work."""
        if self.threads == 1:
            return [self._all]
        longest_first = np.argsort(-np.diff(passes.starts), kind="stable")
        parts = [longest_first[start :: self.threads] for start in range(self.threads)]
        return [part for part in parts if len(part)]

    def score(self, split: str, ids: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits; see `Learner.score`."""
        logits = np.empty((len(rows), len(ids), self.sizes[-1][1]), dtype=np.float32)
        arguments = (self._tables[split], ids.numpy(), self._sizes, self.parameters.numpy())
        chosen = np.array(rows, dtype=np.int64)
        parts = self._parts(len(rows))
        self._share(score_rows, [(chosen[part], *arguments, logits[part]) for part in parts])
        return torch.from_numpy(logits)

    def evaluate(self, split: str, labels: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Learner.evaluate`."""
        known = labels.numpy()
        values = np.empty((len(rows), 2, len(known)), dtype=np.float32)
        arguments = (self._tables[split], known, self._sizes, self.parameters.numpy())
        chosen = np.array(rows, dtype=np.int64)
        parts = self._parts(len(rows))
        self._share(evaluate_rows, [(chosen[part], *arguments, values[part]) for part in parts])
        return torch.from_numpy(values.transpose(1, 0, 2))

    def _parts(self, count: int) -> list[slice]:
        """One for each thread."""
        if self.threads == 1:
            return [slice(0, count)]
        bounds = np.linspace(0, count, self.threads + 1).astype(int)
        return [slice(low, high) for low, high in pairwise(bounds) if low < high]

    def _share(self, kernel: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
        """Makes the calls, one in each thread."""
        if len(calls) == 1:
            kernel(*calls[0])
        elif calls:
            with ThreadPoolExecutor(len(calls)) as raw:
                list(raw.map(lambda call: kernel(*call), calls))
