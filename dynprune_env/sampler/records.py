"""What a training loop tells of its forward passes, kept on the device until the epoch's end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dynprune_env.selection.statistics import MAX_MARGIN, plain_sample_values, sample_values

PENDING = 1 << 22
"""Numbers kept as they came, before they are turned into five values a sample on their device."""


def checked_labels(
    labels: Sequence[int] | np.ndarray | Tensor | int, num_classes: int | None
) -> tuple[np.ndarray, int]:
    """The labels as a table, and the number of classes.

    Args:
        labels: (n,) integers in [0, C), or n itself where there are none.
        num_classes: C; None means one more than the largest label, 2 without labels.

    Returns:
        (n,) int64, zeros where there are no labels, and C, at least 2.

    Raises:
        ValueError: they are not as described.
    """
    if isinstance(labels, int):
        labels = np.zeros(labels, dtype=np.int64)
        num_classes = 2 if num_classes is None else num_classes
    table = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if table.ndim != 1 or not len(table) or table.dtype.kind not in "iu":
        raise ValueError(
            f"labels are (n,) integers, or n alone, at least 1, got {table.shape} {table.dtype}"
        )
    classes = int(table.max()) + 1 if num_classes is None else num_classes
    if table.min() < 0 or table.max() >= classes:
        raise ValueError(
            f"labels are in [0, {classes}), got values from {table.min()} to {table.max()}"
        )
    return table.astype(np.int64), max(2, classes)


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


class Records:
    """The records of one epoch: appended without waiting for the device.

    Args:
        labels: (n,) int64.
        num_classes: C.
        has_labels: whether the labels are known, as logits need.
    """

    def __init__(self, labels: np.ndarray, num_classes: int, has_labels: bool):
        self.labels = labels
        self.num_classes = num_classes
        self.has_labels = has_labels
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._count = self._pending = 0
        self._raw: list[tuple[Tensor, Tensor]] = []
        self._ids = [np.empty(0, dtype=np.int64)]
        self._values: list[Tensor] = [torch.empty(5, 0)]

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        indices: Tensor | np.ndarray | Sequence[int],
        logits: Tensor | None,
        losses: Tensor | None,
    ) -> None:
        """Appends a batch; see `PruningSampler.record`."""
        ids = torch.as_tensor(indices)
        if (logits is None) == (losses is None):
            raise ValueError("record takes either logits or losses=..., one of the two")
        given = logits if losses is None else losses
        assert given is not None
        if ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"indices are (B,) integers, got {tuple(ids.shape)} {ids.dtype}: "
                "Indexed(dataset) gives them"
            )
        if losses is not None and losses.shape != ids.shape:
            raise ValueError(
                f"losses have one value per sample, {tuple(ids.shape)} as the indices, got "
                f'{tuple(losses.shape)}: use reduction="none", and record before averaging'
            )
        if logits is not None:
            if not self.has_labels:
                raise ValueError("logits need labels: give the sampler labels, or record losses")
            if logits.dim() != 2 or len(logits) != len(ids):
                raise ValueError(
                    f"logits are (B, C) for B = {len(ids)} indices, got {tuple(logits.shape)}"
                )
            if logits.shape[1] < self.num_classes:
                raise ValueError(
                    f"logits have a column for each of {self.num_classes} classes, "
                    f"got {logits.shape[1]}"
                )
        if ids.device.type == "cpu":  # elsewhere this would wait for the device
            self._check_range(ids.numpy())
        # A copy: a captured graph, for one, writes its next output to the same place.
        self._raw.append((ids, given.detach().clone()))
        self._count += len(ids)
        self._pending += given.numel()
        if self._pending > PENDING:
            self._digest()

    def _check_range(self, ids: np.ndarray) -> None:
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self.labels)):
            worst = ids.max() if ids.min() >= 0 else ids.min()
            raise ValueError(f"indices are in [0, {len(self.labels)}), got {worst}")

    def _digest(self) -> None:
        """Turns what is pending into values, batches of one shape together."""
        raw, self._raw, self._pending = self._raw, [], 0
        for scored in (True, False):  # logits, losses
            batches = [(ids, given) for ids, given in raw if (given.dim() == 2) == scored]
            if not batches:
                continue
            ids = torch.cat([ids for ids, _ in batches]).cpu().numpy().astype(np.int64)
            self._check_range(ids)
            given = torch.cat([given for _, given in batches])
            if scored:
                logits, labels = given.float(), torch.from_numpy(self.labels[ids])
                if logits.device.type == "cpu":  # the very numbers of the environment
                    values = torch.from_numpy(np.stack(sample_values(logits, labels)))
                else:
                    values = plain_sample_values(logits, labels.to(logits.device))
            else:
                values = from_losses(given, self.num_classes)
            self._ids.append(ids)
            self._values.append(values)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Everything so far: indices (V,) int64 and values (5, V) float32."""
        self._digest()
        values = torch.cat([part.cpu() for part in self._values], dim=1)
        return np.concatenate(self._ids), values.numpy()

    def load(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Takes what `arrays` gave."""
        self.clear()
        self._ids.append(ids)
        self._values.append(torch.from_numpy(values))
        self._count = len(ids)
