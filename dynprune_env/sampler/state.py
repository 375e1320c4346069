"""The state of a sampler: plain values, checked as a whole before anything is taken from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynprune_env.common.plain import Packer, PlainDigest, Unpacker, plain_hash


@dataclass(frozen=True)
class SamplerState:
    """Where a run stands, in the middle of an epoch or between two.

    Attributes:
        epoch, visits: (1,) int64, epochs done and samples trained in them.
        order: (k,) int64, the samples that this epoch hands out, over all processes.
        weights: (n,) float32, their gradient weights.
        ids, values: (V,) int64 and (5, V) float32, what this process has recorded of them.
        metrics: (3, 1) float64, the last val loss, val accuracy and train loss.
        action: what the agent chose.
        largest_batch: that was recorded so far.
        statistics: tensors, see `SampleStatistics.state`.
        ranks: how many processes share the run, which of them this is, whether a rest is dropped,
            and who deals the shares out.
        agent: see `pack_agent`.
    """

    epoch: np.ndarray
    visits: np.ndarray
    order: np.ndarray
    weights: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    metrics: np.ndarray
    action: np.ndarray
    largest_batch: int
    statistics: dict[str, Tensor]
    ranks: list[Any]
    agent: dict[str, Any]

    FIXED = ("epoch", "visits", "order", "weights", "metrics")
    GROWING = ("ids", "values")


class EpochParts:
    """What of a state stays the same throughout an epoch: packed and hashed once.

    Args:
        settings: of the sampler.
        arrays: those of `SamplerState.FIXED`, copied.
        parts: ranks, statistics, the action as an array, and the agent, as `SamplerState` has them.
    """

    def __init__(
        self, settings: dict[str, Any], arrays: dict[str, np.ndarray], parts: dict[str, Any]
    ):
        action = Packer().pack(parts["action"], "the action")
        self._parts = {"settings": dict(settings), **parts, "action": action}
        self._arrays = {name: torch.from_numpy(arrays[name].copy()) for name in SamplerState.FIXED}
        self._digest: PlainDigest | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_digest": None}  # a digest can neither be copied nor pickled

    def as_dict(self, ids: np.ndarray, values: np.ndarray, largest_batch: int) -> dict[str, Any]:
        """The state as numbers, strings, lists, dicts and tensors around the arrays given."""
        found = {"ids": torch.from_numpy(ids), "values": torch.from_numpy(values)}
        digest = self._hashed().copy()
        for pair in (*found.items(), ("largest_batch", largest_batch)):
            digest.add(pair)
        return {
            **_copied(self._parts),
            "arrays": {**self._arrays, **found},
            "largest_batch": largest_batch,
            "hash": digest.text(),
        }

    def _hashed(self) -> PlainDigest:
        """As `plain_hash` would begin: the order is that of `as_dict`, what grows comes last."""
        if self._digest is None:
            self._digest = PlainDigest()
            self._digest.begin(dict, len(self._parts) + 2)
            for pair in self._parts.items():
                self._digest.add(pair)
            self._digest.begin(tuple, 2)
            self._digest.add("arrays")
            self._digest.begin(dict, len(self._arrays) + len(SamplerState.GROWING))
            for pair in self._arrays.items():
                self._digest.add(pair)
        return self._digest


def _copied(node: Any) -> Any:
    """The same containers anew, around the same tensors."""
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def labels_hash(labels: np.ndarray, known: bool) -> str:
    """Of the labels (n,) int64 in their order; that of no labels is another one."""
    return hashlib.sha256(bytes([known]) + labels.astype("<i8").tobytes()).hexdigest()[:16]


def array_hash(values: np.ndarray) -> str:
    """Of values (n,) in their order."""
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def check_newer(state: SamplerState, epoch: int, order: np.ndarray, ids: np.ndarray) -> None:
    """Checks that a state is no older one of an epoch under way: its visits would be made twice.

    Args:
        state: to be loaded.
        epoch: done so far.
        order: (k,) int64, what the epoch hands out.
        ids: (V,) int64, what was recorded of it.

    Raises:
        ValueError: it holds a part of these records.
    """
    same = int(state.epoch[0]) == epoch and np.array_equal(state.order, order)
    if same and len(state.ids) < len(ids) and np.isin(state.ids, ids).all():
        raise ValueError(
            f"the state is older: it has {len(state.ids)} of the {len(ids)} records of this epoch, "
            "so the rest would be trained twice (as when a loader loads its own copy after the "
            "sampler's state): load the newest alone, or call forget_epoch() first to go back"
        )


def check_settings(state: Any, settings: dict[str, Any], but: frozenset[str]) -> None:
    """Checks that a state is of a run with the same arguments.

    Args:
        state: from `state_dict`.
        settings: of this sampler.
        but: names of those that may differ.

    Raises:
        ValueError: it is of another one, or none at all.
    """
    theirs = state.get("settings") if isinstance(state, Mapping) else None
    if not isinstance(theirs, Mapping) or set(theirs) != set(settings):
        raise ValueError(
            "the state is damaged, or of another version: a state has settings with the keys "
            f"{', '.join(settings)}"
        )
    # By their hashes: a damaged value may be anything, and tensors do not compare as a whole.
    hashes = [{name: plain_hash(each[name]) for name in settings} for each in (theirs, settings)]
    names = [name for name in settings if name not in but and hashes[0][name] != hashes[1][name]]
    if names:
        told = [
            ", ".join(f"{_told(name)} {each[name]}" for name in names)
            for each in (theirs, settings)
        ]
        raise ValueError(f"the state is of a run with {told[0]}, this one has {told[1]}")


def _told(name: str) -> str:
    return f"{name} (a hash of them in their order)" if name in ("labels", "base_weights") else name


def read_state(
    state: Any, num_samples: int, epochs: int, total_visits: int, statistics: dict[str, Tensor]
) -> SamplerState:
    """A state that `SamplerState.as_dict` gave.

    Args:
        state: plain values.
        num_samples: n.
        epochs: T.
        total_visits: that the budget pays for.
        statistics: of this sampler, as a model for their shapes and types.

    Raises:
        ValueError: something is missing or not as it should be.
    """
    try:
        parts = {name: part for name, part in state.items() if name != "hash"}
        if plain_hash(parts) != state["hash"]:
            raise ValueError("its hash is another one")
        names = SamplerState.FIXED + SamplerState.GROWING
        arrays = {name: state["arrays"][name].cpu().numpy().copy() for name in names}
        found = SamplerState(
            **arrays,
            action=Unpacker().unpack(state["action"]),
            largest_batch=state["largest_batch"],
            statistics={name: state["statistics"][name].cpu().clone() for name in statistics},
            ranks=list(state["ranks"]),
            agent=state["agent"],
        )
        for name, model in statistics.items():
            _check(f"statistics.{name}", found.statistics[name], model.shape, model.dtype)
        visited, kept = len(found.ids), len(found.order)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "epoch": ((1,), np.int64),
            "visits": ((1,), np.int64),
            "order": ((kept,), np.int64),
            "weights": ((num_samples,), np.float32),
            "ids": ((visited,), np.int64),
            "values": ((5, visited), np.float32),
            "metrics": ((3, 1), np.float64),
        }
        for name, (shape, dtype) in shapes.items():
            _check(name, getattr(found, name), shape, np.dtype(dtype))
        _check_ranges(found, num_samples, epochs, total_visits)
    except Exception as error:
        missing = "something is missing: " if isinstance(error, LookupError) else ""
        raise ValueError(f"the state is damaged: {missing}{error}") from error
    return found


def _check(name: str, value: Any, shape: Any, dtype: Any) -> None:
    if tuple(value.shape) != tuple(shape) or value.dtype != dtype:
        expected, got = f"{tuple(shape)} {dtype}", f"{tuple(value.shape)} {value.dtype}"
        raise ValueError(f"{name} should be {expected}, got {got}")


def _check_ranges(state: SamplerState, num_samples: int, epochs: int, total_visits: int) -> None:
    places = {"epoch": epochs, "visits": total_visits, "order": num_samples - 1}
    for name, most in {**places, "ids": num_samples - 1}.items():
        values = getattr(state, name)
        if len(values) and not (values.min() >= 0 and values.max() <= most):
            raise ValueError(f"{name} should be in [0, {most}]")
    for name in ("order", "ids"):
        if len(np.unique(getattr(state, name))) != len(getattr(state, name)):
            raise ValueError(f"{name} should name each sample once")
    if not np.isin(state.ids, state.order).all():
        raise ValueError("ids should be among those of order")
    if not np.isfinite(state.weights).all() or (state.weights < 0).any():
        raise ValueError("weights should be finite, and none below 0")
    if not np.isfinite(state.metrics).all():
        raise ValueError("metrics should be finite")
    if type(state.largest_batch) is not int or state.largest_batch < 0:
        raise ValueError(f"largest_batch should be a number, got {state.largest_batch!r}")
    kinds = [type(each) for each in state.ranks]
    if kinds != [int, int, bool, str] or not isinstance(state.action, np.ndarray):
        raise ValueError("ranks should be two numbers, a bool and a text, the action an array")
