"""What all adapters share: the sampler of a loader, and states of all processes in one."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from dynprune_env.sampler.sampler import PruningSampler


def find_sampler(loader: Any) -> PruningSampler | None:
    """The `PruningSampler` that a loader draws from, itself or through its batches."""
    batches = getattr(loader, "batch_sampler", None)
    for place in (getattr(loader, "sampler", None), getattr(batches, "sampler", None), batches):
        if isinstance(place, PruningSampler):
            return place
    return None


def sampler_of(loader: Any) -> PruningSampler:
    """The same.

    Raises:
        ValueError: it has none.
    """
    sampler = find_sampler(loader)
    if sampler is None:
        raise ValueError(
            "expected DataLoader(Indexed(dataset), batch_size, sampler=a PruningSampler), got a "
            f"{type(loader).__name__} that draws from {getattr(loader, 'sampler', None)!r}"
        )
    return sampler


def only_own_shares(sampler: PruningSampler, library: str) -> None:
    """Checks that the sampler deals its selection out itself.

    Raises:
        ValueError: it leaves that to a framework, which here does not do it.
    """
    if sampler.dealt_by != "sampler":
        raise ValueError(f'the adapter of {library} needs shares="sampler", got "framework"')


def gather_states(sampler: PruningSampler) -> list[Any]:
    """The states of all processes by rank: a collective call."""
    own = sampler.state_dict()
    if sampler.num_replicas == 1:
        return [own]
    states: list[Any] = [None] * sampler.num_replicas
    dist.all_gather_object(states, own)
    return states


def load_own(sampler: PruningSampler, states: list[Any]) -> None:
    """Goes on from this process's state; from the first one's if the number of processes changed.

    Raises:
        ValueError: it does not fit; after another number of processes only between two epochs.
    """
    same = len(states) == sampler.num_replicas
    sampler.load_state_dict(states[sampler.rank if same else 0])


class SamplerStates:
    """A sampler under the two methods that checkpoints use, with the states of all processes.

    Args:
        sampler: whose states.
    """

    def __init__(self, sampler: PruningSampler):
        self.sampler = sampler

    def state_dict(self) -> dict[str, Any]:
        """Of all processes: a collective call."""
        return {"states": gather_states(self.sampler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from this process's.

        Raises:
            ValueError: see `load_own`.
        """
        load_own(self.sampler, state["states"])


def record_output(sampler: PruningSampler, indices: Any, output: Any) -> bool:
    """Records what a training step returned; tells whether it had anything to record.

    Args:
        sampler: of the run.
        indices: (B,) of the batch.
        output: a dict with "logits" (B, C) or "losses" (B,), and "indices" where the batch has none
    """
    if not isinstance(output, dict):
        return False
    logits, losses = output.get("logits"), output.get("losses")
    if logits is None and losses is None:
        return False
    ids = output.get("indices", indices)
    if losses is not None:
        sampler.record(ids, losses=losses)
    else:
        sampler.record(ids, logits)
    return True


def batch_indices(batch: Any) -> Any:
    """The first part of a batch of `Indexed`."""
    return batch[0] if isinstance(batch, list | tuple) and batch else None


def given_metrics(found: Any, names: dict[str, str | None]) -> dict[str, float]:
    """The val values that were asked for by name.

    Raises:
        RuntimeError: one is not there.
    """
    missing = [name for name in names.values() if name is not None and name not in found]
    if missing:
        raise RuntimeError(
            f"no {missing[0]!r} was logged in this epoch; there are {', '.join(found) or 'none'}"
        )
    return {key: float(found[name]) for key, name in names.items() if name is not None}
