"""Small nets on a CPU, trained replica by replica in compiled loops, several threads at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.threads import allowed_threads, one_blas_thread
from dynprune_env.training.kernels import evaluate_rows, score_rows, train_passes
from dynprune_env.training.learner import Pass
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
        self._tables = {name: table.rows() for name, table in self.inputs.items()}

    def train(self, passes: Sequence[Pass]) -> Tensor:
        """Trains one pass per replica; see `Learner.train`."""
        recipe = self.recipe
        counts = np.array([len(job.order) for job in passes])
        starts = np.concatenate([[0], counts.cumsum()])
        rate_starts = np.concatenate([[0], np.cumsum([len(job.rates) for job in passes])])
        seen = np.empty((5, starts[-1]), dtype=np.float32)
        arguments = (
            (*self._tables["train"], self._labels),
            (
                np.concatenate([job.order.numpy() for job in passes]),
                np.concatenate([job.weights.numpy() for job in passes]),
                starts,
                np.concatenate([job.rates for job in passes]).astype(np.float32),
                rate_starts,
            ),
            (
                recipe.batch_size,
                np.float32(recipe.momentum),
                np.float32(recipe.weight_decay),
                np.float32(recipe.label_smoothing),
                np.float32(0 if self.averaging is None else 1 - self.averaging),
            ),
            self._sizes,
            self.parameters.numpy(),
            self.momentum.numpy(),
            self.averages.numpy(),
            seen,
        )
        # Dealt out from the longest on, so that all threads get about the same work.
        longest_first = np.argsort(-counts, kind="stable")
        parts = [longest_first[start :: self.threads] for start in range(self.threads)]
        self._share(train_passes, [(part, *arguments) for part in parts if len(part)])
        return torch.from_numpy(seen)

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
        values = np.empty((len(rows), 2, len(labels)), dtype=np.float32)
        arguments = (self._tables[split], labels.numpy(), self._sizes, self.parameters.numpy())
        chosen = np.array(rows, dtype=np.int64)
        parts = self._parts(len(rows))
        self._share(evaluate_rows, [(chosen[part], *arguments, values[part]) for part in parts])
        return torch.from_numpy(values).transpose(0, 1)

    def _parts(self, count: int) -> list[slice]:
        """One for each thread."""
        if self.threads == 1:
            return [slice(0, count)]
        bounds = np.linspace(0, count, self.threads + 1).astype(int)
        return [slice(low, high) for low, high in pairwise(bounds) if low < high]

    def _share(self, kernel: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
        """Makes the calls, one in each thread."""
        with one_blas_thread():  # a product this small is one core's work
            if len(calls) == 1:
                kernel(*calls[0])
            elif calls:
                with ThreadPoolExecutor(len(calls)) as raw:
                    list(raw.map(lambda call: kernel(*call), calls))
