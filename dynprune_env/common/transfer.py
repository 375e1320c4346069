"""To a device in one copy that nobody waits for, and back in one for which the host waits once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Movable = TypeVar("Movable", Tensor, nn.Module)

_ALIGNED = 16
"""Bytes: where each array begins in a copy, so that it can be read as any type."""


def put(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Arrays as tensors on a device; on a CPU they share the arrays' memory.

    All go over in one copy out of pinned memory, where the device has it: the host does not wait.

    Args:
        arrays: of any shapes and types that torch has.
        device: where to.
    """
    parts = [torch.from_numpy(array) for array in arrays]
    if device.type == "cpu" or not parts:
        return parts
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
