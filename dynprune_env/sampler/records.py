"""What a training loop tells of its forward passes, kept on the device until the epoch's end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynprune_env.sampler.checks import as_indices, as_tensor, check_range
from dynprune_env.selection.statistics import from_losses, plain_sample_values, sample_values

PENDING = 1 << 22
"""Numbers kept as they came, before they are turned into five values a sample on their device."""


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
        self._values: list[Tensor] = [torch.empty(5, 0, dtype=torch.float32, device="cpu")]

    def __len__(self) -> int:
        return self._count

    def checked(self, indices: Any, logits: Any, losses: Any) -> tuple[Tensor, Tensor]:
        """A batch as tensors: ids (B,) int64, and logits (B, C) or losses (B,).

        See `PruningSampler.record`.

        Raises:
            ValueError: it is none.
        """
        if (logits is None) == (losses is None):
            raise ValueError("record takes either logits or losses=..., one of the two")
        ids = as_indices(indices, len(self.labels))
        if ids.dim() != 1:
            raise ValueError(
                f"indices are (B,) integers, got {tuple(ids.shape)} {ids.dtype}: "
                "Indexed(dataset) gives them"
            )
        name = "logits" if losses is None else "losses"
        given = as_tensor(name, logits if losses is None else losses)
        if given.dtype == torch.bool or given.is_complex():
            raise ValueError(f"{name} are real numbers, got {given.dtype}")
        if losses is not None and given.shape != ids.shape:
            raise ValueError(
                f"losses have one value per sample, {tuple(ids.shape)} as the indices, got "
                f'{tuple(given.shape)}: use reduction="none", and record before averaging'
            )
        if losses is None:
            self._check_logits(given, len(ids))
        return ids, given

    def _check_logits(self, logits: Tensor, count: int) -> None:
        if not self.has_labels:
            raise ValueError("logits need labels: give the sampler labels, or record losses")
        if logits.dim() != 2 or len(logits) != count:
            raise ValueError(
                f"logits are (B, C) for B = {count} indices, got {tuple(logits.shape)}"
            )
        if logits.shape[1] != self.num_classes:
            raise ValueError(
                f"logits have a column for each of {self.num_classes} classes, "
                f"got {logits.shape[1]}: num_classes= of the sampler says how many there are"
            )

    def add(self, ids: Tensor, given: Tensor) -> None:
        """Appends a batch that was `checked`."""
        # Copies: a captured graph, for one, writes its next output to the same place.
        self._raw.append((ids.clone(), given.clone()))
        self._count += len(ids)
        self._pending += given.numel()
        if self._pending > PENDING:
            self._digest()

    def _digest(self) -> None:
        """Turns what is pending into values, batches of one shape together."""
        raw, self._raw, self._pending = self._raw, [], 0
        for scored in (True, False):  # logits, losses
            batches = [(ids, given) for ids, given in raw if (given.dim() == 2) == scored]
            if not batches:
                continue
            ids = torch.cat([ids for ids, _ in batches]).cpu().numpy().astype(np.int64)
            check_range(ids, len(self.labels))
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
