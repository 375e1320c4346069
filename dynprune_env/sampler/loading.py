"""What feeds a loader of one's own: samples with their index, and batches of full size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeGuard

from torch.utils.data import Dataset, Sampler

from dynprune_env.sampler.checks import whole
from dynprune_env.selection.budget import batch_sizes


class Indexed(Dataset[Any]):
    """A map-style data set whose samples come with their index: `(index, dataset[index])`.

    Its other attributes (`classes`, `targets`, `transform`, ...) are the data set's own.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or name.startswith("__"):  # what copying and pickling look for
            raise AttributeError(name)
        return getattr(self.dataset, name)

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

    Its state is that of the sampler, for loaders that save themselves (torchdata's).

    Args:
        sampler: a `PruningSampler`, or any other with a length.
        batch_size: samples per batch; the last may be larger by nearly a half.

    Raises:
        ValueError: batch_size is not positive.
    """

    drop_last = False

    def __init__(self, sampler: Sampler[int], batch_size: int):
        self.sampler = sampler
        self.batch_size = whole("batch_size", batch_size, 1)

    def __iter__(self) -> Iterator[list[int]]:
        """The ids of each batch of this epoch."""
        return _Batches(self)

    def __len__(self) -> int:
        """Batches in this epoch."""
        return len(self.sizes())

    def sizes(self) -> list[int]:
        """Of the batches of this epoch."""
        return batch_sizes(len(self.sampler), self.batch_size)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """That of the sampler, where it has one."""
        return {"sampler": self.sampler.state_dict() if saves_itself(self.sampler) else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Gives the sampler its state.

        Raises:
            ValueError: it does not fit.
        """
        if saves_itself(self.sampler):
            self.sampler.load_state_dict(state["sampler"])


class _Batches(Iterator[list[int]]):
    """One pass over the batches."""

    def __init__(self, batches: WholeBatches):
        self._batches = batches
        self._begin()

    def _begin(self) -> None:
        self._sizes = iter(self._batches.sizes())
        self._ids = iter(self._batches.sampler)
        self._given = 0

    def __next__(self) -> list[int]:
        size = next(self._sizes)
        self._given += 1
        return [*islice(self._ids, size)]

    def state_dict(self) -> dict[str, Any]:
        """How many it has given, and the place of the sampler's iterator, where it tells."""
        place = self._ids.state_dict() if saves_itself(self._ids) else None
        return {"batches": self._given, "place": place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on there."""
        self._begin()
        if saves_itself(self._ids):
            self._ids.load_state_dict(state["place"])
        else:
            for _ in islice(self, state["batches"]):
                pass


def saves_itself(thing: Any) -> TypeGuard[Any]:
    """Whether it has a state to save and load."""
    return hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")
