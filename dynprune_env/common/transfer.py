"""To a device in one copy that nobody waits for, and back in one for which the host waits once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Movable = TypeVar("Movable", Tensor, nn.Module)

_ALIGNED = 16
"""Bytes: where each array begins in a copy, so that it can be read as any type."""


@dataclass
class _Luggage:
    """Arrays that the next `put` to a device takes along, and where their tensors go."""

    arrays: Sequence[np.ndarray]
    device: torch.device
    there: list[Tensor] = field(default_factory=list)


_WAITING: ContextVar[_Luggage | None] = ContextVar("_WAITING", default=None)


def put(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Arrays as tensors on a device; on a CPU they share the arrays' memory.

    All go over in one copy out of pinned memory, where the device has it: the host does not wait.
    What is to go `along` goes in the same.

    Args:
        arrays: of any shapes and types that torch has.
        device: where to.
    """
    if device.type == "cpu" or not arrays:
        return [torch.from_numpy(array) for array in arrays]
    luggage = _WAITING.get()
    if luggage is None or luggage.device != device:
        return _in_one_block(arrays, device)
    _WAITING.set(None)
    there = _in_one_block([*arrays, *luggage.arrays], device)
    luggage.there += there[len(arrays) :]
    return there[: len(arrays)]


def along(
    arrays: Sequence[np.ndarray], device: torch.device
) -> AbstractContextManager[list[Tensor]]:
    """Lets arrays go over in the copy that the first `put` inside makes.

    Where none is made to this device by this thread, they go by themselves in the end.

    Args:
        arrays: as those of `put`.
        device: where to.

    Returns:
        A context that gives a list: their tensors, which it may hold only once the context is left.
    """
    if device.type == "cpu" or not arrays:
        return nullcontext(put(arrays, device))
    return _along(_Luggage(arrays, device))


@contextmanager
def _along(luggage: _Luggage) -> Iterator[list[Tensor]]:
    before = _WAITING.set(luggage)
    try:
        yield luggage.there
    finally:
        _WAITING.reset(before)
    if not luggage.there:
        luggage.there += put(luggage.arrays, luggage.device)


def _in_one_block(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    parts = [torch.from_numpy(array) for array in arrays]
    sizes = [-(-part.nbytes // _ALIGNED) * _ALIGNED for part in parts]
    pinned = _goes_ahead(device)
    staged = torch.empty(sum(sizes), dtype=torch.uint8, device="cpu", pin_memory=pinned)
    for part, place in zip(parts, staged.split(sizes), strict=True):
        _as(part, place).copy_(part)
    there = send(staged, device)
    return [_as(part, place) for part, place in zip(parts, there.split(sizes), strict=True)]


def send(thing: Movable, device: torch.device) -> Movable:
    """A tensor or a module on a device; the host goes on at once where that is safe.

    Args:
        thing: on the host. Its memory may be free as soon as this returns.
        device: where to.
    """
    return thing.to(device, non_blocking=_goes_ahead(device))


def _goes_ahead(device: torch.device) -> bool:
    """Whether a copy that nobody waits for is right whatever becomes of the memory it is from.

    MPS reads memory of the host's when the copy's turn comes. Others take pinned memory, which
    torch keeps until then, and read any other before the host goes on.
    """
    return device.type != "mps"


def _as(part: Tensor, place: Tensor) -> Tensor:
    """Bytes as a tensor of this shape and type."""
    return place[: part.nbytes].view(part.dtype).view(part.shape)


def fetch(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Tensors of one type and device as arrays; the host waits once.

    Args:
        tensors: at least one; on a CPU the arrays share their memory.
    """
    if tensors[0].device.type == "cpu":
        return [tensor.numpy() for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    parts = np.split(flat, ends)
    return [part.reshape(each.shape) for part, each in zip(parts, tensors, strict=True)]
