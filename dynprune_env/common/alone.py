"""The engine computes as if it were alone: whatever its caller has switched in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from dynprune_env.common.randomness import LOCK, kept_generators


@contextmanager
def as_alone(device: torch.device | None = None) -> Iterator[None]:
    """Switches gradients on, and inference mode, autocast and a default device off, meanwhile.

    All of these belong to the thread: no other one notices.

    Args:
        device: where tensors without a device go if the caller has chosen a default device; None
            means the CPU.
    """
    device = device or torch.device("cpu")
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device() not in (device, torch.device("cpu")):
            stack.enter_context(device)
        yield


@contextmanager
def same_again(wanted: bool) -> Iterator[None]:
    """Lets cuDNN take only algorithms that give the same numbers again, if that is wanted.

    The choice is that of the process: other threads that use cuDNN meanwhile do so too.
    """
    before = torch.backends.cudnn.deterministic
    if not wanted or before:
        yield
        return
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


@contextmanager
def float32_default() -> Iterator[None]:
    """Lets tensors without a type be float32, for models whose code names none.

    The default is that of the process: where it is another, other threads see this one meanwhile.
    """
    if _Held.count == 0 and torch.get_default_dtype() is torch.float32:
        yield
        return
    with LOCK:
        if _Held.count == 0:
            _Held.before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _Held.count += 1
    try:
        yield
    finally:
        with LOCK:
            _Held.count -= 1
            if _Held.count == 0:
                torch.set_default_dtype(_Held.before)


class _Held:
    """How many want float32 now, and what was the default before."""

    count = 0
    before = torch.float32


@contextmanager
def building() -> Iterator[None]:
    """For networks that get other weights than their first: `as_alone`, float32, nothing drawn."""
    with as_alone(), float32_default(), kept_generators():
        yield
