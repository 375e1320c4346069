"""What a `DistributedSampler` is to loaders and frameworks: shares, lengths, places within them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from dynprune_env.sampler.processes import Ranks


class SharedSampler(DistributedSampler[int]):
    """Hands out a share of an order; frameworks leave it alone, since it is one of their own kind.

    A subclass sets `_ranks`, `_share` (what this process is handed in this epoch) and `_done`
    (what of it was recorded before a resume), and has `epoch`.
    """

    _ranks: Ranks
    _share: np.ndarray
    _done: np.ndarray
    shuffle = True
    """As torch's attribute: every epoch has an order of its own."""

    def __init__(self) -> None:  # torch's would ask for a data set
        pass

    def __iter__(self) -> Iterator[int]:
        """This process's share of the kept samples; after a resume, of those not yet recorded."""
        return Places(self)

    def __len__(self) -> int:
        """How many `iter` gives."""
        return len(self._left())

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: `select` ends an epoch, and nothing else. Frameworks call it."""

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        """How many processes share a selection."""
        return self._ranks.number

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Which of them this is."""
        return self._ranks.own

    @property
    def drop_last(self) -> bool:  # type: ignore[override]
        """Whether samples that do not fill all shares alike are dropped."""
        return self._ranks.drop_last

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """How many `iter` gives, under torch's name."""
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Over all processes, under torch's name."""
        return len(self) * (self._ranks.number if self._ranks.dealt_by == "sampler" else 1)

    def _left(self) -> np.ndarray:
        return self._share[~np.isin(self._share, self._done)] if len(self._done) else self._share


class Places(Iterator[int]):
    """Walks over what is left of a share.

    Its state is small: loaders that save themselves (torchdata's) ask for it at every batch.
    """

    def __init__(self, sampler: SharedSampler):
        self._sampler = sampler
        self._begin()

    def _begin(self) -> None:
        self._ids = iter(self._sampler._left().tolist())
        self._epoch: int = self._sampler.epoch
        self._handed_out = len(self._sampler._done)

    def __iter__(self) -> Places:
        return self

    def __next__(self) -> int:
        index = next(self._ids)
        self._handed_out += 1
        return index

    def state_dict(self) -> dict[str, int]:
        """Which epoch it walks over, and how far it is."""
        return {"epoch": self._epoch, "handed_out": self._handed_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begins with what the sampler has left: that is the same place, or it is refused.

        Raises:
            ValueError: the sampler stands elsewhere, so that samples would be trained twice.
        """
        self._begin()
        then = state["epoch"], state["handed_out"]
        if self._epoch != then[0] or self._handed_out < then[1]:
            raise ValueError(
                f"the loader's state is of epoch {then[0]} with {then[1]} samples handed out, the "
                f"sampler's of epoch {self._epoch} with {self._handed_out} recorded (workers fetch "
                "ahead): load sampler.state_dict() alone, and go on with a new loader"
            )
