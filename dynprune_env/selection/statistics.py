"""What training revealed about each sample: one table of (R, n) columns, kept on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.checks import shown
from dynprune_env.common.jit import HAS_NUMBA
from dynprune_env.common.specs import lookup

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


def own_copies(lent: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Columns that may be kept and written into: copies of those that are for reading only."""
    if isinstance(lent, _LentColumns):
        return lent.copies(names)
    return {name: lent[name] if lent[name].flags.writeable else lent[name].copy() for name in names}


_ARRAYS: dict[str, type[np.generic]] = {
    "loss": np.float32,
    "loss_mean": np.float32,
    "loss_var": np.float32,
    "confidence": np.float32,
    "margin": np.float32,
    "el2n": np.float32,
    "correct": np.float32,
    "forgetting": np.int32,
    "visits": np.int32,
    "last_visit": np.int32,
    "scored": np.bool_,
}
"""What the table may hold, (R, n) each; in the order of `kernels.record_values`."""

_NOTHING = {name: np.empty((0, 0), dtype) for name, dtype in _ARRAYS.items()}
"""Stands for what it does not hold, where compiled code asks for an array of that type."""

_MADE_FROM = {
    "loss_mean": ("loss_mean", "scored"),
    "loss_var": ("loss_var", "loss_mean", "scored"),
    "forgetting": ("forgetting", "correct"),
    "age": ("last_visit",),
    "label": (),
}
"""From which arrays a column is made and updated, where that is not the one of its name alone."""


def _parts(column: str) -> tuple[str, ...]:
    return _MADE_FROM.get(column, (column,))


class SampleStatistics:
    """The table that observations are made from. Only visited samples are re-scored.

    Args:
        num_replicas: R.
        labels: (n,) whole numbers in [0, C).
        num_classes: C.
        start: what unvisited samples carry, by column; None for a uniform prediction.
        columns: which are wanted: memory is held for these only, and for what they are made from.

    Attributes:
        labels, num_classes: as given.
        shape: (R, n).
        kept: the columns that may be asked for, in the order of COLUMNS: the wanted ones, and those
            that come with them at no cost.
        fields: places in `SampleValues` of what `record_rows` looks at; of the others only whether
            they are finite.

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
        columns: Iterable[str] = COLUMNS,
    ):
        self.shape = (num_replicas, len(labels))
        uniform = {
            "loss": math.log(num_classes),
            "confidence": 1 / num_classes,
            "el2n": math.sqrt(1 - 1 / num_classes),
        }
        self._start = dict(uniform if start is None else start)
        self._start["loss_mean"] = self._start["loss"]
        self.labels = _read_only(np.array(labels))  # a copy: they may be the caller's
        self.num_classes = num_classes
        wanted = {part for name in check_columns(columns) for part in _parts(name)}
        self._table = {
            name: np.empty(self.shape, dtype) for name, dtype in _ARRAYS.items() if name in wanted
        }
        self.kept = tuple(name for name in self.COLUMNS if wanted.issuperset(_parts(name)))
        self._columns = {name: self._table[_parts(name)[0]] for name in self.kept if _parts(name)}
        asked = {"loss", "correct", *self._table}
        self.fields = tuple(i for i, name in enumerate(SampleValues._fields) if name in asked)
        arrays = tuple(self._table.get(name, nothing) for name, nothing in _NOTHING.items())
        self._arrays = arrays[:7], arrays[7:10], arrays[10]
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
        _record_values()(
            ids,
            starts,
            np.full(replicas, -1) if epoch is None else epoch,
            np.ascontiguousarray(table),
            _LIMITS,
            *self._arrays,
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
        if "loss_mean" in table:
            seen, mean = table["scored"][where], table["loss_mean"][where]
            table["scored"][where] = True
            weight = np.where(seen, np.float32(SMOOTHING), np.float32(1))
            table["loss_mean"][where] = mean + weight * (loss - mean)
            if "loss_var" in table:
                deviation = np.where(seen, (loss - mean) ** 2, 0)
                variance = table["loss_var"][where]
                table["loss_var"][where] = variance + SMOOTHING * (deviation - variance)
        if "forgetting" in table:
            table["forgetting"][where] += (table["correct"][where] > 0) & (correct == 0)
        last = {
            "loss": loss,
            "confidence": np.clip(confidence, 0, 1),
            "margin": np.clip(margin, -MAX_MARGIN, MAX_MARGIN),
            "el2n": np.clip(el2n, 0, math.sqrt(2)),
            "correct": correct,
        }
        for name in table.keys() & last.keys():
            table[name][where] = last[name]
        if epoch is not None and "visits" in table:
            table["visits"][where] += 1
        if epoch is not None and "last_visit" in table:
            table["last_visit"][where] = epoch

    @property
    def loss(self) -> np.ndarray:
        """The last losses, (R, n) float32: the table itself, for reading only."""
        return _read_only(self._held("loss"))

    @property
    def visits(self) -> np.ndarray:
        """How often each sample was trained, (R, n) int32: the table itself, for reading only."""
        return _read_only(self._held("visits"))

    def columns(
        self, epoch: np.ndarray, names: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Fresh copies of columns after `epoch` (R,) epochs, each (R, n) float32.

        Args:
            epoch: of each replica.
            names: which; None for all that are kept.

        Raises:
            KeyError: one is not kept; the message says which are.
        """
        return {name: self._fresh(name, epoch) for name in (self.kept if names is None else names)}

    def lend(self, epoch: np.ndarray) -> Mapping[str, np.ndarray]:
        """The columns that are kept, each made when it is first asked for.

        Those that lie in the table as float32 are the table itself, for reading only, and as it
        is until the next `record`.
        """
        return _LentColumns(self, epoch)

    def _lent(self, name: str, epoch: np.ndarray) -> np.ndarray:
        column = self._columns.get(name)
        if column is None or column.dtype != np.float32:
            return self._fresh(name, epoch)
        return _read_only(column)

    def _fresh(self, name: str, epoch: np.ndarray) -> np.ndarray:
        if name == "label":
            labels = np.empty(self.shape, dtype=np.float32)
            labels[...] = self.labels
            return labels
        column = self._held(name).astype(np.float32)
        # In float32, where whole numbers up to 2^24 are exact: an array of int64 takes longer.
        return epoch[:, None].astype(np.float32) - column if name == "age" else column

    def _held(self, name: str) -> np.ndarray:
        """The array of a column; of age, the last visits.

        Raises:
            KeyError: it is not kept.
        """
        if name not in self._columns:
            raise KeyError(
                f"the column {name!r} is not kept, only {', '.join(self.kept)}: the environment's "
                "setting `columns`, or that attribute of an agent, says which are"
            )
        return self._columns[name]

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        return {name: torch.from_numpy(column.copy()) for name, column in self._table.items()}

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Checks that a state holds what is kept here; it may hold more.

        Raises:
            ValueError: it does not.
        """
        missing = [name for name in self._table if name not in state]
        if missing:
            raise ValueError(
                f"the state is of a run that did not keep {', '.join(missing)}: "
                "load it with the `columns` that it was saved with"
            )

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave, of a table that kept as many columns or more.

        Raises:
            ValueError: it kept fewer.
        """
        self.check_state(state)
        for name, column in self._table.items():
            column[...] = state[name].numpy()


class _LentColumns(Mapping[str, np.ndarray]):
    """Columns of a table by name, each made at its first use."""

    def __init__(self, statistics: SampleStatistics, epoch: np.ndarray):
        self._statistics, self._epoch = statistics, epoch
        self._made: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._made:
            self._made[name] = self._statistics._lent(name, self._epoch)
        return self._made[name]

    def copies(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Some of them, to be kept and written into."""
        return self._statistics.columns(self._epoch, names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._statistics.kept)

    def __len__(self) -> int:
        return len(self._statistics.kept)


def check_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Names of columns, each once, in the order of `SampleStatistics.COLUMNS`.

    Raises:
        ValueError: one is no column; the message lists them.
    """
    known = dict.fromkeys(SampleStatistics.COLUMNS)
    given = list(names)
    for name in given:
        lookup(name if isinstance(name, str) else shown(name), known, "column")
    return tuple(name for name in known if name in given)


def _read_only(table: np.ndarray) -> np.ndarray:
    view = table.view()
    view.flags.writeable = False
    return view
