"""Inputs that do not fit on the device: read by a DataLoader's workers while others are trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dynprune_env.augment import ImageTable
from dynprune_env.common.randomness import Purpose, stream_seed
from dynprune_env.tasks.datasets import Source
from dynprune_env.tasks.inputs import Streamed, as_input, drawn, own_generators


class StreamTable:
    """Like `ImageTable`, for a `Streamed`: the same batches, read ahead by workers.

    A sample's own random transforms draw from a seed of the run, the epoch and the sample (the
    global generators of random, numpy and torch are seeded for it), so that neither the other
    samples nor the number of workers change them.
    """

    def __init__(self, images: Streamed, source: Source, crop: int = 0):
        self.images, self.source, self.crop = images, source, crop
        self._keys = _Keys()
        self._loader: DataLoader[Tensor] = DataLoader(
            _Reader(images.dataset, images.ids),
            batch_sampler=self._keys,
            num_workers=images.workers,
            collate_fn=torch.stack,
            persistent_workers=images.workers > 0,
            pin_memory=images.device.type == "cuda",
            generator=torch.Generator(),  # the default one is the model's
        )

    def batch(self, ids: Tensor, noise: Tensor | None = None) -> Tensor:
        """The inputs of these ids (B,), at once."""
        return next(self.batches(ids, max(1, len(ids)), noise))

    def batches(
        self, ids: Tensor, size: int | list[int], noise: Tensor | None = None, seed: int = 0
    ) -> Iterator[Tensor]:
        """The inputs of these ids (k,), batch by batch; see `ImageTable.batches`."""
        self._keys.ids, self._keys.size, self._keys.seed = ids.cpu(), size, seed
        start = 0
        for raw in self._loader:
            raw = raw.to(self.images.device, non_blocking=True)
            table = ImageTable(raw, self.source, self.crop)
            own = None if noise is None else noise[start : start + len(raw)]
            start += len(raw)
            yield table.batch(torch.arange(len(raw), device=raw.device), own)


class _Keys:
    """The batches of the pass at hand, as lists of (position, seed)."""

    ids: Tensor
    size: int | list[int]
    seed: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        seed = self.seed
        for chunk in self.ids.split(self.size):
            yield [(i, stream_seed(seed, i, Purpose.AUGMENTATION)) for i in chunk.tolist()]


class _Reader(Dataset[Tensor]):
    """Samples as tensors, each drawn from its own seed."""

    def __init__(self, dataset: Any, ids: np.ndarray):
        self.dataset, self.ids = dataset, ids

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Tensor]:
        with own_generators():
            return [self[key] for key in keys]

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        position, seed = key
        return as_input(drawn(self.dataset, int(self.ids[position]), seed)[0])
