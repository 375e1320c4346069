"""What feeds a loader of one's own: samples with their index, and batches of full size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import Dataset, Sampler

from dynprune_env.sampler.checks import whole
from dynprune_env.selection.budget import batch_sizes


class Indexed(Dataset[Any]):
    """A map-style data set whose samples come with their index: `(index, dataset[index])`."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]

    def __getitems__(self, indices: list[int]) -> list[tuple[int, Any]]:
        """A whole batch, at once where the data set can."""
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = fetch(indices) if fetch else [self.dataset[index] for index in indices]
        return list(zip(indices, samples, strict=True))


class WholeBatches(Sampler[list[int]]):
    """Cuts the visits of a sampler as the environment does, for `DataLoader(batch_sampler=...)`.

    Args:
        sampler: a `PruningSampler`, or any other with a length.
        batch_size: samples per batch; the last may be larger by nearly a half.

    Raises:
        ValueError: batch_size is not positive.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int):
        self.sampler = sampler
        self.batch_size = whole("batch_size", batch_size, 1)

    def __iter__(self) -> Iterator[list[int]]:
        """The ids of each batch of this epoch."""
        ids = iter(self.sampler)
        for size in self._sizes():
            yield list(islice(ids, size))

    def __len__(self) -> int:
        """Batches in this epoch."""
        return len(self._sizes())

    def _sizes(self) -> list[int]:
        return batch_sizes(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
