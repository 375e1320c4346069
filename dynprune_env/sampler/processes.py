"""One selection, several processes: who trains which share, and what they tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist

from dynprune_env.common.specs import lookup
from dynprune_env.sampler.checks import check_metric, whole
from dynprune_env.sampler.handed_out import AGAIN, check_share, check_together, some
from dynprune_env.selection.statistics import SampleValues

DEALT_BY = ("sampler", "framework")
"""Who deals a selection out to processes."""


class Message(NamedTuple):
    """What one process tells the others at the end of an epoch.

    Attributes:
        selection: what identifies the selection that it holds.
        ids: (V,) int64, the samples it recorded.
        values: (5, V) float32, their `SampleValues`.
        largest_batch: that it recorded so far.
        val_loss: nats, or None; a text is what was given and is no number.
        val_accuracy: in [0, 1], or None; likewise.
    """

    selection: tuple[Any, ...]
    ids: np.ndarray
    values: np.ndarray
    largest_batch: int
    val_loss: float | str | None
    val_accuracy: float | str | None


class Epoch(NamedTuple):
    """What all processes recorded in an epoch.

    Attributes:
        ids: (V,) int64, sorted, each sample once.
        values: of these.
        largest_batch: of all.
        val_loss: mean of those given, nats; None if none was.
        val_accuracy: likewise, in [0, 1].
    """

    ids: np.ndarray
    values: SampleValues
    largest_batch: int
    val_loss: float | None
    val_accuracy: float | None


@dataclass(frozen=True)
class Ranks:
    """How many processes train together, and which of them this is.

    Attributes:
        number: W, at least 1.
        own: in [0, W).
        drop_last: whether an uneven rest is dropped, rather than filled up by repetition.
        dealt_by: who deals the shares out, "sampler" or "framework": then each gets the whole.
    """

    number: int
    own: int
    drop_last: bool
    dealt_by: str = "sampler"

    @staticmethod
    def find(
        number: int | None, own: int | None, drop_last: bool, dealt_by: str = "sampler"
    ) -> Ranks:
        """These numbers where they are given, else those of torch.distributed, else one process.

        Raises:
            ValueError: they do not fit each other or the processes that run.
        """
        running = dist.is_available() and dist.is_initialized()
        number = (dist.get_world_size() if running else 1) if number is None else number
        own = (dist.get_rank() if running else 0) if own is None else own
        number, own = whole("num_replicas", number, 1), whole("rank", own, 0)
        lookup(dealt_by, dict.fromkeys(DEALT_BY), "shares")
        ranks = Ranks(number, own, bool(drop_last), dealt_by)
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
        The whole order where a framework deals it out.
        """
        if self.dealt_by == "framework":
            return order
        if self.drop_last:
            order = order[: len(order) - len(order) % self.number]
        else:
            order = np.resize(order, -(-len(order) // self.number) * self.number)
        return order[self.own if rank is None else rank :: self.number]

    def most(self, order: np.ndarray, batch: int) -> int:
        """How many records of one process are no mistake, given the size of a batch."""
        filled = batch if self.dealt_by == "framework" and self.number > 1 else 0
        return len(self.share(order)) + filled

    def fair_share(self, count: int) -> int:
        """How many of `count` samples one process trains."""
        if self.dealt_by == "framework":
            return -(-count // self.number)
        return len(self.share(np.arange(count)))

    def gather(self, value: Any) -> list[Any]:
        """What each process gave, by rank: a collective call."""
        if self.number == 1:
            return [value]
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value)
        return values

    def exchange(self, own: Message, order: np.ndarray, on_shortfall: str = "error") -> Epoch:
        """The records of all processes, each sample once; a collective call.

        Checked after the exchange, so that all processes raise, and none waits for another.

        Args:
            own: of this process.
            order: (k,) int64, the samples that the epoch handed out.
            on_shortfall: "error" or "warn", where much less was recorded than was handed out.

        Raises:
            RuntimeError: the processes hold different selections, or what was recorded is not
                what was handed out.
            ValueError: a loss or a val value is not finite, or the processes are too many or few.
        """
        self.check()
        messages: list[Message] = self.gather(own)
        if any(each.selection != own.selection for each in messages):
            raise RuntimeError(
                "the processes hold different selections: give each sampler the same labels, "
                f"agent and seed, got {[each.selection for each in messages]}"
            )
        largest_batch = max(each.largest_batch for each in messages)
        recorded = [each.ids for each in messages]
        if self.dealt_by == "framework" and self.number > 1:
            check_together(recorded, order, largest_batch, on_shortfall)
        else:
            for rank, ids in enumerate(recorded):
                check_share(ids, self.share(order, rank), largest_batch, on_shortfall)
        # A sample that fills up the shares was trained twice; its first record counts.
        ids, first = np.unique(np.concatenate(recorded), return_index=True)
        values = SampleValues(*np.concatenate([each.values for each in messages], 1)[:, first])
        broken = ids[~np.isfinite(values.loss)]
        if len(broken):
            raise ValueError(
                f"the losses of {len(broken)} samples are not finite ({some(broken)}): the "
                f"training has diverged; {AGAIN}"
            )
        val_loss = _mean("val_loss", [each.val_loss for each in messages])
        val_accuracy = _mean("val_accuracy", [each.val_accuracy for each in messages])
        return Epoch(ids, values, largest_batch, val_loss, val_accuracy)


def _mean(name: str, values: list[float | str | None]) -> float | None:
    given = []
    for value in values:
        if value is not None:
            check_metric(name, value)
            given.append(float(value))
    return float(np.mean(given)) if given else None
