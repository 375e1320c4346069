"""To a device in one copy that nobody waits for, and back in one for which the host waits once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

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
    if device.type == "cpu":
        return parts
    sizes = [-(-part.nbytes // _ALIGNED) * _ALIGNED for part in parts]
    pinned = device.type != "mps"  # where host and device share their memory
    staged = torch.empty(sum(sizes), dtype=torch.uint8, device="cpu", pin_memory=pinned)
    for part, place in zip(parts, staged.split(sizes), strict=True):
        _as(part, place).copy_(part)
    there = staged.to(device, non_blocking=pinned)
    return [_as(part, place) for part, place in zip(parts, there.split(sizes), strict=True)]


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
