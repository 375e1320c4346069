"""A split's inputs as batches: resident on a device, or read ahead by workers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from dynprune_env.common.randomness import Purpose, stream_seed
from dynprune_env.common.transfer import send
from dynprune_env.tasks.datasets import DatasetInfo
from dynprune_env.tasks.inputs import Streamed, as_input, drawn, own_generators
from dynprune_env.tasks.recipes import Recipe
from dynprune_env.tasks.variants import Dataset


def normalisation(
    info: DatasetInfo, device: torch.device
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Scale and shift of pixels, (C, 1, 1) float32 each; of features none."""
    if not info.mean:
        return None, None
    kind: Any = {"dtype": torch.float32, "device": device}
    mean = torch.tensor(info.mean, **kind).view(-1, 1, 1)
    std = torch.tensor(info.std, **kind).view(-1, 1, 1)
    return 1 / (255 * std), -mean / std


class InputTable:
    """A split's inputs, resident on a device, ready to be drawn as float batches.

    Args:
        inputs: (n, C, H, W) uint8 pixels, or (n, F) float32 features, which pass unchanged.
        info: gives mean and standard deviation of the pixels.
        crop: the largest offset that `noise` will ask for.
        moments: what `normalisation` gives, where it is at hand.

    Attributes:
        streamed: whether ids are to be on the host, and not on the device.
    """

    streamed = False

    def __init__(
        self,
        inputs: Tensor,
        info: DatasetInfo,
        crop: int = 0,
        moments: tuple[Tensor | None, Tensor | None] | None = None,
    ):
        self.inputs = F.pad(inputs, [crop] * 4) if crop else inputs
        # Every crop of every image as a view, (n, C, 2 crop + 1, 2 crop + 1, H, W).
        self.windows = self.inputs
        if crop:
            height, width = inputs.shape[-2:]
            self.windows = self.inputs.unfold(2, height, 1).unfold(3, width, 1)
        self.crop = crop
        self.scale, self.shift = moments or normalisation(info, inputs.device)

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The inputs as rows on the host, (n, F), and what normalises them, (F,) float32 each.

        An input is raw * scale + shift. For tables without a crop.
        """
        one = torch.zeros(self.inputs.shape[1:], dtype=torch.float32, device="cpu")
        scale = one + (1 if self.scale is None else self.scale)
        shift = one + (0 if self.shift is None else self.shift)
        return (
            self.inputs.flatten(1).numpy(),
            scale.flatten().numpy(),
            shift.flatten().numpy(),
        )

    def batch(self, ids: Tensor, noise: Tensor | None = None) -> Tensor:
        """The inputs of these ids as normalised float32.

        Args:
            ids: any shape (...), int64.
            noise: (..., 3) int64 from `Augmentation.draw`; None for the plain inputs.

        Returns:
            (..., C, H, W) or (..., F) float32.
        """
        if self.crop:
            row, column = (self.crop, self.crop) if noise is None else noise[..., :2].unbind(-1)
            inputs = self.windows[ids, :, row, column]
        else:
            inputs = self.inputs[ids]
        if self.scale is None or self.shift is None:
            return inputs
        inputs = inputs.float().mul_(self.scale).add_(self.shift)
        if noise is None:
            return inputs
        return torch.where(noise[..., 2, None, None, None].bool(), inputs.flip(-1), inputs)

    def batches(
        self, ids: Tensor, size: int | list[int], noise: Tensor | None = None, seed: int = 0
    ) -> Iterator[Tensor]:
        """The inputs of these ids (k,), batch by batch.

        Args:
            ids: (k,) int64.
            size: samples per batch (the last has as many as are left), or of each batch.
            noise: (k, 3) int64; None for the plain inputs.
            seed: of the epoch, for data sets that draw their own transforms; unused here.
        """
        own = repeat(None) if noise is None else noise.split(size)
        for batch, its_noise in zip(ids.split(size), own, strict=False):
            yield self.batch(batch, its_noise)


class StreamTable:
    """Like `InputTable`, for a `Streamed`: the same batches, read ahead by workers.

    A sample's own random transforms draw from a seed of the run, the epoch and the sample (the
    global generators of random, numpy and torch are seeded for it), so that neither the other
    samples nor the number of workers change them. Ids are to be on the host.
    """

    streamed = True

    def __init__(self, inputs: Streamed, info: DatasetInfo, crop: int = 0):
        self.inputs, self.info, self.crop = inputs, info, crop
        self._moments = normalisation(info, inputs.device)
        self._keys = _Keys()
        self._loader: DataLoader[Tensor] = DataLoader(
            _Reader(inputs.dataset, inputs.ids),
            batch_sampler=self._keys,
            num_workers=inputs.workers,
            collate_fn=torch.stack,
            persistent_workers=inputs.workers > 0,
            pin_memory=inputs.device.type in ("cuda", "xpu"),
            generator=torch.Generator("cpu"),  # the default one is the model's
        )

    def batch(self, ids: Tensor, noise: Tensor | None = None) -> Tensor:
        """The inputs of these ids (B,), at once."""
        return next(self.batches(ids, max(1, len(ids)), noise))

    def batches(
        self, ids: Tensor, size: int | list[int], noise: Tensor | None = None, seed: int = 0
    ) -> Iterator[Tensor]:
        """The inputs of these ids (k,), batch by batch; see `InputTable.batches`."""
        self._keys.ids, self._keys.size, self._keys.seed = ids.cpu(), size, seed
        start = 0
        for raw in self._loader:
            raw = send(raw, self.inputs.device)
            table = InputTable(raw, self.info, self.crop, self._moments)
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


class _Reader(TorchDataset[Tensor]):
    """Samples as tensors, each drawn from its own seed."""

    def __init__(self, dataset: Any, ids: np.ndarray):
        self.dataset, self.ids = dataset, ids

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Tensor]:
        with own_generators():
            return [self[key] for key in keys]

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        position, seed = key
        return as_input(drawn(self.dataset, int(self.ids[position]), seed)[0])


def input_tables(dataset: Dataset, recipe: Recipe) -> dict[str, InputTable]:
    """The splits' inputs; only train images are ever augmented."""
    return {
        "train": input_table(dataset.train.inputs, dataset.info, recipe.augmentation.crop),
        "val": input_table(dataset.val.inputs, dataset.info),
        "test": input_table(dataset.test.inputs, dataset.info),
    }


def input_table(inputs: Tensor, info: DatasetInfo, crop: int = 0) -> InputTable:
    """A split's inputs on the device, or a stream of them."""
    if isinstance(inputs, Streamed):
        return cast(InputTable, StreamTable(inputs, info, crop))
    return InputTable(inputs, info, crop)
