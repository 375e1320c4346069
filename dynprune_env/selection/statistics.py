"""What training revealed about each sample: one table of (R, n) columns, kept on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.jit import HAS_NUMBA

MAX_LOSS = 20.0
"""Losses are clipped here, in nats: the probability of the true class is then 2e-9."""

MAX_MARGIN = 50.0
"""Margins are clipped to ± this, in logits."""


SMOOTHING = 0.5
"""Weight of the newest loss in `loss_mean` and `loss_var`."""


class SampleValues(NamedTuple):
    """The per-sample values that a forward pass reveals, (V,) float32 each.

    Attributes:
        loss: cross-entropy, nats.
        confidence: probability of the label, in [0, 1].
        margin: the label's logit minus the largest other (Pleiss et al. 2020).
        el2n: distance of the softmax from the one-hot label (Paul et al. 2021).
        correct: whether the prediction was right, 0 or 1.
    """

    loss: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray
    el2n: np.ndarray
    correct: np.ndarray


def sample_values(logits: Tensor, labels: Tensor) -> SampleValues:
    """What one forward pass reveals of each sample.

    Args:
        logits: (V, C) float32.
        labels: (V,) int64.

    Returns:
        Values on the host, not finite where the logits are not.
    """
    return SampleValues(*value_table(logits, labels).cpu().numpy())


def value_table(logits: Tensor, labels: Tensor) -> Tensor:
    """The same where the logits are: (5, V) float32, in the order of the fields."""
    if HAS_NUMBA and logits.device.type == "cpu":
        from dynprune_env.selection.kernels import fill_sample_values  # slow to import

        values = np.empty((5, len(logits)), dtype=np.float32)
        fill_sample_values(logits.numpy(), labels.numpy(), values)
        return torch.from_numpy(values)
    return plain_sample_values(logits, labels)


def plain_sample_values(logits: Tensor, labels: Tensor) -> Tensor:
    """The same as torch operations, for any device."""
    log_p = torch.log_softmax(logits, dim=1)
    loss = -log_p.gather(1, labels[:, None])[:, 0]
    p = log_p.exp()
    confidence = p.gather(1, labels[:, None])[:, 0]
    # Not from the sum of p², which cancels for confident predictions.
    el2n = p.scatter_add(1, labels[:, None], -torch.ones_like(loss)[:, None]).norm(dim=1)
    others = logits.scatter(1, labels[:, None], -math.inf).amax(1)
    margin = logits.gather(1, labels[:, None])[:, 0] - others
    return torch.stack([loss, confidence, margin, el2n, (margin > 0).float()])


def from_losses(losses: Tensor, num_classes: int) -> Tensor:
    """The values that `sample_values` would give, as far as cross-entropies determine them.

    Confidence is exp(-loss). The rest assumes that all other classes are equally probable for
    EL2N, and that there are only two for the margin, ln(p / (1 - p)): exact for C = 2, else the
    least that it can be. So correct means a confidence above one half.

    Args:
        losses: (V,) in nats; a loss that is no cross-entropy is read as if it were.
        num_classes: C.

    Returns:
        (5, V) float32, in the order of the fields of `SampleValues`.
    """
    losses = losses.float()
    p = torch.exp(-losses).clamp(max=1.0)
    limit = math.exp(-MAX_MARGIN)  # finite at p = 1
    margin = torch.log(p + limit) - torch.log(1 - p + limit)
    el2n = (1 - p) * math.sqrt(1 + 1 / max(1, num_classes - 1))
    return torch.stack([losses, p, margin, el2n, (p > 0.5).float()])


_WRONG = np.array([MAX_LOSS, 0, -MAX_MARGIN, math.sqrt(2), 0], dtype=np.float32)
"""The values of an entirely wrong prediction."""

_LIMITS = np.float32(MAX_LOSS), np.float32(MAX_MARGIN), _WRONG


def finite_values(values: SampleValues) -> SampleValues:
    """The same, (V,) float32 each; a prediction that is not finite counts as entirely wrong."""
    broken = ~np.isfinite(values).all(0)
    return SampleValues(*np.where(broken, _WRONG[:, None], values))


@cache
def _record_values() -> Callable[..., None]:
    from dynprune_env.selection.kernels import record_values  # slow to import

    return record_values


def own_copies(lent: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns that may be kept and written into: copies of those that are for reading only."""
    if isinstance(lent, _LentColumns):
        return lent.copies()
    return {name: c if c.flags.writeable else c.copy() for name, c in lent.items()}


class SampleStatistics:
    """The table that observations are made from. Only visited samples are re-scored.

    Columns, each (R, n); unvisited samples carry the values of a uniform prediction. What loss,
    confidence, margin, el2n and correct are where a sample has no class, `Objective` says; C is
    then 2 and every label 0.

    | column | meaning | range |
    |---|---|---|
    | loss | last cross-entropy, nats | [0, 20] |
    | loss_mean | exponential moving average of the loss (weight 0.5 for the newest) | [0, 20] |
    | loss_var | moving average of (loss - loss_mean before the update)² | [0, 400] |
    | confidence | last probability of the label | [0, 1] |
    | margin | last logit of the label minus the largest other | [-50, 50] |
    | el2n | last distance between softmax and one-hot label | [0, √2] |
    | correct | whether the last prediction was right | {0, 1} |
    | forgetting | times a right prediction was followed by a wrong one | [0, T] |
    | visits | times the sample was trained | [0, T] |
    | age | epochs since it was last trained; since the start if never | [0, T] |
    | label | its (possibly redrawn) label | [0, C - 1] |
    """

    COLUMNS = (
        "loss",
        "loss_mean",
        "loss_var",
        "confidence",
        "margin",
        "el2n",
        "correct",
        "forgetting",
        "visits",
        "age",
        "label",
    )

    def __init__(
        self,
        num_replicas: int,
        labels: np.ndarray,
        num_classes: int,
        start: Mapping[str, float] | None = None,
    ):
        shape = (num_replicas, len(labels))
        uniform = {
            "loss": math.log(num_classes),
            "confidence": 1 / num_classes,
            "el2n": math.sqrt(1 - 1 / num_classes),
        }
        self._start = dict(uniform if start is None else start)
        self._start["loss_mean"] = self._start["loss"]
        self.labels = _read_only(np.array(labels))  # a copy: they may be the caller's
        self.num_classes = num_classes
        self._table = {
            name: np.empty(
                shape, dtype=np.int32 if name in ("forgetting", "visits") else np.float32
            )
            for name in self.COLUMNS[:9]
        }
        self._last_visit = np.empty(shape, dtype=np.int32)
        self._scored = np.empty(shape, dtype=bool)
        self.reset(np.arange(num_replicas))

    @staticmethod
    def bounds(name: str, epochs: int, num_classes: int) -> tuple[float, float]:
        """Lowest and highest value of a column in a run of T = `epochs`."""
        return {
            "loss": (0.0, MAX_LOSS),
            "loss_mean": (0.0, MAX_LOSS),
            "loss_var": (0.0, MAX_LOSS**2),
            "confidence": (0.0, 1.0),
            "margin": (-MAX_MARGIN, MAX_MARGIN),
            "el2n": (0.0, math.sqrt(2)),
            "correct": (0.0, 1.0),
            "forgetting": (0.0, float(epochs)),
            "visits": (0.0, float(epochs)),
            "age": (0.0, float(epochs)),
            "label": (0.0, float(num_classes - 1)),
        }[name]

    def reset(self, rows: np.ndarray) -> None:
        """Forgets everything about these replicas."""
        for name, column in self._table.items():
            column[rows] = self._start.get(name, 0)
        self._last_visit[rows] = 0
        self._scored[rows] = False

    def record_rows(
        self, ids: np.ndarray, starts: np.ndarray, table: np.ndarray, epoch: np.ndarray | None
    ) -> np.ndarray:
        """Writes what one epoch revealed, replica by replica; see `record`.

        Args:
            ids: (V,) int64, samples of replica after replica, none twice in one.
            starts: (R + 1,) int64, where each replica's begin, and the end.
            table: (5, V) float32, their `value_table`.
            epoch: (R,) int64, in which epoch of each they were trained; None if only scored.

        Returns:
            (R,) float64, the means of the losses as they are, 0 where there is none; not finite
            where one is not.
        """
        replicas = len(starts) - 1
        if not HAS_NUMBA:
            rows = np.repeat(np.arange(replicas), np.diff(starts))
            trained = None if epoch is None else epoch[rows]
            self.record(rows * len(self.labels) + ids, SampleValues(*table), trained)
            sums = np.bincount(rows, weights=table[0], minlength=replicas)
            return sums / np.maximum(np.diff(starts), 1)
        means = np.empty(replicas)
        columns = tuple(self._table.values())
        _record_values()(
            ids,
            starts,
            np.full(replicas, -1) if epoch is None else epoch,
            np.ascontiguousarray(table),
            _LIMITS,
            columns[:7],
            columns[7:],
            self._last_visit,
            self._scored,
            means,
        )
        return means

    def record(self, where: np.ndarray, values: SampleValues, epoch: np.ndarray | None) -> None:
        """Writes what one epoch revealed.

        Args:
            where: (V,) int64, flat positions r * n + i, none twice.
            values: of each of these.
            epoch: (V,) the epoch (from 1) in which each was trained; None if it was only scored.
        """
        table = {name: column.reshape(-1) for name, column in self._table.items()}
        loss, confidence, margin, el2n, correct = finite_values(values)
        loss = np.clip(loss, 0, MAX_LOSS)
        scored = self._scored.reshape(-1)
        seen = scored[where]
        scored[where] = True
        mean = table["loss_mean"][where]
        deviation = np.where(seen, (loss - mean) ** 2, 0)
        weight = np.where(seen, np.float32(SMOOTHING), np.float32(1))
        table["loss_mean"][where] = mean + weight * (loss - mean)
        variance = table["loss_var"][where]
        table["loss_var"][where] = variance + SMOOTHING * (deviation - variance)
        table["forgetting"][where] += (table["correct"][where] > 0) & (correct == 0)
        table["loss"][where] = loss
        table["confidence"][where] = np.clip(confidence, 0, 1)
        table["margin"][where] = np.clip(margin, -MAX_MARGIN, MAX_MARGIN)
        table["el2n"][where] = np.clip(el2n, 0, math.sqrt(2))
        table["correct"][where] = correct
        if epoch is not None:
            table["visits"][where] += 1
            self._last_visit.reshape(-1)[where] = epoch

    @property
    def loss(self) -> np.ndarray:
        """The last losses, (R, n) float32: the table itself, for reading only."""
        return _read_only(self._table["loss"])

    @property
    def visits(self) -> np.ndarray:
        """How often each sample was trained, (R, n) int32: the table itself, for reading only."""
        return _read_only(self._table["visits"])

    def columns(self, epoch: np.ndarray) -> dict[str, np.ndarray]:
        """Fresh copies of all columns after `epoch` (R,) epochs, each (R, n) float32."""
        found = {name: column.astype(np.float32) for name, column in self._table.items()}
        return {**found, "age": self._age(epoch), "label": self._float_labels()}

    def lend(self, epoch: np.ndarray) -> Mapping[str, np.ndarray]:
        """The same columns, each made when it is first asked for.

        Those that lie in the table as float32 are the table itself, for reading only, and as it
        is until the next `record`.
        """
        return _LentColumns(self, epoch)

    def _lent(self, name: str, epoch: np.ndarray) -> np.ndarray:
        if name == "age":
            return self._age(epoch)
        if name == "label":
            return self._float_labels()
        column = self._table[name]
        return _read_only(column) if column.dtype == np.float32 else column.astype(np.float32)

    def _age(self, epoch: np.ndarray) -> np.ndarray:
        # In float32, where whole numbers up to 2^24 are exact: an array of int64 takes longer.
        return epoch[:, None].astype(np.float32) - self._last_visit.astype(np.float32)

    def _float_labels(self) -> np.ndarray:
        labels = np.empty(self._last_visit.shape, dtype=np.float32)
        labels[...] = self.labels
        return labels

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        state = {name: torch.from_numpy(column.copy()) for name, column in self._table.items()}
        state["last_visit"] = torch.from_numpy(self._last_visit.copy())
        state["scored"] = torch.from_numpy(self._scored.copy())
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes what `state` gave."""
        for name, column in self._table.items():
            column[...] = state[name].numpy()
        self._last_visit[...] = state["last_visit"].numpy()
        self._scored[...] = state["scored"].numpy()


class _LentColumns(Mapping[str, np.ndarray]):
    """Columns of a table by name, each made at its first use."""

    def __init__(self, statistics: SampleStatistics, epoch: np.ndarray):
        self._statistics, self._epoch = statistics, epoch
        self._made: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._made:
            self._made[name] = self._statistics._lent(name, self._epoch)
        return self._made[name]

    def copies(self) -> dict[str, np.ndarray]:
        """All of them, to be kept and written into."""
        return self._statistics.columns(self._epoch)

    def __iter__(self) -> Iterator[str]:
        return iter(SampleStatistics.COLUMNS)

    def __len__(self) -> int:
        return len(SampleStatistics.COLUMNS)


def _read_only(table: np.ndarray) -> np.ndarray:
    view = table.view()
    view.flags.writeable = False
    return view
