"""One selection, several processes: who trains which share, and what they tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """How many processes train together, and which of them this is.

    Attributes:
        number: W, at least 1.
        own: in [0, W).
        drop_last: whether an uneven rest is dropped, rather than filled up by repetition.
    """

    number: int
    own: int
    drop_last: bool

    @staticmethod
    def find(number: int | None, own: int | None, drop_last: bool) -> Ranks:
        """These numbers where they are given, else those of torch.distributed, else one process.

        Raises:
            ValueError: they do not fit each other or the processes that run.
        """
        running = dist.is_available() and dist.is_initialized()
        number = (dist.get_world_size() if running else 1) if number is None else number
        own = (dist.get_rank() if running else 0) if own is None else own
        ranks = Ranks(number, own, drop_last)
        if not 0 <= own < number:
            raise ValueError(f"rank is in [0, num_replicas), got {own} of {number}")
        ranks.check()
        return ranks

    def check(self) -> None:
        """Checks that as many processes run as there are shares.

        Raises:
            ValueError: they do not, so that records could not be exchanged.
        """
        running = dist.is_available() and dist.is_initialized()
        world = dist.get_world_size() if running else 1
        if world != self.number:
            raise ValueError(
                f"the selection is shared by {self.number} processes, but torch.distributed runs "
                f"{world}: make the sampler after init_process_group, with its world size"
            )

    def share(self, order: np.ndarray, rank: int | None = None) -> np.ndarray:
        """One process's part of an order (k,), own by default, as DistributedSampler deals it out.

        All get as many: the first samples are repeated to fill an uneven rest, or it is dropped.
        """
        if self.drop_last:
            order = order[: len(order) - len(order) % self.number]
        else:
            order = np.resize(order, -(-len(order) // self.number) * self.number)
        return order[self.own if rank is None else rank :: self.number]

    def gather(self, value: Any) -> list[Any]:
        """What each process gave, by rank: a collective call."""
        if self.number == 1:
            return [value]
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value)
        return values
