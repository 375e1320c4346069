"""What all adapters share: the sampler of a loader, and states of all processes in one."""

from __future__ import annotations

import warnings
from typing import Any

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
        ValueError: it has none, or one of another number of samples than the loader's data set.
    """
    sampler = find_sampler(loader)
    if sampler is None:
        raise ValueError(
            "expected DataLoader(Indexed(dataset), batch_size, sampler=a PruningSampler), got a "
            f"{type(loader).__name__} that draws from {getattr(loader, 'sampler', None)!r}"
        )
    same_count(sampler, getattr(loader, "dataset", None))
    return sampler


def same_count(sampler: PruningSampler, dataset: Any) -> None:
    """Checks that the data set has the sampler's samples; one without a length passes.

    Raises:
        ValueError: it is longer or shorter.
    """
    try:
        count = len(dataset)
    except TypeError:  # also of an Indexed around one without a length
        return
    if count != sampler.count:
        raise ValueError(
            f"the sampler is of {sampler.count} samples, the train data set is of {count}"
        )


def warn_of_an_early_end(sampler: PruningSampler, max_epochs: int | None) -> None:
    """Warns if a framework's own limit, where it has one, lies below the sampler's epochs."""
    if max_epochs is not None and 0 <= max_epochs < sampler.epochs:
        warnings.warn(
            f"max_epochs={max_epochs} ends the training before the sampler's {sampler.epochs} "
            "epochs: unless the agent spends faster, the budget is not spent then, and schedules "
            "on its progress stop midway",
            stacklevel=3,
        )


def only_own_shares(sampler: PruningSampler, library: str) -> None:
    """Checks that the sampler deals its selection out itself.

    Raises:
        ValueError: it is no `PruningSampler`, or leaves that to a framework, which here does not
            do it.
    """
    if not isinstance(sampler, PruningSampler):
        raise ValueError(f"the adapter of {library} takes a PruningSampler, got {sampler!r}")
    if sampler.dealt_by != "sampler":
        raise ValueError(f'the adapter of {library} needs shares="sampler", got "framework"')


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
        return {"states": self.sampler.gather_states()}

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


def missing_metric(found: Any, names: dict[str, str | None]) -> str | None:
    """The first name that was asked for and is not there."""
    return next((n for n in names.values() if n is not None and n not in found), None)


def given_metrics(found: Any, names: dict[str, str | None]) -> dict[str, float]:
    """The val values that were asked for by name.

    Raises:
        RuntimeError: one is not there.
    """
    missing = missing_metric(found, names)
    if missing is not None:
        raise RuntimeError(
            f"no {missing!r} was logged in this epoch; there are {', '.join(found) or 'none'}"
        )
    return {key: float(found[name]) for key, name in names.items() if name is not None}
